"""Real handwritten digits that ship with scikit-learn, with captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmflow.plugin import Field, Source, TensorType, address

if TYPE_CHECKING:
    import numpy as np

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

TEMPLATES = (
    "a handwritten {name}",
    "the digit {name}",
    "{a} {name} written by hand",
    "somebody wrote {a} {name}",
    "the number {name} in pencil",
    "this is {a} {name}",
)


class Digits(Source, name="digits"):
    """Handwritten digits, 8 x 8 pixels with 17 gray levels (Alpaydin and Kaynak, UCI, 1998), 1,797 in all.

    A fifth of the images, the same always, is `test`; `train` has the others, `all` both. Fields: `image` (uint8
    [pixels, pixels, 3], white on black), `caption`, `label` (named `zero` to `nine`).
    """

    requires: ClassVar[tuple[str, ...]] = ("sklearn",)
    example: ClassVar[str] = "data: {train: {use: digits, split: train}, test: {use: digits, split: test}}"

    split: Literal["train", "test", "all"] = "train"
    pixels: int = Field(32, ge=8, le=256, description="side of an image; enlarged bilinearly where it is more than 8")
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="draws the words of the captions")

    def fields(self) -> Mapping[str, TensorType]:
        return {
            "id": TensorType("id"),
            "image": TensorType("image", size=(self.pixels, self.pixels, 3), dtype="uint8"),
            "caption": TensorType("text"),
            "label": TensorType("label", dtype="int64", names=NAMES),
        }

    def open(self) -> DigitsReader:
        return DigitsReader(self)


class DigitsReader:
    """Reads from the arrays that scikit-learn installs; ids are `digit-0000` to `digit-1796`."""

    def __init__(self, source: Digits) -> None:
        from sklearn.datasets import load_digits

        self.source = source
        digits: Any = load_digits()
        # Fixed by the place in the file: neither a seed nor a library's version can move an image to the other side.
        test = [address("digits", "split", place) % 5 == 0 for place in range(len(digits.target))]
        wanted = {"train": False, "test": True}.get(source.split)
        self.places = [place for place, is_test in enumerate(test) if wanted is None or is_test == wanted]
        self.images: np.ndarray = digits.images[self.places]
        self.labels: np.ndarray = digits.target[self.places]

    def __len__(self) -> int:
        return len(self.places)

    def id(self, index: int) -> str:
        return f"digit-{self.places[index]:04d}"

    def index(self, id: str) -> int:
        return self.places.index(int(id.removeprefix("digit-")))

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        label = int(self.labels[index])
        words = TEMPLATES[address(self.source.seed, "digits", "caption", self.places[index]) % len(TEMPLATES)]
        return {
            "id": self.id(index),
            "image": self._image(index),
            "caption": words.format(name=NAMES[label], a="an" if label == 8 else "a"),
            "label": label,
        }

    def static(self) -> Mapping[str, Any]:
        return {}

    def _image(self, index: int) -> np.ndarray:
        import numpy as np
        from PIL import Image

        gray = Image.fromarray(np.rint(self.images[index] * (255 / 16)).astype(np.uint8))
        if self.source.pixels != 8:
            gray = gray.resize((self.source.pixels, self.source.pixels), Image.Resampling.BILINEAR)
        return np.repeat(np.asarray(gray)[:, :, None], 3, axis=2)
