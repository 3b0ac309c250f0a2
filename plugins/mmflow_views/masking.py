"""Masks: patches of pictures and tubes of clips, spans of time, bands of a spectrogram, ids of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from mmflow.plugin import Field, TensorType, Transform
from mmflow_views.signals import TimeTransform

if TYPE_CHECKING:
    import numpy as np

SPANS = TensorType("vector", size=(None, 2))


class SpanMask(TimeTransform):
    """Base of the transforms that hide spans: `count` of them, each at most a share `longest` of the whole.

    Adds `hidden`: where each begins and ends, as shares of the whole; in evaluation nothing is hidden, and all are
    (0, 0).
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"hidden": SPANS}

    count: int = Field(2, ge=1)
    longest: float = Field(0.1, gt=0, le=1)
    fill: Literal["zero", "mean"] = Field("zero", description="what stands in the span: zeros, or the mean of the rest")

    def spans(self, length: int, generator: Any) -> list[tuple[int, int]]:
        """Beginning and end of each span."""
        if generator is None:
            return [(0, 0)] * self.count
        draws = generator.random((self.count, 2)).tolist()
        sizes = [max(1, round(size * self.longest * length)) for size, _ in draws]
        starts = [int(at * (length - n + 1)) for (_, at), n in zip(draws, sizes, strict=True)]
        return [(start, start + n) for start, n in zip(starts, sizes, strict=True)]

    def hide(self, values: np.ndarray, spans: list[tuple[int, int]], axis: int) -> np.ndarray:
        import numpy as np

        hidden = np.zeros(values.shape[axis], dtype=bool)
        for start, end in spans:
            hidden[start:end] = True
        if not hidden.any():
            return values
        moved = np.moveaxis(values.copy(), axis, 0)
        moved[hidden] = moved[~hidden].mean() if self.fill == "mean" and not hidden.all() else 0
        return np.moveaxis(moved, 0, axis)

    def shares(self, spans: list[tuple[int, int]], length: int) -> Mapping[str, Any]:
        import numpy as np

        return {"hidden": (np.array(spans, dtype=np.float32) / length).astype(np.float32)}

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        return {**super().added(*fields), "hidden": SPANS.with_(size=(self.count, 2))}


class MaskTime(SpanMask, name="mask_time"):
    """Spans of time hidden, in all channels (time masking; Park et al., SpecAugment, 2019). Adds `hidden`."""

    example: ClassVar[str] = "views: {mel: {of: audio, apply: [log_mel, {use: mask_time, count: 2, longest: 0.2}]}}"

    def draw(self, length: int, generator: Any) -> Any:
        return self.spans(length, generator)

    def change(self, values: np.ndarray, drawn: Any) -> np.ndarray:
        return self.hide(values, drawn, 0)

    def facts(self, drawn: Any, length: int) -> Mapping[str, Any]:
        return self.shares(drawn, length)


class MaskBands(SpanMask, name="mask_bands"):
    """Bands of a spectrogram [T, bands], or channels of a series, hidden at all times (frequency masking; Park et al.,
    SpecAugment, 2019). Adds `hidden`."""

    example: ClassVar[str] = "views: {mel: {of: audio, apply: [log_mel, {use: mask_bands, count: 1, longest: 0.3}]}}"

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.ndim != 2:
            found = getattr(value, "shape", type(value).__name__)
            raise ValueError(f"mask_bands needs a series [T, bands], got {found}")
        spans = self.spans(value.shape[1], generator)
        return self.hide(value, spans, 1), self.shares(spans, value.shape[1])


class MaskTokens(Transform, name="mask_tokens"):
    """Ids hidden for masked modelling (Devlin et al., 2019): a share `p` of a sequence of ids, of which 80 % become
    `mask`, 10 % any of the `vocabulary` ids and 10 % stay; with `spans`, whole runs of geometric lengths of that mean
    (Joshi et al., SpanBERT, 2020). Ids below `first` are never hidden.

    Adds `targets`: the id where one is hidden, -1 elsewhere. In evaluation nothing is hidden.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"targets": TensorType("labels", size=(None,), dtype="int64")}
    example: ClassVar[str] = "views: {masked: {of: ids, apply: [{use: mask_tokens, mask: 3, vocabulary: 1000}]}}"

    mask: int = Field(ge=0, description="the id that hides another")
    vocabulary: int = Field(ge=1, description="how many ids there are")
    first: int = Field(0, ge=0, description="the first id that may be hidden; those below are begin, end and the like")
    p: float = Field(0.15, ge=0, le=1, description="share of the ids that is hidden")
    spans: float | None = Field(None, ge=1, description="mean length of hidden runs; none: one by one")

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
        """Which places are hidden: exactly the share `p`, rounded, of those that may be."""
        import numpy as np

        allowed = np.flatnonzero(ids >= self.first)
        wanted = round(self.p * len(allowed))
        hidden = np.zeros(len(ids), dtype=bool)
        if self.spans is None:
            hidden[generator.permutation(allowed)[:wanted]] = True
            return hidden
        hidden[allowed[np.array(runs(len(allowed), wanted, self.spans, generator), dtype=bool)]] = True
        return hidden


class PatchMask(Transform, name="patch_mask"):
    """Leaves the picture or clip as it is and adds `mask`: bool [H / patch, W / patch], True where a patch is hidden.

    Exactly a share `ratio` of the patches, drawn at random one by one (He et al., MAE, 2022) or, with `block`, as
    squares of so many patches until the share is reached. A clip has one mask for all frames (a tube). In evaluation
    nothing is hidden.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"mask": TensorType("mask", size=(None, None), dtype="bool")}
    example: ClassVar[str] = "views: {image: {of: image, apply: [{use: patch_mask, patch: 8, ratio: 0.75}]}}"

    patch: int = Field(8, ge=1)
    ratio: float = Field(0.75, ge=0, le=1)
    block: int = Field(1, ge=1, description="side of a hidden square, in patches")

    @field_validator("block")
    @classmethod
    def _small(cls, block: int) -> int:
        if block > 32:
            raise ValueError("at most 32 patches")
        return block

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        for field in fields:
            height, width = (*field.size[-3:-1], None, None)[:2]
            if field.modality in ("image", "video") and height is not None and width is not None:
                return {"mask": self.adds["mask"].with_(size=(height // self.patch, width // self.patch))}
        return self.adds

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        first = next(iter(value.values())) if isinstance(value, Mapping) else value
        if not isinstance(first, np.ndarray) or first.ndim not in (3, 4):
            raise ValueError("patch_mask needs a picture or a clip")
        height, width = first.shape[-3], first.shape[-2]
        if height % self.patch or width % self.patch:
            raise ValueError(f"a picture of {height} x {width} pixels cannot be cut into patches of {self.patch}")
        mask = np.zeros((height // self.patch, width // self.patch), dtype=bool)
        if generator is None:
            return value, {"mask": mask}
        wanted = round(self.ratio * mask.size)
        if self.block == 1:
            mask.reshape(-1)[generator.permutation(mask.size)[:wanted]] = True
            return value, {"mask": mask}
        for at in generator.permutation(mask.size).tolist():
            if mask.sum() >= wanted:
                break
            row, column = divmod(at, mask.shape[1])
            mask[row : row + self.block, column : column + self.block] = True
        hidden = np.flatnonzero(mask)
        mask.reshape(-1)[hidden[generator.permutation(len(hidden))[wanted:]]] = False
        return value, {"mask": mask}


def runs(count: int, wanted: int, mean: float, generator: Any) -> list[bool]:
    """`wanted` of `count` places, in runs of geometric lengths of that mean at random places."""
    chosen = [False] * count
    while (missing := wanted - sum(chosen)) > 0:
        length = min(int(generator.geometric(1 / mean)), missing)
        start = int(generator.integers(count))
        chosen[start : start + length] = [True] * len(chosen[start : start + length])
    return chosen
