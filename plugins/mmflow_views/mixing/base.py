"""The base of the transforms that mix pairs of rows.

They work on the global batch, so that micro-batches, ranks and workers change nothing. In a view of several fields
(`of: [image, label]`) all fields of a row have one partner and one share. In evaluation nothing is mixed: every row is
its own partner, with the share 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PrivateAttr

from mmflow.plugin import Field, TensorType, Transform

if TYPE_CHECKING:
    import numpy as np


SHARE = TensorType("number")


PARTNER = TensorType("index", dtype="int64")


class PairTransform(Transform):
    """Base of the transforms that mix pairs: write `pair`.

    Adds `lambda`, the share of the row itself in the result, and `partner`, the place of the other row in the global
    batch.
    """

    per_batch: ClassVar[bool] = True
    adds: ClassVar[Mapping[str, TensorType]] = {"lambda": SHARE, "partner": PARTNER}

    alpha: float = Field(1.0, gt=0, le=1e6, description="shares are drawn from Beta(alpha, alpha)")
    p: float = Field(1.0, ge=0, le=1, description="probability of mixing at all, for each draw")
    each: Literal["batch", "row"] = Field("batch", description="one draw for the batch, or one for each row")
    pairs: Literal["shuffled", "reversed", "next"] = Field(
        "shuffled", description="the partners: at random, first with last and so on inwards, or the next row"
    )
    classes: int | None = Field(
        None, ge=1, le=10_000_000, description="number of classes, where the label does not name them"
    )

    _counts: tuple[int, ...] | None = PrivateAttr(None)
    """Number of classes of each field of the view, 0 for fields that are no label; None before `fitted`."""

    def pair(
        self, own: Mapping[str, Any], other: Mapping[str, Any], share: float, place: tuple[float, float]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The fields of a row mixed with another row's, and the facts that differ from those that were drawn.

        `share` is that of `own`; `place` are two draws from [0, 1).
        """
        raise NotImplementedError

    def still(self, value: Any) -> Any:
        """A value that is not mixed, in the form of mixed values."""
        return value

    def nothing(self) -> Mapping[str, Any]:
        """Further facts about a row that is not mixed."""
        return {}

    def apply(self, value: Any, generator: Any) -> Any:
        rows = [row if isinstance(row, Mapping) or row is None else {"": row} for row in value]
        # A row that lacks a field has no partner.
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
            raise ValueError(f"{self.use} must know the number of classes to mix labels: write `classes`")
        if field.names and len(field.names) != classes:
            raise ValueError(f"{self.use} has {classes} classes, the label has {len(field.names)}")
        return field.with_(modality="labels", size=(classes,), dtype="float32")

    def fitted(self, *fields: TensorType) -> PairTransform:
        copy = self.model_copy()
        copy._counts = tuple((self.classes or len(f.names)) if f.modality == "label" else 0 for f in fields)
        return copy

    def labels(self, own: Mapping[str, Any]) -> Mapping[str, int]:
        """The number of classes of each field that is a label."""
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


def check_same_shape(use: str, own: np.ndarray, other: np.ndarray) -> None:
    if own.shape != other.shape:
        raise ValueError(
            f"{use} needs one shape in a batch, got {list(own.shape)} and {list(other.shape)}; put `resize`, "
            "`random_resized_crop` or `crop_time` before it"
        )
