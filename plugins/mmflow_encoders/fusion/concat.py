"""Vectors side by side, or sequences one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import ComponentError, Encoder, TensorType
from mmflow_encoders.declared import length_of, tokens_like, vector_like, width_of
from mmflow_encoders.inputs import MOST, SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Tokens


class Concat(Encoder, name="concat"):
    """Vectors side by side, [N, D1], [N, D2], ... -> `pooled` [N, D1 + D2 + ...]. No weights.

    With `axis: length`, sequences of one width one after the other: tokens, grids (row by row) and vectors (one token)
    -> `tokens` [N, L1 + L2 + ..., D] with their mask, for a transformer over several modalities.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES,) * MOST
    example: ClassVar[str] = "{use: concat, of: [image, text]}"

    of: Sequences = Field(min_length=2, max_length=MOST)  # pyright: ignore[reportIncompatibleVariableOverride]
    axis: Literal["width", "length"] = Field("width", description="side by side, or one after the other")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        first = inputs[0]
        if self.axis == "length":
            lengths = [length_of(given) for given in inputs]
            total = None if None in lengths else sum(n for n in lengths if n is not None)
            return {"tokens": tokens_like(first, total, width_of(self.use, *inputs))}
        sequences = [given.modality for given in inputs if given.modality in ("tokens", "grid")]
        if sequences:
            raise ComponentError(
                "side by side stand vectors", found=sequences[0],
                hint="write `axis: length`, or name a pooled output",
            )  # fmt: skip
        widths = [given.size[-1] if given.size else None for given in inputs]
        total = None if None in widths else sum(w for w in widths if w is not None)
        return {"pooled": vector_like(first, total)}

    def apply(self, *inputs: Tensor | Tokens) -> Any:
        import torch

        if self.axis == "width":
            vectors = [given for given in inputs if isinstance(given, torch.Tensor)]
            if len(vectors) < len(inputs):
                raise ComponentError("side by side stand vectors", found="tokens", hint="write `axis: length`")
            return torch.cat(vectors, dim=-1)
        from mmflow_encoders.modules.sequences import as_tokens, join

        return {"tokens": join([as_tokens(given) for given in inputs])}
