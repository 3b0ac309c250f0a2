"""The source `arrays`: one array a field, in .npz, .npy or .safetensors files; the first axis is the sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mmflow.plugin import ComponentError, LeftOut, TensorType, outside_identity
from mmflow_sources.access.network import NetworkError
from mmflow_sources.base import FileSource, told_apart
from mmflow_sources.columns import EXACT, ClassName
from mmflow_sources.names import decoded, shown, valid

if TYPE_CHECKING:
    import numpy as np

    from mmflow_sources.access.files import Folder

Modality = Literal["image", "text", "label", "number", "vector", "series", "tokens", "audio"]
LABEL_NAMES = frozenset({"label", "labels", "class", "target", "targets", "y"})


class ArrayColumn(BaseModel):
    """The array behind a field. A bare string in a spec is `array`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    array: str | None = Field(None, description="name in the file; that of the field by default")
    modality: Modality | None = Field(None, description="told by shape and type where unset")
    names: tuple[ClassName, ...] = Field((), description="class names in the order of their numbers")


def _column(raw: Any) -> Any:
    return {"array": raw} if isinstance(raw, str) else raw


class Arrays(FileSource, name="arrays"):
    """Arrays of numbers or text, all as long as there are samples: a .npz or .safetensors file, or one .npy file.

    `columns` maps fields to arrays; without it every array is a field. uint8 arrays [N, H, W(, C)] are images, whole
    numbers [N] named like labels are classes, other numbers [N] are numbers, [N, D] vectors, [N, T, D] series,
    and text is text. An array `id` gives the ids, else the numbers of the rows do. NaN is an absent number; in a vector
    it makes a bad sample, and so do an id that was there before and a class that there is not. Files are held in
    memory, .npy files on a local disk are mapped.
    """

    example: ClassVar[str] = "data: {train: {use: arrays, url: train.npz, columns: {image: x, label: y}}}"

    url: str = outside_identity(min_length=1)
    columns: (
        dict[str, Annotated[ArrayColumn, BeforeValidator(_column, json_schema_input_type=str | ArrayColumn)]] | None
    ) = None

    def marks(self) -> tuple[str, ...]:
        return (self.version_of(self.url, "a .npz, .npy or .safetensors file"),)

    def load(self) -> ArraysReader:
        return ArraysReader(self)

    def fingerprint(self) -> Any:
        ((folder, names),) = self.files()
        return folder.fingerprint(names)

    def files(self) -> Sequence[tuple[Folder, Collection[str]]]:
        from mmflow_sources.access.files import split_url

        parent, name = split_url(self.url)
        return [(self.folder(parent), [name])]


class ArraysReader:
    """Holds the arrays, read when first needed in a process."""

    def __init__(self, source: Arrays) -> None:
        from mmflow_sources.access.files import split_url

        self.source = source
        parent, self.file = split_url(source.url)
        self.folder = source.folder(parent)
        self._arrays: dict[str, np.ndarray] | None = None
        declared = source.columns
        arrays = self.arrays
        if declared is None:
            declared = {name: ArrayColumn.model_validate({}) for name in arrays if name != "id"}
        self.names: dict[str, str] = {}
        self.types: dict[str, TensorType] = {"id": TensorType("id")}
        self.numbers: dict[str, dict[int, int]] = {}
        """For fields of classes: the number of each value that stands in the array."""
        for field, column in declared.items():
            name = column.array or field
            if name not in arrays:
                raise ComponentError(
                    f"{source.url} has no array {name!r}", found=name, expected=f"one of: {', '.join(arrays)}"
                )
            self.names[field] = name
            type_ = self.types[field] = _type(field, arrays[name], column)
            if type_.modality == "label":
                told = range(len(type_.names)) if column.names else map(int, type_.names)
                self.numbers[field] = {value: number for number, value in enumerate(told)}
        if not self.names:
            raise ComponentError(f"{source.url} holds no arrays", found=source.url)
        lengths = {name: len(arrays[name]) for name in self.names.values()}
        if len(set(lengths.values())) != 1:
            found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise ComponentError(f"the arrays of {source.url} have different lengths ({found})", found=found)
        self.length = next(iter(lengths.values()))
        if not self.length:
            raise ComponentError(f"{source.url} has no samples", found=source.url)
        self._ids: list[str] | None = None
        self._bad_ids: dict[int, str] = {}
        if "id" in arrays:
            self._ids, self._bad_ids = told_apart(
                [
                    shown(id.decode("utf-8", "surrogateescape") if isinstance(id, bytes) else str(id))
                    for id in arrays["id"].tolist()
                ],
                lambda index: f"row {index}",
            )
        if self._bad_ids and source.bad == "error":
            raise ComponentError(f"{source.url}, {next(iter(self._bad_ids.values()))}", found=source.url)

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        if self._arrays is None:
            self._arrays = _read(self.folder, self.file, self.source.max_ratio)
        return self._arrays

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_arrays": None}

    @property
    def in_process(self) -> bool:
        return self.folder.in_process

    def __len__(self) -> int:
        return self.length

    def id(self, index: int) -> str:
        return str(index) if self._ids is None else self._ids[index]

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        wanted = self.names if fields is None else {name: self.names[name] for name in fields if name in self.names}
        sample: dict[str, Any] = {"id": self.id(index)}
        if index in self._bad_ids:
            raise self.source.refused(f"{self.source.url}, {self._bad_ids[index]}")
        for field, name in wanted.items():
            try:
                sample[field] = self._value(field, self.arrays[name][index])
            except ValueError as error:
                raise self.source.refused(f"{self.source.url}, row {index}: {error}") from error
        return sample

    def left_out(self) -> Sequence[LeftOut]:
        return ()

    def static(self) -> Mapping[str, Any]:
        return {}

    def _value(self, field: str, raw: Any) -> Any:
        import numpy as np

        type_ = self.types[field]
        if type_.modality == "text":
            return decoded(raw) if isinstance(raw, bytes) else valid(str(raw))
        if type_.modality == "label":
            number = self.numbers[field].get(int(raw)) if np.isfinite(raw) and int(raw) == raw else None
            if number is None:
                raise ValueError(f"{field} {raw} is none of the {len(type_.names)} classes")
            return number
        if type_.modality == "number":
            if raw.dtype.kind in "iu":
                # Exact, beyond 2^53 too.
                if int(raw) >= 2**63:
                    raise ValueError(f"{field} {int(raw)} does not fit 64 bits with a sign")
                return int(raw)
            if np.isinf(raw):
                raise ValueError(f"{field} is infinite")
            return None if np.isnan(raw) else float(raw)
        value = np.array(raw, dtype=np.float32 if type_.modality in ("vector", "series", "audio") else None)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{field} holds NaN or infinite values")
        if type_.modality == "image":
            value = value[..., None] if value.ndim == 2 else value
            return np.repeat(value, 3, axis=2) if value.shape[2] == 1 else value
        return value


def _read(folder: Folder, file: str, max_ratio: float) -> dict[str, np.ndarray]:
    import io
    import zipfile

    import numpy as np

    from mmflow_sources.access.files import check_unfolding

    name = file if folder.on_disk else file.partition("?")[0]
    try:
        if name.endswith(".npy") and folder.on_disk:
            if fault := folder.no_file(name, anywhere=True):
                raise ValueError(f"it is {fault}")
            return {name.removesuffix(".npy"): np.load(folder.path(name), mmap_mode="r", allow_pickle=False)}
        data = folder.read(file, anywhere=True)
        if name.endswith(".safetensors"):
            from safetensors.numpy import load

            return load(data)
        if name.endswith(".npz") and zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                check_unfolding(name, len(data), sum(member.file_size for member in archive.infolist()), max_ratio)
        found = np.load(io.BytesIO(data), allow_pickle=False)
        return {name.removesuffix(".npy"): found} if name.endswith(".npy") else {key: found[key] for key in found.files}
    except NetworkError:
        raise
    except Exception as error:
        # numpy takes a format that it does not know for a pickle.
        text = str(error)
        if "pickle" in text:
            text = "neither .npz nor .npy" if "pickled" in text else "arrays of Python objects are not read"
        raise ComponentError(f"{folder.url}/{file} holds no arrays: {text}", found=file) from error


def _type(field: str, array: np.ndarray, column: ArrayColumn) -> TensorType:
    kind = array.dtype.kind
    shape: tuple[int, ...] = tuple(array.shape)
    modality = column.modality
    if kind not in "biufUS":
        raise ComponentError(
            f"array {field!r} holds {array.dtype}, which is no modality", found=str(array.dtype),
            expected="numbers or text", hint="name the others in `columns`, without it",
        )  # fmt: skip
    if modality is None:
        if kind in "US":
            modality = "text"
        elif array.dtype.name == "uint8" and len(shape) in (3, 4):
            modality = "image"
        elif len(shape) == 1:
            modality = "label" if kind in "iub" and (column.names or field.lower() in LABEL_NAMES) else "number"
        else:
            modality = "vector" if len(shape) == 2 else "series"
    if not shape or (modality in ("label", "number", "text") and len(shape) != 1):
        raise ComponentError(f"array {field!r} of shape {list(shape)} is no {modality}", found=str(list(shape)))
    if modality == "image":
        if array.dtype.name != "uint8" or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
            raise ComponentError(
                f"array {field!r} is no images: {array.dtype} {list(shape)}", expected="uint8 [N, H, W], [N, H, W, 3]"
            )
        return TensorType("image", size=(*shape[1:3], 3), dtype="uint8")
    if modality == "label":
        names = column.names or _counted(field, array)
        return TensorType("label", dtype="int64", names=names)
    if modality == "number" and kind in "iu" and array.size:
        large = max(abs(int(array.min())), abs(int(array.max()))) > EXACT
        return TensorType("number", dtype="int64" if large else "float32")
    if modality in ("text", "number"):
        return TensorType(modality)
    return TensorType(modality, size=tuple(shape[1:]))


def _counted(field: str, array: np.ndarray) -> tuple[str, ...]:
    """The numbers that stand in the array, as names; raises `ComponentError` where they are no classes."""
    import numpy as np

    found = np.unique(array)
    found = found[found >= 0] if array.dtype.kind in "iuf" else found
    if not len(found) or not np.equal(np.mod(found.astype(np.float64), 1), 0).all():
        raise ComponentError(f"array {field!r} holds no classes", expected="whole numbers from 0")
    largest = int(found[-1])
    if largest >= 10 * len(found) + 100:
        raise ComponentError(
            f"array {field!r} holds {len(found)} classes with numbers up to {largest}", found=str(largest),
            expected="classes numbered from 0", hint="`modality: number`, if they are no classes",
        )  # fmt: skip
    return tuple(str(int(number)) for number in found)
