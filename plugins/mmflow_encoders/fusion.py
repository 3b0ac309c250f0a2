"""Declarations of what joins or condenses outputs of other encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import (
    Bounds,
    ComponentError,
    Encoded,
    Encoder,
    Grid,
    Pooled,
    RawField,
    Refs,
    Score,
    TensorType,
    Tokens,
    TokenSequence,
    Value,
    default,
)
from mmflow_encoders.shapes import check_heads, sequence_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mmflow.plugin import Encoding

SEQUENCES = ("tokens", "grid", "vector")
Sequences = Refs[TokenSequence | Grid | Pooled | RawField]


class AttentionPool(Encoder, name="attention_pool"):
    """Learned queries attend once to tokens or a grid (attentional pooling; Lee et al., 2019; CoCa, Yu et al., 2022).

    x = norm(MultiHead(queries, norm(input))). Outputs: `tokens` [N, queries, width]; `pooled` [N, width], their mean.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES,)
    example: ClassVar[str] = "{use: attention_pool, of: patches.tokens, queries: 1, head: {use: linear, dim: 512}}"

    of: Sequences = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    queries: int = Field(1, ge=1, description="number of learned queries")
    width: int | None = Field(None, ge=1, description="of the queries; that of the input where unset")
    heads: int = Field(4, ge=1, description="must divide width")
    dropout: float = Field(0.0, ge=0, lt=1, description="of attention weights")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        width = self.width or (given.size[-1] if given.size else None)
        vector = TensorType("vector", given.axes, (width,), groups=given.groups)
        return {"pooled": vector, "tokens": vector.with_(modality="tokens", size=(self.queries, width))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.transformer import AttentionPool as Module

        memory = sequence_of(self.use, *inputs)
        width = self.width or memory
        check_heads(width, self.heads)
        return Module(queries=self.queries, width=width, memory_width=memory, heads=self.heads, dropout=self.dropout)


class CrossAttention(Encoder, name="cross_attention"):
    """Transformer blocks in which the first sequence attends to itself and to the others (ALBEF; Li et al., 2021).

    `of: [text.tokens, image.tokens, ...]`: the others have one width and are joined. Each block is self-attention,
    cross-attention, MLP, all pre-norm; padding counts nowhere. Outputs: `tokens` [N, L, D] with the first input's
    mask; `pooled` [N, D], the first token or the mean of the real ones.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES, SEQUENCES)
    example: ClassVar[str] = "{use: cross_attention, of: [text.tokens, image.tokens], layers: 2}"

    of: Sequences = Field(min_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    layers: int = Field(2, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="must divide the width of the first input")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer of an MLP over that of the tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="of residual branches, hidden layers and attention weights")
    pool: Literal["first", "mean"] = Field("first", description="the first token, or the mean of the real ones")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        first = inputs[0]
        width = first.size[-1] if first.size else None
        vector = TensorType("vector", first.axes, (width,), groups=first.groups)
        length = first.size[0] if first.modality == "tokens" and first.size else None
        return {"pooled": vector, "tokens": vector.with_(modality="tokens", size=(length, width))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.transformer import CrossAttention as Module

        width = sequence_of(self.use, inputs[0])
        check_heads(width, self.heads)
        return Module(
            width=width,
            memory_width=sequence_of(self.use, *inputs[1:]),
            depth=self.layers,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
        )


class Concat(Encoder, name="concat"):
    """Vectors side by side: [N, D1], [N, D2], ... -> [N, D1 + D2 + ...]. No weights."""

    example: ClassVar[str] = "{use: concat, of: [image, text]}"

    of: Refs[Pooled | RawField] = Field(min_length=2)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        widths = [given.size[-1] if given.size else None for given in inputs]
        total = None if None in widths else sum(w for w in widths if w is not None)
        return {"pooled": TensorType("vector", inputs[0].axes, (total,), groups=inputs[0].groups)}

    def apply(self, *inputs: Tensor) -> Tensor:
        import torch

        return torch.cat(inputs, dim=-1)


GROUPS = ("copy", "frame", "caption", "candidate", "object", "item", "step")
"""Group axes whose members can be put together or in a row."""


class Stack(Encoder, name="stack"):
    """Vectors one behind the other along a group axis: [N, D] and [N, G, D] count 1 and G places. No weights."""

    axes: ClassVar[tuple[str, ...]] = GROUPS
    example: ClassVar[str] = "{use: stack, of: [body, body_small], axis: copy}"

    of: Refs[Pooled | RawField] = Field(min_length=1)
    axis: Literal["copy", "frame", "caption", "candidate", "object", "item", "step"] = Field(
        "copy", description="of the result"
    )

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        places: int | None = 0
        for given in inputs:
            if given.axes[1:] not in ((), (self.axis,)):
                raise ComponentError(
                    f"stack along {self.axis!r} meets another axis",
                    found=f"an input with the axes {', '.join(given.axes)}",
                    expected=f"vectors with no group axis or with {self.axis!r} alone",
                )
            own = 1 if len(given.axes) == 1 else given.groups[0] if given.groups else None
            places = None if places is None or own is None else places + own
        first = inputs[0]
        return {"pooled": TensorType("vector", (first.axes[0], self.axis), first.size, groups=(places,))}

    def apply(self, *inputs: Tensor) -> Tensor:
        import torch

        return torch.cat([x.unsqueeze(1) if x.ndim == 2 else x for x in inputs], dim=1)

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        import torch

        if all(encoding.present is None for encoding in inputs):
            return None
        members: list[Tensor] = []
        for encoding in inputs:
            vectors = next(iter(encoding.outputs.values()))
            places = 1 if len(encoding.axes) == 1 else vectors.shape[1]
            here = encoding.present
            if here is None:
                here = torch.ones(len(vectors), places, dtype=torch.bool, device=vectors.device)
            members.append(here.reshape(len(vectors), places))
        return torch.cat(members, dim=1)


class Members(Encoder, name="members"):
    """The vectors along a group axis (frames, captions, objects) as one: [N, G, D] -> [N, D]. No weights.

    Outputs: `pooled` [N, D], the mean or the maximum over the members that are present; `tokens` [N, G, D], all of them
    in their order with their mask, for an encoder of sequences to go on with. A row without members is absent.
    """

    axes: ClassVar[tuple[str, ...]] = GROUPS
    example: ClassVar[str] = "{use: members, of: frames, pool: mean}"

    of: Refs[Encoded] = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    pool: Literal["mean", "max"] = Field("mean", description="of the members")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        if len(given.axes) != 2:
            raise ComponentError(
                "members takes vectors with one group axis", found=f"the axes {', '.join(given.axes)}",
                expected=f"one of: {', '.join(GROUPS)}",
            )  # fmt: skip
        vector = TensorType("vector", given.axes[:1], given.size)
        count = given.groups[0] if given.groups else None
        return {"pooled": vector, "tokens": vector.with_(modality="tokens", size=(count, *given.size))}

    def apply(self, a: Encoding) -> Mapping[str, Tensor | Tokens]:
        import torch

        x, mask = a.pooled, a.present
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        here = mask.unsqueeze(-1)
        if self.pool == "mean":
            pooled = (x * here).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        else:
            pooled = torch.where(mask.any(1, keepdim=True), x.masked_fill(~here, -torch.inf).amax(1), 0.0)
        return {"pooled": pooled, "tokens": Tokens(x * here, mask)}

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        present = inputs[0].present
        return None if present is None else present.any(1)


class Scores(Encoder, name="scores"):
    """Scores of each row with rows that are the same for all (class texts, prototypes): logits [N, C].

    pooled[i, c] = score(a_i, b_c) / temperature. The second input has no sample axis: a static field, or a node over
    one, or what a batch node found for classes.
    """

    example: ClassVar[str] = "{use: scores, of: [image, names], score: cosine, temperature: 0.01}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="how a row is compared with each of the others")
    temperature: Annotated[Value, Bounds(gt=0)] = default(1.0, description="what scores are divided by")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        rows, columns = inputs
        if columns.axes[:1] == ("sample",):
            raise ComponentError(
                "scores needs a second input that is the same for every sample",
                found="an input with the axis 'sample'",
                hint="give it a static field, such as class names; for pairs of samples use a contrastive loss",
            )
        return {"pooled": TensorType("logits", rows.axes, (None,), groups=rows.groups)}

    def apply(self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor) -> Tensor:
        found = score.blocks(a, b)
        return (found[0] if isinstance(found, tuple) else found) / temperature
