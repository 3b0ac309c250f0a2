"""Encoders of the whole batch: assignments, labels, miners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmflow.plugin import Bank, Encoder, Encoding, Labels, Pooled, RawField, Ref, Refs, Scope, TensorType, Weight

if TYPE_CHECKING:
    from torch import Tensor


class Sinkhorn(Encoder, name="sinkhorn"):
    """Scores [N, K] as a balanced assignment (Cuturi, 2013)."""

    of: Refs[Pooled | RawField] = ()
    epsilon: float = 0.05
    iterations: int = 3

    def scope(self) -> Scope:
        return "batch"

    def apply(self, scores: Tensor) -> Tensor:
        import torch

        q = torch.softmax(scores.flatten() / self.epsilon, dim=0).view_as(scores)
        for _ in range(self.iterations):
            q = q / q.sum(0, keepdim=True).clamp_min(1e-12) / q.shape[1]
            q = q / q.sum(1, keepdim=True).clamp_min(1e-12) / q.shape[0]
        return q * q.shape[0]


class Relabel(Encoder, name="relabel"):
    """Labels as they are given, or as prototypes and the classifier see them where both are sure."""

    prototypes: Ref[Bank] | None = None
    labels: Ref[Labels]
    always: Ref[Weight]
    threshold: float = 0.6

    def scope(self) -> Scope:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"label": TensorType("label", dtype="int64"), "weight": TensorType("number")}

    def apply(self, guess: Tensor, z: Tensor, prototypes: Any, labels: Tensor, always: Tensor) -> dict[str, Tensor]:
        import torch
        from torch.nn.functional import normalize

        if prototypes is None:
            return {"label": labels, "weight": torch.ones_like(labels, dtype=z.dtype)}
        vectors = getattr(prototypes, "pooled", prototypes)
        seen = torch.softmax(normalize(z, dim=-1) @ normalize(vectors, dim=-1).T / 0.1, dim=-1)
        share = (torch.softmax(guess, dim=-1) + seen) / 2
        sure, other = share.max(-1)
        fixed = always > 0
        changed = torch.where((sure > self.threshold) & ~fixed, other, labels)
        own = share.gather(1, labels[:, None]).squeeze(1)
        counts = fixed | (sure > self.threshold) | (own > 1 / share.shape[1])
        return {"label": changed.detach(), "weight": counts.to(z.dtype)}


class ClassMeans(Encoder, name="class_means"):
    """The mean of the rows of each label that count: rows of their own, on the axis class."""

    labels: Ref[Labels]
    where: Ref[Weight] | None = None

    def scope(self) -> Scope:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(axes=("class",), groups=())}

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        return None

    def apply(self, x: Tensor, labels: Tensor, where: Tensor | None) -> Tensor:
        import torch

        weights = torch.ones_like(labels, dtype=x.dtype) if where is None else where.to(x.dtype)
        count = int(labels.max()) + 1
        sums = x.new_zeros(count, x.shape[1]).index_add(0, labels, x * weights[:, None])
        return sums / weights.new_zeros(count).index_add(0, labels, weights).clamp_min(1)[:, None]
