"""Columns of a table: the modality of a field (declared or told by its values), and cells as raw values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mmflow.plugin import ComponentError, Modality, TensorType
from mmflow_sources.decoding.kinds import kind_of_content, looks_like_image, looks_like_sound, looks_like_video
from mmflow_sources.names import shown, valid

READ_HERE = ("image", "audio", "video", "text", "label", "labels", "number", "vector", "series")
"""Modalities whose cells are read here; those of plugins read their own."""
LABEL_NAMES = frozenset({"label", "class", "category", "target", "y", "class_name", "species"})
EXACT = 2**24
"""Whole numbers up to this one are exact as float32."""
INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
LOOKED_AT = 1000
"""Cells that are looked at to tell the modality of a column."""


def _class_text(raw: Any) -> Any:
    return str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw


ClassName = Annotated[str, BeforeValidator(_class_text, json_schema_input_type=str | int | float | bool)]
"""A class, which a spec may write as a number."""


def _readable(name: str) -> str:
    if name not in READ_HERE:
        Modality.component(name)
    return name


class TableColumn(BaseModel):
    """The column behind a field. A bare string in a spec is `column`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str | None = Field(None, description="name in the table; that of the field by default")
    modality: Annotated[str, AfterValidator(_readable)] | None = Field(
        None, description=f"{', '.join(READ_HERE)}, or one of a plugin; told by the values where unset"
    )
    names: tuple[ClassName, ...] = Field(
        (), description="class names in the order of their numbers; collected where unset"
    )
    required: bool = Field(False, description="a row without it is a bad sample; otherwise it is absent there")
    rate: int = Field(16_000, ge=1, description="samples a second that sound is brought to")
    frames: int = Field(16, ge=1, le=4096, description="frames of a video, evenly spaced; fewer where it is shorter")
    axis: str = Field("item", description="group axis of a column with several values a row, such as captions")


@dataclass(frozen=True)
class Stated:
    """Facts of a column that its table states: class names, whether numbers are whole (None: untold), the largest."""

    names: tuple[str, ...] = ()
    integral: bool | None = None
    largest: Callable[[], int] | None = None
    """The largest magnitude of whole numbers, where it is found quickly."""


class Column:
    """A column with everything known: reads a cell, or states its fault (`ValueError`)."""

    def __init__(
        self, field: str, declared: TableColumn, cells: Iterable[Any], stated: Stated | None = None, whole: bool = True
    ) -> None:
        """`cells` are all of the column, or the first ones (`whole` false)."""
        names = stated.names if stated is not None else ()
        self.field, self.name, self.required = field, declared.column or field, declared.required
        cells = iter(cells)
        head = list(islice(cells, LOOKED_AT))
        seen = [cell for cell in head if not _empty(cell)]
        lists = bool(seen) and not isinstance(seen[0], str) and hasattr(seen[0], "__len__")
        named = ("labels" if lists else "label") if names else None
        self.modality: str = declared.modality or named or _told(self.name, seen)
        self.several = self.modality in ("text", "image", "audio") and any(isinstance(c, (list, tuple)) for c in seen)
        self.axis, self.rate, self.frames = declared.axis, declared.rate, declared.frames
        self.in_files = self.modality in ("image", "audio", "video")
        self.names = declared.names or names
        self.coded = names if declared.names and names else ()
        """Names by the numbers in the table, where the spec declares the classes in another order."""
        if self.coded and not set(self.coded) <= set(self.names):
            missing = next(name for name in self.coded if name not in self.names)
            raise ComponentError(
                f"column {self.name!r}: `names` lacks {missing!r}, a class that the table states",
                found=", ".join(self.names[:20]), expected=", ".join(self.coded[:20]),
            )  # fmt: skip
        self.size: tuple[int | None, ...] = ()
        if self.modality in ("label", "labels") and not self.names:
            if not whole:
                raise ComponentError(
                    f"field {self.field!r} holds classes, whose names only a pass over all data would tell",
                    hint=f"write them: `columns: {{{field}: {{column: {self.name}, names: [...]}}}}`, or leave it out",
                )
            self.names = _collected(self.field, self.modality, head, cells)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        if len(self.numbers) < len(self.names):
            raise ComponentError(f"column {self.name!r}: a class name stands in `names` twice")
        self.integral, self.dtype = False, "float32"
        if self.modality == "number":
            self.integral, large = _integral(head, cells if whole else (), stated)
            # Of the rest of a stream nothing is known: small numbers are exact as floats, too.
            self.integral = self.integral and (whole or large)
            self.dtype = "int64" if self.integral and large else "float32"
        if self.modality in ("vector", "series"):
            self.size = _width(self.field, self.modality, seen)
        self.form: Modality | None = None
        if self.modality not in READ_HERE:
            form = Modality.component(self.modality)()
            assert isinstance(form, Modality)
            self.form, self.size = form, _size(form, seen)

    def type(self) -> TensorType:
        axes = ("sample", self.axis) if self.several else ("sample",)
        groups = (None,) if self.several else ()
        if self.modality == "image":
            return TensorType("image", axes, (None, None, 3), dtype="uint8", groups=groups)
        if self.modality == "video":
            return TensorType("video", ("sample", "frame"), (None, None, 3), dtype="uint8", groups=(None,))
        if self.modality == "audio":
            return TensorType("audio", axes, (None,), groups=groups, rate=self.rate)
        if self.modality in ("label", "labels"):
            size = (None,) if self.modality == "labels" else ()
            return TensorType(self.modality, axes, size, dtype="int64", names=self.names)
        return TensorType(self.modality, axes, self.size, self.dtype, groups=groups)

    def value(self, cell: Any) -> Any:
        """The raw value of a cell that holds no path; None where it is empty."""
        if _empty(cell):
            if self.required:
                raise ValueError("empty, but required")
            return None
        if self.modality == "text":
            members = cell if isinstance(cell, (list, tuple)) else [cell]
            if any(isinstance(member, (Mapping, list, tuple)) for member in members):
                raise ValueError(f"{str(cell)[:60]!r} is no text")
            if not self.several and members is cell:
                raise ValueError(f"{len(cell)} texts where those before have one")
            return [None if m is None else valid(str(m)) for m in members] if self.several else valid(str(cell))
        if self.modality == "label":
            # -1 is how unlabeled samples of a test split are marked where classes are stored as numbers.
            return None if _class_name(cell) == "-1" and "-1" not in self.numbers else self._number_of(cell)
        if self.modality == "labels":
            return [self._number_of(member) for member in _listed(cell)]
        if self.modality == "number":
            return _whole(cell) if self.integral else _number(cell)
        if self.form is not None:
            value = self.form.read(cell)
            self.form.check(value, self.type())
            return value
        return self._vector(cell)

    def _number_of(self, cell: Any) -> int:
        name = _class_name(cell)
        if self.coded and isinstance(cell, int) and 0 <= cell < len(self.coded):
            name = self.coded[cell]
        if name not in self.numbers:
            # Tables often store classes as numbers; where names are numbers themselves, a text can only be a name.
            is_name = isinstance(cell, bool) or (isinstance(cell, str) and any(map(str.isdecimal, self.names)))
            if not is_name and name.isdecimal() and int(name) < len(self.names):
                return int(name)
            shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise ValueError(f"{name!r} is none of the classes ({shown})")
        return self.numbers[name]

    def _vector(self, cell: Any) -> Any:
        import numpy as np

        try:
            values = np.asarray(_listed(cell), dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a {self.modality} of numbers: {str(cell)[:60]!r}") from error
        if self.modality == "vector" and values.shape != self.size:
            raise ValueError(f"{list(values.shape)} numbers where others have {list(self.size)}")
        if not np.isfinite(values).all():
            raise ValueError(f"NaN or infinite at place {int(np.flatnonzero(~np.isfinite(values))[0])}")
        return values


def _size(form: Modality, seen: Sequence[Any]) -> tuple[int | None, ...]:
    """The content size of a plugin's modality, by its first value; a length is unknown."""
    shape: tuple[int, ...] = getattr(form.read(seen[0]), "shape", ()) if seen else ()
    return (None, *shape[1:]) if form.ragged and shape else shape


def _told(name: str, seen: Sequence[Any]) -> str:
    """The modality of a column, told by its first values and by its name."""
    if not seen:
        return "text"
    first = seen[0]
    # One value beside lists of several is a list of one.
    lists = any(isinstance(cell, (list, tuple)) for cell in seen)
    flat = (m for cell in seen for m in (cell if isinstance(cell, (list, tuple)) else (cell,)))
    members = [member for member in flat if member is not None]
    file = members[0] if members else None
    if isinstance(file, bytes) or (isinstance(file, Mapping) and {"bytes", "path"} & set(file)):
        return kind_of_content(file)
    if isinstance(file, Mapping):
        raise ComponentError(
            f"column {name!r} holds objects, which are no modality", hint="name the others in `columns`, without it"
        )
    if isinstance(first, str) and first[:1] == "[" and all(_numbers(cell) is not None for cell in seen[:20]):
        return "vector" if len({len(_numbers(cell) or ()) for cell in seen}) == 1 else "series"
    if members and all(isinstance(member, str) for member in members):
        files: tuple[tuple[str, Any], ...] = (
            ("image", looks_like_image), ("audio", looks_like_sound), ("video", looks_like_video)
        )  # fmt: skip
        for modality, looks in files:
            if all(map(looks, members)):
                return modality
        if name.lower() in LABEL_NAMES:
            return "labels" if lists else "label"
        return "number" if not lists and all(map(_is_number, members)) and not _oversized(members) else "text"
    if hasattr(first, "__len__") and not isinstance(first, str):
        if any(not hasattr(cell, "__len__") for cell in seen):
            raise ComponentError(f"column {name!r} holds lists and single values", hint="say what it is: `modality:`")
        return "vector" if len({len(cell) for cell in seen}) == 1 else "series"
    if name.lower() in LABEL_NAMES or isinstance(first, bool):
        return "label"
    return "number" if all(map(_is_number, seen)) and not _oversized(seen) else "text"


def _collected(field: str, modality: str, head: Sequence[Any], rest: Iterable[Any]) -> tuple[str, ...]:
    """Class names, sorted: as numbers where all are whole numbers."""
    found: set[str] = set()
    for cells in (head, rest):
        for cell in cells:
            if not _empty(cell):
                found.update(_class_name(member) for member in (_listed(cell) if modality == "labels" else (cell,)))
    if not found:
        raise ComponentError(f"field {field!r} holds no class at all", expected="at least one value")
    # -1 marks samples without a label where classes are numbers.
    if "-1" in found and len(found) > 1 and all(name.isdecimal() for name in found - {"-1"}):
        found.remove("-1")
    # Numbers that nobody named are classes only where they stand in the data: 3 and 7 alone are two classes.
    if all(name.isdecimal() and str(int(name)) == name for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def _width(field: str, modality: str, seen: Sequence[Any]) -> tuple[int | None, ...]:
    for cell in seen:
        try:
            import numpy as np

            shape = np.asarray(_listed(cell), dtype=np.float32).shape
        except (TypeError, ValueError):
            continue
        return shape if modality == "vector" else (None, *shape[1:])
    raise ComponentError(f"field {field!r} holds no {modality}", expected="lists of numbers")


def _class_name(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return shown(str(cell).strip())


def _listed(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell if isinstance(cell, Sequence) or hasattr(cell, "__array__") else [cell]
    if cell[:1] == "[":
        return json.loads(cell)
    return [part for part in cell.replace(";", " ").replace("|", " ").split() if part]


def _numbers(cell: Any) -> list[float] | None:
    try:
        values = json.loads(cell)
    except (TypeError, ValueError, RecursionError):
        return None
    return values if isinstance(values, list) and all(isinstance(v, (int, float)) for v in values) else None


def _oversized(cells: Sequence[Any]) -> bool:
    """Whether one of these whole numbers does not fit 64 bits: then they are names of things."""
    return all(map(is_integral, cells)) and any(not -(2**63) <= int(cell) < 2**63 for cell in cells)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _integral(head: Sequence[Any], rest: Iterable[Any], stated: Stated | None) -> tuple[bool, bool]:
    """Whether all numbers of a column are whole, so that they stay exact, and whether float32 would not hold them."""
    if stated is not None and stated.integral is not None and stated.largest is not None:
        return stated.integral, stated.integral and stated.largest() > EXACT
    if stated is not None and stated.integral is False:
        return False, False
    large = found = False
    for cells in (head, rest):
        for cell in cells:
            if _empty(cell):
                continue
            if not is_integral(cell):
                return False, False
            found, large = True, large or abs(int(cell)) > EXACT
    return found, large


def is_integral(cell: Any) -> bool:
    """Whether a cell is a whole number as such: `7` and `"7"`, not `7.0`."""
    if isinstance(cell, str):
        return INTEGER.fullmatch(cell) is not None
    # numpy's integers have the method that integers have.
    return isinstance(cell, int) or (hasattr(cell, "__index__") and not hasattr(cell, "__len__"))


def _whole(cell: Any) -> int:
    try:
        value = int(cell) if is_integral(cell) else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError(f"{str(cell)[:60]!r} is no whole number, as the others are")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit 64 bits: read it as text, `modality: text`")
    return value


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{str(cell)[:60]!r} is no number") from None
    if math.isinf(value):
        raise ValueError("an infinite number")
    return None if math.isnan(value) else value


def _empty(cell: Any) -> bool:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return isinstance(cell, (str, list, tuple)) and (not cell.strip() if isinstance(cell, str) else not cell)
