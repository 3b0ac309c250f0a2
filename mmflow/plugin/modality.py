"""The kind `modality`: the form of a field's values, how they are joined, and how a report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.registry import registry
from mmflow.plugin.values import RawValue, TensorType, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["raw", "vector", "tokens", "grid", "index", "value"]

LONGEST_TEXT = 240
"""Characters of a text that a report shows."""
LONGEST_LINE = 120
"""About how many values of a series a report draws."""


@dataclass(frozen=True)
class Shown:
    """How a report shows a value, as plain data.

    `content` is a str for `text`, a data URI for `image` (PNG) and `audio` (WAV), numbers for `line`, and pairs
    (x, y) for `points`. The report escapes text and draws the rest itself.
    """

    kind: Literal["text", "image", "audio", "line", "points"]
    content: str | Sequence[float] | Sequence[Sequence[float]]


class Modality(Component, kind="modality"):
    """The meaning of one value of a field. Declare `class Points(Modality, name="points")`, register it as
    `modality/points`, and write `TensorType("points", ...)` in sources, views and encoders.

    Methods see values without their group axes (one caption of five), in the form that the source, a view or an
    encoder's `preprocess` gives; None never reaches them but in `present` and as a member of `collate`'s list. The
    defaults fit arrays and numbers: most modalities set the class attributes and write `show`.
    """

    shared: ClassVar[bool] = False

    form: ClassVar[str] = "any value"
    """The form in which a source gives a value, in words: `uint8 array [H, W, C]`."""
    role: ClassVar[Role] = "value"
    """Its readers: `raw` data, names too, is read by encoders and not by losses; `vector`, `tokens`, `grid` and `index`
    are outputs of encoders and fit references of these types; a `value` (a number, a label, an array) is read by losses
    and evaluators as it is."""
    discrete: ClassVar[bool] = False
    """Whole numbers that stand for something, so that references to labels and indices may lead to it."""
    classes: ClassVar[bool] = False
    """One of a few classes, so that a report can color rows by it."""
    ragged: ClassVar[bool] = False
    """A first size that is declared unknown (None) is a length: rows are padded and come with a mask (`Tokens`)."""

    def check(self, value: RawValue, declared: TensorType) -> None:
        """Raise `ValueError` where a source gives something else than `form`."""

    def present(self, value: RawValue) -> bool:
        """Whether the value is present."""
        return value is not None

    def collate(
        self, values: Sequence[RawValue], declared: TensorType, template: RawValue = None
    ) -> Tensor | Tokens | list[RawValue]:
        """Join one value a row (None where absent) into a tensor [N, ...], `Tokens`, or a list for other values.

        Absent rows hold zeros (None in lists). `template` is a value as it would be, where every row is absent.
        By default: integers int64, other numbers float32, or float64 where declared; a list of ints `Tokens` padded
        with 0; arrays stacked, or padded where `ragged` says so; everything else a list. Raises `ValueError` where
        rows have different shapes.
        """
        from mmflow.plugin.collation import join, without_tensors

        values, first = without_tensors(values, template)
        if first is None:
            return self.absent(len(values), declared)
        return join(values, first, declared, ragged=self.ragged)

    def absent(self, rows: int, declared: TensorType) -> Tensor | list[None]:
        """A column of `rows` absent rows, in the shape that its type declares."""
        import torch

        return torch.zeros((rows, *(size or 0 for size in declared.size)))

    def blank(self, declared: TensorType) -> RawValue:
        """A value of the declared size without content, for checks before there are any; raises `ValueError` where a
        size is not declared. By default zeros: one number where the type has no size, else an array."""
        import numpy as np

        if None in declared.size:
            raise ValueError(f"the size {list(declared.size)} of {declared.modality} is not declared")
        dtype = declared.dtype if declared.dtype.startswith(("int", "uint", "bool", "float")) else "float32"
        return np.zeros(tuple(size or 0 for size in declared.size), dtype) if declared.size else np.dtype(dtype).type(0)

    def show(self, value: RawValue, declared: TensorType) -> Shown:
        """The view of a value in a report; by default a line for a series of numbers, else the caption."""
        import numpy as np

        if isinstance(value, np.ndarray) and value.ndim == 1 and len(value) > 2 and np.isfinite(value).all():
            return line(value)
        return Shown("text", shortened(self.caption(value, declared)))

    def caption(self, value: RawValue, declared: TensorType) -> str:
        """The value in a line of text, where nothing else can be shown."""
        shape = getattr(value, "shape", None)
        return str(value) if shape is None else f"{declared.modality} {list(shape)}"

    def read(self, cell: RawValue) -> RawValue:
        """The value that a cell of a table stands for: plain data as JSON, CSV and Parquet hold it."""
        import numpy as np

        if isinstance(cell, list | tuple):
            return np.asarray(cell, dtype=np.float32)
        return cell


def line(values: RawValue) -> Shown:
    """A series of numbers [T], thinned."""
    step = max(1, len(values) // LONGEST_LINE)
    return Shown("line", [round(float(value), 5) for value in values[::step]])


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def first_member(value: RawValue, declared: TensorType) -> RawValue:
    """Of a value with group axes (captions, frames), the first present member; None without one."""
    for _ in declared.axes[1:]:
        members = () if value is None else value
        value = next((member for member in members if member is not None), None)
    return value


def modality(name: str) -> Modality:
    """The registered modality of this name; raises `ComponentError`, which names the nearest."""
    found = registry().get("modality", name)
    assert issubclass(found, Modality)
    return _made(found)


@cache
def _made(of: type[Modality]) -> Modality:
    return of()


def is_raw(name: str) -> bool:
    """Whether values of a modality are raw data, which only an encoder reads; False for an unknown one."""
    try:
        return modality(name).role == "raw"
    except ComponentError:
        return False


def check_modalities(types: Mapping[str, TensorType]) -> None:
    """Raise `ComponentError` for a declared type whose modality is not registered."""
    for name, declared in types.items():
        try:
            modality(declared.modality)
        except ComponentError as error:
            raise ComponentError(
                f"`{name}` is declared as {declared.modality!r}, which is no modality",
                found=declared.modality, expected=error.expected, hint=error.hint,
            ) from None  # fmt: skip


__all__ = ["Modality", "Role", "Shown", "check_modalities", "first_member", "is_raw", "line", "modality", "shortened"]
