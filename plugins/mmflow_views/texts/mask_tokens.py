"""Hidden ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, TensorType, Transform
from mmflow_views.texts.runs import runs

if TYPE_CHECKING:
    import numpy as np


class MaskTokens(Transform, name="mask_tokens"):
    """Ids hidden for masked modelling (Devlin et al., 2019): a share `p` of a sequence of ids, of which 80 % become
    `mask`, 10 % any of the `vocabulary` ids and 10 % stay; with `spans`, whole runs of geometric lengths of that mean
    (Joshi et al., SpanBERT, 2020). Ids below `first` are never hidden.

    Adds `targets`: the id where one is hidden, -1 elsewhere. In evaluation nothing is hidden.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"targets": TensorType("labels", size=(None,), dtype="int64")}
    example: ClassVar[str] = "views: {masked: {of: ids, apply: [{use: mask_tokens, mask: 3, vocabulary: 1000}]}}"

    mask: int = Field(ge=0, le=1_000_000_000, description="the id that hides another")
    vocabulary: int = Field(ge=1, le=1_000_000_000, description="number of ids")
    first: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="the first id that may be hidden; lower ids are begin, end and other marks",
    )
    p: float = Field(0.15, ge=0, le=1, description="share of the ids that is hidden")
    spans: float | None = Field(None, ge=1, le=1e6, description="mean length of hidden runs; unset: one by one")

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        if len(fields) > 1:
            raise ValueError(f"mask_tokens takes one field, and the view has {len(fields)}")
        for field in fields:
            if field.modality not in ("tokens", "labels") or len(field.size) != 1 or len(field.axes) > 1:
                raise ValueError(f"mask_tokens needs a sequence of ids, got {field.modality}")
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        ids = np.asarray(value)
        if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
            raise ValueError(f"mask_tokens needs a sequence of ids, got {ids.dtype} {list(ids.shape)}")
        ids, targets = ids.astype(np.int64), np.full(len(ids), -1, dtype=np.int64)
        if generator is not None:
            hidden = self.hidden(ids, generator)
            targets[hidden] = ids[hidden]
            how = generator.random(len(ids))
            others = generator.integers(self.first, max(self.vocabulary, self.first + 1), len(ids))
            ids = np.where(hidden & (how < 0.8), self.mask, np.where(hidden & (how < 0.9), others, ids))
        return ids.tolist(), {"targets": targets.tolist()}

    def hidden(self, ids: np.ndarray, generator: Any) -> np.ndarray:
        """Which places are hidden: exactly the share `p`, rounded, of the places that may be."""
        import numpy as np

        allowed = np.flatnonzero(ids >= self.first)
        wanted = round(self.p * len(allowed))
        hidden = np.zeros(len(ids), dtype=bool)
        if self.spans is None:
            hidden[generator.permutation(allowed)[:wanted]] = True
            return hidden
        hidden[allowed[np.array(runs(len(allowed), wanted, self.spans, generator), dtype=bool)]] = True
        return hidden
