"""Views of pairs: each row of the batch is mixed with another one, and says with which and how much.

They work on the global batch, so that micro-batches, ranks and workers change nothing. In a view of several fields
(`of: [image, label]`) all of a row have one partner and one share. In evaluation nothing is mixed: every row is its own
partner, with the share 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr

from mmflow.plugin import Field, TensorType, Transform
from mmflow_views.geometry import BOX
from mmflow_views.pictures import is_picture

if TYPE_CHECKING:
    import numpy as np

SHARE = TensorType("number")
PARTNER = TensorType("index", dtype="int64")


class PairTransform(Transform):
    """Base of the transforms that mix pairs: write `pair`.

    Adds `lambda`, the share of the result that is the row's own, and `partner`, the other's row in the global batch.
    """

    per_batch: ClassVar[bool] = True
    adds: ClassVar[Mapping[str, TensorType]] = {"lambda": SHARE, "partner": PARTNER}

    alpha: float = Field(1.0, gt=0, description="shares are drawn from Beta(alpha, alpha)")
    p: float = Field(1.0, ge=0, le=1, description="probability of mixing at all, for each draw")
    each: Literal["batch", "row"] = Field("batch", description="one draw for the batch, or one for each row")
    pairs: Literal["shuffled", "reversed", "next"] = Field(
        "shuffled", description="who is whose partner: at random, the first the last's and so on, or the next row"
    )
    classes: int | None = Field(None, ge=1, description="how many, where the label that is mixed does not name them")

    _counts: tuple[int, ...] | None = PrivateAttr(None)
    """Classes of each field of the view, 0 where it is no label; None before `fitted`."""

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The fields of a row mixed with another's, and what was done where it differs from what was asked.

        `share` is that of `own`; `place` are two draws from [0, 1).
        """
        raise NotImplementedError

    def still(self, value: Any) -> Any:
        """A value that is not mixed, in the form that mixed ones have."""
        return value

    def nothing(self) -> Mapping[str, Any]:
        """What else is said of a row that is not mixed."""
        return {}

    def apply(self, value: Any, generator: Any) -> Any:
        rows = [row if isinstance(row, Mapping) or row is None else {"": row} for row in value]
        # A row that lacks a field is mixed with none.
        whole = [n for n, row in enumerate(rows) if row is not None and all(part is not None for part in row.values())]
        out: list[Any] = [None] * len(value)
        facts: dict[str, list[Any]] = {name: [None] * len(value) for name in self.adds}
        for row, partner, (share, *place) in zip(whole, *self._drawn(whole, generator), strict=True):
            said: Mapping[str, Any] = {"partner": row, **self.nothing()}
            if share < 1:
                out[row], more = self.pair(rows[row], rows[partner], share, (place[0], place[1]))  # type: ignore[arg-type]
                said = {"partner": partner, **more}
            for name, fact in {"lambda": share, **said}.items():
                facts[name][row] = fact
        for place, row in enumerate(rows):
            if row is not None and out[place] is None:
                out[place] = self._unmixed(row)
        if any(isinstance(row, Mapping) for row in value):
            return out, facts
        return [None if row is None else row[""] for row in out], facts

    def _unmixed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        labels = self.labels(row)
        still = {name: None if part is None else self.still(part) for name, part in row.items() if name not in labels}
        names = {n: distribution(row[n], row[n], 1, classes) for n, classes in labels.items() if row[n] is not None}
        return {**still, **names}

    def _drawn(self, here: list[int], generator: Any) -> tuple[list[int], list[list[float]]]:
        """The partner of each row, its share and its place."""
        if generator is None or not here:
            return here, [[1.0, 0.0, 0.0]] * len(here)
        import numpy as np

        if self.pairs == "shuffled":
            partners = np.array(here)[generator.permutation(len(here))].tolist()
        else:
            partners = here[::-1] if self.pairs == "reversed" else [*here[1:], here[0]]
        count = len(here) if self.each == "row" else 1
        shares = generator.beta(self.alpha, self.alpha, count)
        shares[generator.random(count) >= self.p] = 1
        draws = np.concatenate([shares[:, None], generator.random((count, 2))], axis=1).tolist()
        return partners, draws if self.each == "row" else draws * len(here)

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "label":
            return field
        if len(field.axes) > 1:
            raise ValueError(f"{self.use} mixes one label a row, not those along the axis {field.axes[1]}")
        classes = self.classes or len(field.names)
        if not classes:
            raise ValueError(f"{self.use} must know how many classes there are to mix labels: write `classes`")
        if field.names and len(field.names) != classes:
            raise ValueError(f"{self.use} has {classes} classes, the label has {len(field.names)}")
        return field.with_(modality="labels", size=(classes,), dtype="float32")

    def fitted(self, *fields: TensorType) -> PairTransform:
        copy = self.model_copy()
        copy._counts = tuple((self.classes or len(f.names)) if f.modality == "label" else 0 for f in fields)
        return copy

    def labels(self, own: Mapping[str, Any]) -> Mapping[str, int]:
        """How many classes those fields have that are labels."""
        import numpy as np

        if self._counts is not None:
            return {name: count for name, count in zip(own, self._counts, strict=True) if count}
        whole = [n for n, value in own.items() if isinstance(value, (int, np.integer)) and not isinstance(value, bool)]
        return dict.fromkeys(whole, self.classes) if self.classes else {}


def distribution(own: int, other: int, share: float, classes: int) -> np.ndarray:
    """The distribution [classes] of two labels, `share` of the first."""
    import numpy as np

    mixed = np.zeros(classes, dtype=np.float32)
    for label, part in ((int(own), share), (int(other), 1 - share)):
        if not 0 <= label < classes:
            raise ValueError(f"label {label} among {classes} classes")
        mixed[label] += np.float32(part)
    return mixed


class Mixup(PairTransform, name="mixup"):
    """Convex combinations of pairs, `lambda * own + (1 - lambda) * other` (Zhang et al., 2018).

    Mixes pictures (as float32 in [0, 1]), clips, sounds, series, vectors and numbers of one shape; a label becomes a
    distribution over the classes that is mixed alike: `mixed.label` then serves as the labels of a cross-entropy.
    """

    example: ClassVar[str] = "views: {mixed: {of: [image, label], apply: [{use: mixup, alpha: 0.2}]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        labels = self.labels(own)
        mixed = {n: self._mixed(value, other[n], share) for n, value in own.items() if n not in labels}
        names = {n: distribution(own[n], other[n], share, classes) for n, classes in labels.items()}
        return {**mixed, **names}, {}

    def _mixed(self, own: Any, other: Any, share: float) -> Any:
        import numpy as np

        first, second = self.still(own), self.still(other)
        if not isinstance(first, np.ndarray):
            return float(share * first + (1 - share) * second)
        _same_shape(self.use, first, second)
        return (np.float32(share) * first + np.float32(1 - share) * second).astype(first.dtype)

    def still(self, value: Any) -> Any:
        import numpy as np

        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fu":
            what = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise ValueError(f"mixup mixes pictures, arrays of floats, numbers and labels, not {what}")
        return value.astype(np.float32) / 255 if value.dtype == np.uint8 else value

    def result(self, field: TensorType) -> TensorType:
        if field.modality in ("text", "id", "boxes", "graph"):
            raise ValueError(f"mixup cannot mix {field.modality}")
        if field.modality in ("image", "video"):
            return field.with_(dtype="float32")
        return super().result(field)


class Cutmix(PairTransform, name="cutmix"):
    """A rectangle of another picture pasted in (Yun et al., 2019); in a clip, the same one in all frames.

    The rectangle has the share `1 - lambda` of the area and a random center; what an edge cuts off it counts as own, so
    that `lambda` is the share of the pixels that are the row's. Masks follow, labels are mixed by `lambda`. Adds `box`:
    the rectangle as (left, top, right, bottom), shares of the sides.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"lambda": SHARE, "partner": PARTNER, "box": BOX}
    example: ClassVar[str] = "views: {mixed: {of: [image, label], apply: [cutmix]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        import numpy as np

        height, width = self._size(own)
        side = math.sqrt(1 - share)
        tall, wide = int(height * side), int(width * side)
        middle_x, middle_y = int(place[0] * width), int(place[1] * height)
        left, right = (min(max(middle_x + way * wide // 2, 0), width) for way in (-1, 1))
        top, bottom = (min(max(middle_y + way * tall // 2, 0), height) for way in (-1, 1))
        share = 1 - (right - left) * (bottom - top) / (width * height)
        values: dict[str, Any] = {}
        labels = self.labels(own)
        for name, value in own.items():
            if name in labels:
                values[name] = distribution(value, other[name], share, labels[name])
                continue
            if not isinstance(value, np.ndarray):
                raise ValueError(f"cutmix takes pictures, clips, masks and labels, not {type(value).__name__}")
            _same_shape(self.use, value, other[name])
            area = (..., slice(top, bottom), slice(left, right), *[slice(None)] * (value.ndim > 2))
            values[name] = value.copy()
            values[name][area] = other[name][area]
        box = np.array([left / width, top / height, right / width, bottom / height], dtype=np.float32)
        return values, {"lambda": share, "box": box}

    def nothing(self) -> Mapping[str, Any]:
        import numpy as np

        return {"box": np.zeros(4, dtype=np.float32)}

    def _size(self, parts: Mapping[str, Any]) -> tuple[int, int]:
        for value in parts.values():
            if is_picture(value) or getattr(value, "ndim", 0) == 4:
                return value.shape[-3], value.shape[-2]
        raise ValueError("cutmix needs a picture or a clip among its fields")

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("image", "video", "mask", "label"):
            raise ValueError(f"cutmix takes pictures, clips, masks and labels, not {field.modality}")
        return super().result(field)


class SpliceWords(PairTransform, name="splice_words"):
    """The first words of a text followed by the last words of another one.

    Each gives its share of words, rounded down for the other; `lambda` is the share of the words that are the row's.
    Labels are mixed by it.
    """

    example: ClassVar[str] = "views: {both: {of: caption, apply: [{use: splice_words, each: row}]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        texts = [name for name, value in own.items() if isinstance(value, str)]
        if len(texts) != 1:
            raise ValueError(f"splice_words needs one text among its fields, got {len(texts)}")
        words, others = own[texts[0]].split(), other[texts[0]].split()
        tail = int((1 - share) * len(others))
        head = len(words) - int((1 - share) * len(words))
        spliced = " ".join(words[:head] + others[len(others) - tail :])
        kept = head / (head + tail) if head + tail else 1.0
        names = {n: distribution(own[n], other[n], kept, classes) for n, classes in self.labels(own).items()}
        return {texts[0]: spliced, **names}, {"lambda": kept}

    def result(self, field: TensorType) -> TensorType:
        if field.modality not in ("text", "label"):
            raise ValueError(f"splice_words takes a text and labels, not {field.modality}")
        return super().result(field)


class JoinTexts(PairTransform, name="join_texts"):
    """Two rows' texts one after the other; each field of the view in an order of its own (Chi et al., InfoXLM, 2021).

    `of: [sentence, translation]` joins both with those of one partner. `lambda` is the share of the words of the first
    field that are the row's; `alpha` means nothing here.
    """

    example: ClassVar[str] = "views: {both: {of: [sentence, translation], apply: [join_texts]}}"

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        joined = {}
        for number, (name, text) in enumerate(own.items()):
            if not isinstance(text, str):
                raise ValueError(f"join_texts takes texts, not {type(text).__name__}")
            # The digits of one draw are as many fair coins.
            first = int(place[0] * 2 ** (number + 1)) % 2
            joined[name] = " ".join((other[name], text) if first else (text, other[name]))
        lengths = [len(next(iter(texts.values())).split()) for texts in (own, other)]
        return joined, {"lambda": lengths[0] / max(1, sum(lengths))}

    def result(self, field: TensorType) -> TensorType:
        if field.modality != "text":
            raise ValueError(f"join_texts takes texts, not {field.modality}")
        return field


def _same_shape(use: str, own: np.ndarray, other: np.ndarray) -> None:
    if own.shape != other.shape:
        raise ValueError(
            f"{use} needs one shape in a batch, got {list(own.shape)} and {list(other.shape)}; put `resize`, "
            "`random_resized_crop` or `crop_time` before it"
        )
