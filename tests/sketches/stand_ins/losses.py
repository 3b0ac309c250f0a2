"""Losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mmflow.plugin import Array, Bank, Bounds, Encoded, Encoder, Field, Labels, Loss, Ref, Refs, Static, Value, default

if TYPE_CHECKING:
    from torch import Tensor

Temperature = Annotated[Value, Bounds(gt=0)]


class ProtoCe(Loss, name="proto_ce"):
    """Cross-entropy of the cosine with prototypes."""

    prototypes: Ref[Bank | Encoded | Static]
    labels: Ref[Labels]
    temperature: Temperature = default(0.1, per_row=True)
    axes = ("copy",)

    def compute(self, x: Tensor, prototypes: Any, labels: Tensor, temperature: Any) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy, normalize

        vectors = getattr(prototypes, "pooled", prototypes)
        x = x.mean(1) if x.ndim == 3 else x
        scores = normalize(x, dim=-1) @ normalize(torch.as_tensor(vectors), dim=-1).T
        return cross_entropy(scores / temperature, labels, reduction="none")


class BootstrapCe(Loss, name="bootstrap_ce"):
    """Cross-entropy with the label, mixed with what neighbors in a dictionary are taken for, and with prototypes."""

    dictionary: Ref[Bank]
    head: Encoder
    prototypes: Ref[Bank] | None = None
    labels: Ref[Labels]
    alpha: float = 0.5
    beta: float = 0.1
    temperature: Temperature = default(0.1)

    def compute(
        self, logits: Tensor, z: Tensor, dictionary: Any, head: Any, prototypes: Any, labels: Tensor, temperature: Any
    ) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy, normalize, one_hot

        entries = dictionary.pooled if hasattr(dictionary, "pooled") else dictionary
        near = torch.softmax(normalize(z, dim=-1) @ normalize(entries, dim=-1).T / temperature, dim=-1)
        told = near @ torch.softmax(head(entries), dim=-1)
        target = one_hot(labels, logits.shape[-1]).to(logits.dtype) * (1 - self.alpha) + self.alpha * told.detach()
        if prototypes is not None:
            vectors = getattr(prototypes, "pooled", prototypes)
            close = torch.softmax(normalize(z, dim=-1) @ normalize(vectors, dim=-1).T / temperature, dim=-1)
            target = (1 - self.beta) * target + self.beta * close.detach()
        return cross_entropy(logits, target, reduction="none")


class SwappedPrediction(Loss, name="swapped_prediction"):
    """Each crop predicts the codes of the others that are assigned (SwAV; Caron et al., 2020)."""

    axes = ("copy",)
    prototypes: Encoder
    assign: tuple[int, ...] = (0, 1)
    bank: Refs[Bank] = ()
    codes: Encoder = Field(description="assigns scores to prototypes")
    temperature: Temperature = default(0.1)

    def compute(self, z: Tensor, prototypes: Any, bank: list[Any], codes: Any, temperature: Any) -> Tensor:
        import torch
        from torch.nn.functional import log_softmax, normalize

        vectors = prototypes()
        scores = normalize(z, dim=-1) @ vectors.T
        total = scores.new_zeros(len(z))
        for place, crop in enumerate(self.assign):
            with torch.no_grad():
                own = scores[:, crop]
                kept = bank[place] if place < len(bank) else None
                if kept is not None:
                    entries = kept.pooled if hasattr(kept, "pooled") else kept
                    own = torch.cat([own, entries @ vectors.T])
                assigned = codes.apply(own)[: len(z)]
            others = [c for c in range(scores.shape[1]) if c != crop]
            for other in others:
                total = total - (assigned * log_softmax(scores[:, other] / temperature, dim=-1)).sum(-1) / len(others)
        return total / len(self.assign)


class AttentionEntropy(Loss, name="attention_entropy"):
    """The mean entropy of maps of attention [N, heads, L, L]."""

    of: Refs[Array]  # pyright: ignore[reportIncompatibleVariableOverride]

    def compute(self, maps: Tensor) -> Tensor:
        return -(maps * maps.clamp_min(1e-9).log()).sum(-1).flatten(1).mean(1)
