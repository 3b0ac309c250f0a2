"""Values that a user hands over, as raw values of the fields that encoders read: files, texts, images, arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ConfigDict

from mmflow.compat.fsspec import opened
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source
from mmflow.plugin.modality import Modality, modality
from mmflow.plugin.recorded import GivenReader
from mmflow.plugin.registry import registry
from mmflow.plugin.values import RawValue, Sample, TensorType

IN_FILES = ("image", "audio", "video")
"""Modalities whose values are files: a text that is handed over for one of them is a path or a URL."""


class GivenRows(Source, name="given"):
    """Samples at hand, as a source. It is made for one call, and no spec names it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    types: dict[str, TensorType]
    """Declared types of the fields."""
    samples: tuple[Sample, ...]

    def fields(self) -> Mapping[str, TensorType]:
        return self.types

    def open(self) -> GivenReader:
        return GivenReader(self.samples)


def given_rows(values: Mapping[str, Sequence[RawValue]], types: Mapping[str, TensorType]) -> GivenRows:
    """The rows of some fields, `values[field]` with one value a row (None where it is absent).

    Raises `ComponentError` for fields of different lengths and for a value that is none of its field.
    """
    counts = {len(column) for column in values.values()}
    if len(counts) > 1:
        said = ", ".join(f"{len(column)} of {name}" for name, column in values.items())
        raise ComponentError(f"the fields have different numbers of values: {said}")
    columns = {name: [_raw(name, place, value, types[name]) for place, value in enumerate(column)]
               for name, column in values.items()}  # fmt: skip
    samples: list[Sample] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return GivenRows(types={name: types[name] for name in values}, samples=tuple(samples))


def _raw(field: str, place: int, value: RawValue, declared: TensorType) -> RawValue:
    try:
        return _grouped(value, declared, len(declared.axes) - 1)
    except ComponentError:
        raise
    except (ValueError, OSError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise ComponentError(
            f"value {place} for the field {field!r} ({declared.modality}): {said}",
            found=type(value).__name__, expected=modality(declared.modality).form,
        ) from error  # fmt: skip


def _grouped(value: RawValue, declared: TensorType, groups: int) -> RawValue:
    """A value, or the members of its group axes (captions, frames)."""
    if value is None:
        return None
    if groups and isinstance(value, list | tuple):
        return [_grouped(member, declared, groups - 1) for member in value]
    if groups and not _is_file(value):
        raise ValueError(f"a list is wanted, one value for each {declared.axes[-groups]}")
    return _single(value, declared, modality(declared.modality))


def _single(value: RawValue, declared: TensorType, form: Modality) -> RawValue:
    name = declared.modality
    if name in IN_FILES and _is_file(value):
        value = value if isinstance(value, bytes) else _content(os.fspath(value))
        found = registry().plugins.hook.mmflow_decode(modality=name, content=value, declared=declared)
        if found is None:
            raise ValueError(f"no installed plugin reads files of {name}s")
        return found
    if isinstance(value, str) and declared.names:
        if value not in declared.names:
            raise ValueError(f"{value!r} is none of the classes {', '.join(declared.names[:8])}")
        return declared.names.index(value)
    array = _array(value)
    if array is None and name in IN_FILES:
        array = registry().plugins.hook.mmflow_decode(modality=name, content=value, declared=declared)
    raw = form.read(value) if array is None else array
    form.check(raw, declared)
    return raw


def _is_file(value: RawValue) -> bool:
    return isinstance(value, str | bytes | Path)


def _content(path: str) -> bytes:
    with opened(os.path.expanduser(path)) as file:
        return file.read()


def _array(value: RawValue) -> RawValue:
    """A NumPy array of an array or a tensor; None for anything else."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        return value.detach().cpu().numpy()
    return None
