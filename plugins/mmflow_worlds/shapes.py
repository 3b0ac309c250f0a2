"""The world of coloured shapes: pictures with complete truth, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from mmflow.data.random import numpy_generator
from mmflow.plugin import Field, Source, TensorType

if TYPE_CHECKING:
    from mmflow_worlds.scenes import Scene

Shape = Literal["circle", "square", "triangle", "diamond", "cross", "ring"]
Color = Literal["red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"]


class Shapes(Source, name="shapes"):
    """Coloured shapes on a plain background, one to four a picture, with every factor of variation as a field.

    The first thing of a picture is its main one: larger than the others. Fields: `image` (uint8 [pixels, pixels, 3]),
    `caption` (all things, as in "a large red circle above a small blue square"), `label` (colour and shape of the
    main thing, named as in "red circle"), its factors `shape`, `color`, `scale` (small, medium, large) and `place`,
    further `background` and `count`, and for each thing `boxes` (left, top, right, bottom in pixels), `masks` and
    `things` (its class, as in `label`). A sample depends on (seed, split, its number) alone.
    """

    example: ClassVar[str] = "data: {train: {use: shapes, split: train, size: 4000}}"

    split: str = Field("train", min_length=1, description="any name; splits share no sample")
    size: int = Field(1000, ge=1, le=10**9, description="samples")
    pixels: int = Field(48, ge=16, le=1024, description="side of a picture")
    objects: tuple[int, int] = Field((1, 4), description="fewest and most things in a picture")
    shapes: tuple[Shape, ...] = Field(("circle", "square", "triangle", "diamond", "cross", "ring"), min_length=1)
    colors: tuple[Color, ...] = Field(
        ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"), min_length=1
    )
    seed: int = 0

    @field_validator("objects", mode="before")
    @classmethod
    def _from_one_number(cls, raw: Any) -> Any:
        return (raw, raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw

    @field_validator("objects")
    @classmethod
    def _one_to_four(cls, objects: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= objects[0] <= objects[1] <= 4:
            raise ValueError("fewest and most things lie between 1 and 4, in this order")
        return objects

    @field_validator("shapes", "colors")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        return names

    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return tuple(f"{color} {shape}" for color in self.colors for shape in self.shapes)

    def fields(self) -> Mapping[str, TensorType]:
        side, most = self.pixels, self.objects[1]
        each: dict[str, Any] = {"axes": ("sample", "object"), "groups": (most,)}

        def label(*names: str) -> TensorType:
            return TensorType("label", dtype="int64", names=names)

        return {
            "id": TensorType("id"),
            "image": TensorType("image", size=(side, side, 3), dtype="uint8"),
            "caption": TensorType("text"),
            "label": label(*self.classes()),
            "shape": label(*self.shapes),
            "color": label(*self.colors),
            "scale": label("small", "medium", "large"),
            "place": label("top left", "top right", "bottom left", "bottom right"),
            "background": label("black", "grey", "brown", "navy"),
            "count": TensorType("label", dtype="int64", names=("none", "one", "two", "three", "four")),
            "boxes": TensorType("boxes", size=(4,), **each),
            "masks": TensorType("mask", size=(side, side), dtype="bool", **each),
            "things": TensorType("label", dtype="int64", names=self.classes(), **each),
        }

    def open(self) -> ShapesReader:
        return ShapesReader(self)


class ShapesReader:
    """Draws samples; ids are `shapes-SEED-SPLIT-NUMBER`."""

    def __init__(self, source: Shapes) -> None:
        self.source = source
        self._classes = {name: number for number, name in enumerate(source.classes())}
        self._names = {name: type_.names for name, type_ in source.fields().items()}

    def __len__(self) -> int:
        return self.source.size

    def id(self, index: int) -> str:
        return f"shapes-{self.source.seed}-{self.source.split}-{index}"

    def index(self, id: str) -> int:
        index = int(id.rpartition("-")[2])
        if id != self.id(index) or index >= len(self):
            raise KeyError(id)
        return index

    def scene(self, index: int) -> Scene:
        """What sample `index` shows."""
        from mmflow_worlds.scenes import draw_scene

        source = self.source
        generator = numpy_generator(source.seed, "shapes", source.split, index)
        return draw_scene(generator, source.shapes, source.colors, source.objects)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        """Sample `index`; pictures, boxes and masks are drawn only where they are wanted."""
        import numpy as np

        from mmflow_worlds import scenes

        scene, side = self.scene(index), self.source.pixels
        main = scene.things[0]
        sample: dict[str, Any] = {
            "id": self.id(index),
            "label": self._class(main.color, main.shape),
            "shape": self._names["shape"].index(main.shape),
            "color": self._names["color"].index(main.color),
            "scale": self._names["scale"].index(main.size),
            "place": self._names["place"].index(main.place),
            "background": self._names["background"].index(scene.background),
            "count": len(scene.things),
            "things": [self._class(thing.color, thing.shape) for thing in scene.things],
        }
        wanted = self._names if fields is None else fields
        if "image" in wanted:
            sample["image"] = scenes.render(scene, side)
        if "caption" in wanted:
            sample["caption"] = scenes.caption(scene)
        if "boxes" in wanted:
            sample["boxes"] = [np.array(scenes.box(thing, side), dtype=np.float32) for thing in scene.things]
        if "masks" in wanted:
            sample["masks"] = [scenes.mask(thing, side) for thing in scene.things]
        return sample

    def static(self) -> Mapping[str, Any]:
        return {}

    def _class(self, color: str, shape: str) -> int:
        return self._classes[f"{color} {shape}"]
