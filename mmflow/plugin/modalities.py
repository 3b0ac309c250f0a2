"""The modalities that every installation has: raw data, numbers and labels, and outputs of encoders."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin.modality import Modality, Role, Shown
from mmflow.plugin.values import RawValue, TensorType, Tokens

if TYPE_CHECKING:
    from torch import Tensor

THUMBNAIL = 96
"""Longest side of an image in a report, in pixels."""
LONGEST_SOUND = 4
"""Seconds of a sound that a report plays."""
SOUND_RATE = 8000
"""Samples a second of a sound in a report, at most: a page with dozens of sounds stays small."""


# --- raw data, which an encoder reads ------------------------------------------------------------------------


class Image(Modality, name="image"):
    """An image. Bytes become float32 [C, H, W] in [0, 1] when rows are joined; floats keep their values."""

    form: ClassVar[str] = "uint8 array [H, W, C]"
    role: ClassVar[Role] = "raw"

    def check(self, value: RawValue, declared: TensorType) -> None:
        _array(value, (2, 3), self.form)

    def collate(
        self, values: Sequence[RawValue], declared: TensorType, template: RawValue = None
    ) -> Tensor | Tokens | list[RawValue]:
        from mmflow.plugin.collation import has_channels_last, images, without_tensors

        values, first = without_tensors(values, template)
        if has_channels_last(first):
            return images(values, first, declared)
        return super().collate(values, declared, first)

    def absent(self, rows: int, declared: TensorType) -> Tensor | list[None]:
        size = declared.size
        if rows and None in size:
            raise ValueError(f"no row has a value, and the size {list(size)} is not declared")
        if len(size) == 3:
            size = (size[2], size[0], size[1])
        return super().absent(rows, declared.with_(size=size))

    def blank(self, declared: TensorType) -> RawValue:
        if not declared.size:
            raise ValueError("the size of an image is not declared")
        return super().blank(declared.with_(dtype="uint8"))

    def show(self, value: RawValue, declared: TensorType) -> Shown:
        import numpy as np

        if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
            return Shown("image", thumbnail(value))
        return super().show(value, declared)


class Video(Image, name="video"):
    """A clip: an image [H, W, C] for each time, mostly over the group axis `frame`. A report shows the first."""

    form: ClassVar[str] = "uint8 array [T, H, W, C], or [H, W, C] for each frame"

    def check(self, value: RawValue, declared: TensorType) -> None:
        _array(value, (2, 3, 4), self.form)

    def show(self, value: RawValue, declared: TensorType) -> Shown:
        return super().show(value[0] if getattr(value, "ndim", 0) == 4 else value, declared)


class Text(Modality, name="text"):
    """A text: a list of str until an encoder's tokenizer makes ids of it."""

    form: ClassVar[str] = "str"
    role: ClassVar[Role] = "raw"
    ragged: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        if not isinstance(value, str):
            raise ValueError(f"{_said(value)}, not a str")

    def absent(self, rows: int, declared: TensorType) -> Tensor | list[None]:
        return [None] * rows

    def blank(self, declared: TensorType) -> RawValue:
        return ""

    def read(self, cell: RawValue) -> RawValue:
        return str(cell)


class Audio(Modality, name="audio"):
    """A sound: samples [T] in [-1, 1]. A report plays it where the declared type says the `rate`."""

    form: ClassVar[str] = "float32 array [samples] or [samples, channels]"
    role: ClassVar[Role] = "raw"
    ragged: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        _array(value, (1, 2), self.form)

    def show(self, value: RawValue, declared: TensorType) -> Shown:
        if declared.rate is None or getattr(value, "ndim", 0) != 1 or not len(value):
            return super().show(value, declared)
        return Shown("audio", wav(value, declared.rate))


class Graph(Modality, name="graph"):
    """A graph: any object that an encoder of graphs understands."""

    role: ClassVar[Role] = "raw"
    ragged: ClassVar[bool] = True

    def absent(self, rows: int, declared: TensorType) -> Tensor | list[None]:
        return [None] * rows

    def blank(self, declared: TensorType) -> RawValue:
        raise ValueError("a graph without content is not known")


# --- arrays and numbers --------------------------------------------------------------------------------------


class Series(Modality, name="series"):
    """Values over time [T] or [T, C]."""

    form: ClassVar[str] = "float32 array [T] or [T, C]"
    ragged: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        _array(value, (1, 2), self.form)


class Number(Modality, name="number"):
    """A number, integers too: float32, or float64 or int64 where declared."""

    form: ClassVar[str] = "a number"
    discrete: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        if not isinstance(value, int | float) and getattr(value, "shape", None) != ():
            raise ValueError(f"{_said(value)}, not a number")

    def collate(
        self, values: Sequence[RawValue], declared: TensorType, template: RawValue = None
    ) -> Tensor | Tokens | list[RawValue]:
        import numpy as np

        from mmflow.plugin.collation import numbers, without_tensors

        values, first = without_tensors(values, template)
        if isinstance(first, int | np.integer) and not isinstance(first, bool):
            return numbers(values, declared)
        return super().collate(values, declared, first)


class Label(Modality, name="label"):
    """The number of a class, from 0; `names` of the type are the classes' names."""

    form: ClassVar[str] = "an integer from 0"
    discrete: ClassVar[bool] = True
    classes: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        import numpy as np

        if not isinstance(value, int | np.integer | np.bool_):
            raise ValueError(f"{_said(value)}, not an integer")

    def absent(self, rows: int, declared: TensorType) -> Tensor | list[None]:
        import torch

        return torch.zeros((rows, *(size or 0 for size in declared.size)), dtype=torch.int64)

    def blank(self, declared: TensorType) -> RawValue:
        whole = declared.dtype.startswith(("int", "uint", "bool"))
        return super().blank(declared if whole else declared.with_(dtype="int64"))

    def caption(self, value: RawValue, declared: TensorType) -> str:
        return class_name(value, declared)


class LabelSet(Label, name="labels"):
    """Several classes: a list of their numbers, or a vector with a weight for each class."""

    form: ClassVar[str] = "a list of integers from 0, or an array [classes]"
    classes: ClassVar[bool] = False
    ragged: ClassVar[bool] = True

    def check(self, value: RawValue, declared: TensorType) -> None:
        if not isinstance(value, list | tuple):
            _array(value, (1,), self.form)

    def show(self, value: RawValue, declared: TensorType) -> Shown:
        if isinstance(value, list | tuple) or getattr(getattr(value, "dtype", None), "kind", "f") in "iu":
            return Shown("text", self.caption(value, declared))
        return Modality.show(self, value, declared)

    def caption(self, value: RawValue, declared: TensorType) -> str:
        return ", ".join(class_name(each, declared) for each in value)


class Mask(Modality, name="mask"):
    """True at places of an image [H, W], at patches, or at members of a sequence."""

    form: ClassVar[str] = "bool array"
    discrete: ClassVar[bool] = True


class Boxes(Modality, name="boxes"):
    """Boxes (left, top, right, bottom), in pixels or shares as the source says."""

    form: ClassVar[str] = "float32 array [4] or [boxes, 4]"
    ragged: ClassVar[bool] = True


class Id(Modality, name="id"):
    """A name of a sample, a speaker, a scene."""

    form: ClassVar[str] = "str"
    role: ClassVar[Role] = "raw"

    def absent(self, rows: int, declared: TensorType) -> Tensor | list[None]:
        return [None] * rows

    def blank(self, declared: TensorType) -> RawValue:
        return ""

    def read(self, cell: RawValue) -> RawValue:
        return str(cell)


# --- outputs of encoders --------------------------------------------------------------------------------------


class Vector(Modality, name="vector"):
    """A vector [D]."""

    form: ClassVar[str] = "float32 array [D]"
    role: ClassVar[Role] = "vector"


class TokenVectors(Modality, name="tokens"):
    """A sequence of vectors [L, D], or of ids [L], under a mask."""

    form: ClassVar[str] = "array [L, D], or ids int64 [L]"
    role: ClassVar[Role] = "tokens"
    ragged: ClassVar[bool] = True


class GridVectors(Modality, name="grid"):
    """Vectors on a grid [H, W, D]."""

    form: ClassVar[str] = "float32 array [H, W, D]"
    role: ClassVar[Role] = "grid"


class Logits(Modality, name="logits"):
    """Unnormalized scores of classes [C]."""

    form: ClassVar[str] = "float32 array [C]"


class AttentionMaps(Modality, name="attention"):
    """Weights of attention, by head: how much each query takes from each key [H, Q, K]."""

    form: ClassVar[str] = "float32 array [H, Q, K]"


class RowIndex(Modality, name="index"):
    """Numbers of rows, as a miner gives them."""

    form: ClassVar[str] = "int64"
    role: ClassVar[Role] = "index"
    discrete: ClassVar[bool] = True


def thumbnail(pixels: RawValue) -> str:
    """A small PNG of a uint8 image [H, W] or [H, W, C], as a data URI."""
    from PIL import Image as Pillow

    image = Pillow.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = BytesIO()
    image.convert("RGB").save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def wav(samples: RawValue, rate: int) -> str:
    """A sound [T] in [-1, 1] as a WAV file of 8 bits, as a data URI: its first `LONGEST_SOUND` seconds, brought to
    `SOUND_RATE` or below by means of as many samples as that takes."""
    import numpy as np

    together = -(-rate // SOUND_RATE)
    kept = np.asarray(samples[: LONGEST_SOUND * rate], dtype=np.float32)
    kept = kept[: len(kept) // together * together].reshape(-1, together).mean(1)
    data = np.round(np.clip(kept, -1, 1) * 127 + 128).astype(np.uint8).tobytes()
    low = rate // together
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, 1, low, low, 1, 8,
                       b"data", len(data))  # fmt: skip
    return "data:audio/wav;base64," + base64.b64encode(head + data).decode()


def class_name(value: RawValue, declared: TensorType) -> str:
    """The name of a class, or its number where the type names none."""
    number = int(value)
    return declared.names[number] if 0 <= number < len(declared.names) else str(number)


def _array(value: RawValue, dimensions: tuple[int, ...], form: str) -> None:
    if getattr(value, "ndim", None) not in dimensions:
        raise ValueError(f"{_said(value)}, not {form}")


def _said(value: RawValue) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}{'' if shape is None else f' {list(shape)}'}"
