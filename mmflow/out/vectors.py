"""Files of vectors: Parquet, batch by batch, or npz; with the ids of their rows, chosen fields, and what made them.

Parquet: `id`, a column of lists of float32 for each encoder (null where a row is absent), and the fields. npz: `id`,
an array [N, ...] for each encoder (NaN where absent), and the fields. `about` (metadata of the Parquet file, an array
of the npz) is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, NotRequired, Protocol, TypeAlias, TypedDict, cast

from mmflow.compat.fsspec import filesystem_of, opened
from mmflow.out.coding import Coded, decoded
from mmflow.plugin.component import ComponentError
from mmflow.plugin.references import Written
from mmflow.plugin.values import RawValue

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as arrow

_ABOUT = b"mmflow.vectors"

Fields: TypeAlias = Mapping[str, Sequence[RawValue]]
"""A plain value a row, by the field's name."""


class About(TypedDict):
    """What made the vectors of a file."""

    model: str
    """The run, or the folder, and the stage."""
    scores: dict[str, Written]
    """By encoder, the score that compares its vectors, as the language writes it."""
    normalized: bool
    codes: NotRequired[dict[str, Coded]]
    """By encoder, how its vectors are stored in few bytes; they are those that its score compares."""


class Writer(Protocol):
    """Takes the rows of a file of vectors, batch by batch."""

    def add(self, ids: Sequence[str], vectors: Mapping[str, np.ndarray], fields: Fields) -> None:
        """`vectors` [n, ...] float32 by encoder, or codes that `about` names, NaN in absent rows; a plain value a row
        for each field."""
        ...


@dataclass(frozen=True)
class Vectors:
    """A file of vectors, read whole."""

    ids: list[str]
    vectors: Mapping[str, np.ndarray]
    """float32 [N, ...] by encoder, NaN in absent rows."""
    fields: Mapping[str, Sequence[RawValue]]
    about: About


@contextmanager
def vectors_file(url: str, about: About) -> Iterator[Writer]:
    """Write a file of vectors at a path or an fsspec URL, `.parquet` or `.npz` by its name; none where it fails.

    Raises `ComponentError` for another name, and for a place that cannot be written.
    """
    kind = kind_of(url)
    try:
        with replacing(url) as file:
            made = _ParquetWriter(file, about) if kind == "parquet" else _NpzWriter(file, about)
            yield made
            made.close()
    except OSError as error:
        raise ComponentError(f"{url} cannot be written: {error}", found=url) from error


def read_vectors(url: str) -> Vectors:
    """The file of vectors at a path or an fsspec URL; raises `ComponentError` where there is none."""
    kind = kind_of(url)
    try:
        with opened(url) as file:
            data = BytesIO(file.read())
        return _read_parquet(data) if kind == "parquet" else _read_npz(data)
    except FileNotFoundError:
        raise ComponentError(f"no file {url}", hint="mmflow embed RUN DATA writes it") from None
    except (OSError, ValueError, KeyError) as error:
        raise ComponentError(
            f"{url} is no file of vectors: {error}", hint="mmflow embed RUN DATA writes one"
        ) from error


def kind_of(url: str) -> str:
    """`parquet` or `npz`; raises `ComponentError`."""
    kind = url.rpartition(".")[2].lower()
    if kind not in ("parquet", "npz"):
        raise ComponentError(f"{url}: vectors are written as .parquet or .npz", found=url)
    return kind


@contextmanager
def replacing(url: str) -> Iterator[IO[bytes]]:
    """A file to write at a path or an fsspec URL, which is there whole at the end, or as it was."""
    filesystem, path = filesystem_of(url)
    if "/" in path:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    part = f"{path}.part"
    try:
        with filesystem.open(part, "wb") as file:
            yield cast("IO[bytes]", file)
        filesystem.mv(part, path)
    except BaseException:
        if filesystem.exists(part):
            filesystem.rm(part)
        raise


class _ParquetWriter:
    def __init__(self, file: IO[bytes], about: About) -> None:
        self._file, self._about = file, about
        self._writer: Any = None

    def add(self, ids: Sequence[str], vectors: Mapping[str, np.ndarray], fields: Fields) -> None:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        columns = {"id": arrow.array(list(ids), arrow.string())}
        codes = self._about.get("codes", {})
        columns |= {name: _lists(values, codes.get(name)) for name, values in vectors.items()}
        columns |= {name: arrow.array(list(values)) for name, values in fields.items()}
        table = arrow.table(columns)
        if self._writer is None:
            schema = table.schema.with_metadata({_ABOUT: json.dumps(self._about)})
            self._writer = parquet.ParquetWriter(self._file, schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _lists(values: np.ndarray, coded: Coded | None) -> arrow.Array:
    import numpy as np
    import pyarrow as arrow

    absent = np.asarray(np.isnan(values.reshape(len(values), -1)).all(axis=1)).tolist()
    kind = arrow.float32() if coded is None else arrow.uint8() if coded["to"] == "binary" else arrow.int8()
    values = values if coded is None else np.nan_to_num(values).astype(np.int16)
    for _ in range(values.ndim - 1):
        kind = arrow.list_(kind)
    return arrow.array([None if gone else row for row, gone in zip(values.tolist(), absent, strict=True)], kind)


class _NpzWriter:
    def __init__(self, file: IO[bytes], about: About) -> None:
        self._file, self._about = file, about
        self._ids: list[str] = []
        self._vectors: dict[str, list[np.ndarray]] = {}
        self._fields: dict[str, list[RawValue]] = {}

    def add(self, ids: Sequence[str], vectors: Mapping[str, np.ndarray], fields: Fields) -> None:
        self._ids += ids
        for name, values in vectors.items():
            self._vectors.setdefault(name, []).append(values)
        for name, column in fields.items():
            self._fields.setdefault(name, []).extend(column)

    def close(self) -> None:
        import numpy as np

        vectors = {name: np.concatenate(parts) for name, parts in self._vectors.items()}
        for name, coded in self._about.get("codes", {}).items():
            if np.isnan(vectors[name]).any():
                message = f"rows of {name} are absent, and an array of codes has no place for that"
                raise ComponentError(message, hint="write a .parquet file")
            vectors[name] = vectors[name].astype(np.uint8 if coded["to"] == "binary" else np.int8)
        fields = {name: _plain_array(values) for name, values in self._fields.items()}
        about = np.array(json.dumps(self._about))
        arrays = {"id": np.array(self._ids, dtype=str), "about": about, **vectors, **fields}
        np.savez(self._file, allow_pickle=False, **arrays)


def _plain_array(values: Sequence[RawValue]) -> np.ndarray:
    import numpy as np

    if any(value is None for value in values):
        numbers = all(value is None or isinstance(value, int | float) for value in values)
        values = [(np.nan if numbers else "") if value is None else value for value in values]
    return np.array(values if all(isinstance(value, int | float) for value in values) else [str(v) for v in values])


def _read_parquet(data: BytesIO) -> Vectors:
    import numpy as np
    import pyarrow.parquet as parquet

    table = parquet.read_table(data)
    about: About = json.loads((table.schema.metadata or {})[_ABOUT])
    vectors: dict[str, np.ndarray] = {}
    fields: dict[str, Sequence[RawValue]] = {}
    for name in table.column_names:
        column = table.column(name).to_pylist()
        if name in about["scores"]:
            shape = next((np.asarray(row).shape for row in column if row is not None), ())
            gone = np.full(shape, np.nan, np.float32)
            vectors[name] = np.array([gone if row is None else row for row in column], np.float32)
            vectors[name] = _plain(vectors[name], name, about)
        elif name != "id":
            fields[name] = column
    return Vectors(table.column("id").to_pylist(), vectors, fields, about)


def _read_npz(data: BytesIO) -> Vectors:
    import numpy as np

    with np.load(data, allow_pickle=False) as stored:
        about: About = json.loads(str(stored["about"]))
        names = [name for name in stored.files if name not in ("id", "about")]
        vectors = {name: _plain(stored[name], name, about) for name in names if name in about["scores"]}
        fields = {name: stored[name].tolist() for name in names if name not in vectors}
        return Vectors(stored["id"].tolist(), vectors, fields, about)


def _plain(values: np.ndarray, name: str, about: About) -> np.ndarray:
    """The vectors that are stored, or that codes give back."""
    coded = about.get("codes", {}).get(name)
    return values if coded is None else decoded(values.astype("float32"), coded)
