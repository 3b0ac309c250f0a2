"""The world of coloured shapes: pictures with complete truth, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_worlds.world import World

if TYPE_CHECKING:
    from mmflow_worlds.scenes import Scene, Thing

Shape = Literal["circle", "square", "triangle", "diamond", "cross", "ring"]
Color = Literal["red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"]


class Shapes(World, name="shapes"):
    """Coloured shapes on a plain background, one to four a picture, with every factor of variation as a field.

    The first thing of a picture is its main one: larger than the others. Fields: `image` (uint8 [pixels, pixels, 3]),
    `caption` (all things, as in "a large red circle above a small blue square"), `label` (colour and shape of the
    main thing, named as in "red circle"), its factors `shape`, `color`, `scale` (small, medium, large) and `place`,
    further `background` and `count`, and for each thing `boxes` (left, top, right, bottom in pixels), `masks` and
    `things` (its class, as in `label`). `hard_captions` are three captions that are wrong in one way each (colours,
    shapes or places exchanged); `pair_image` and `pair_caption` are a second sample that differs from the first in one
    of these ways alone, which `pair_change` names.
    """

    example: ClassVar[str] = "data: {train: {use: shapes, split: train, size: 4000}}"

    pixels: int = Field(48, ge=16, le=1024, description="side of a picture")
    objects: tuple[int, int] = Field((1, 4), description="fewest and most things in a picture")
    shapes: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond", "cross", "ring")
    colors: tuple[Color, ...] = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")

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
        if len(names) < 2:
            raise ValueError("at least two are needed")
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
            "hard_captions": TensorType("text", ("sample", "candidate"), groups=(3,)),
            "pair_image": TensorType("image", size=(side, side, 3), dtype="uint8"),
            "pair_caption": TensorType("text"),
            "pair_change": label("attribute", "object", "order"),
        }

    def scene(self, generator: Any) -> Scene:
        """What a sample shows."""
        from mmflow_worlds.scenes import draw_scene

        return draw_scene(generator, self.shapes, self.colors, self.objects)

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        import numpy as np

        from mmflow_worlds import scenes

        scene, side = self.scene(generator), self.pixels
        main = scene.things[0]
        sample: dict[str, Any] = {
            "label": self._class(main),
            "shape": self.shapes.index(main.shape),  # type: ignore[arg-type]
            "color": self.colors.index(main.color),  # type: ignore[arg-type]
            "scale": tuple(scenes.SIZES).index(main.size),
            "place": scenes.PLACES.index(main.place),
            "background": tuple(scenes.BACKGROUNDS).index(scene.background),
            "count": len(scene.things),
            "things": [self._class(thing) for thing in scene.things],
        }
        if "image" in wanted:
            sample["image"] = scenes.render(scene, side)
        if "caption" in wanted:
            sample["caption"] = scenes.caption(scene)
        if "boxes" in wanted:
            sample["boxes"] = [np.array(scenes.box(thing, side), dtype=np.float32) for thing in scene.things]
        if "masks" in wanted:
            sample["masks"] = [scenes.mask(thing, side) for thing in scene.things]
        if "hard_captions" in wanted:
            sample["hard_captions"] = [scenes.caption(self.altered(scene, change)) for change in scenes.CHANGES]
        if {"pair_image", "pair_caption", "pair_change"} & set(wanted):
            number = int(scene.style[3] * len(scenes.CHANGES))
            pair = self.altered(scene, scenes.CHANGES[number])
            sample |= {"pair_caption": scenes.caption(pair), "pair_change": number}
            if "pair_image" in wanted:
                sample["pair_image"] = scenes.render(pair, side)
        return sample

    def altered(self, scene: Scene, change: str) -> Scene:
        """The scene with its colours, shapes or places exchanged (`attribute`, `object`, `order`)."""
        from mmflow_worlds.scenes import altered

        return altered(scene, change, self.shapes, self.colors)

    def _class(self, thing: Thing) -> int:
        return self.colors.index(thing.color) * len(self.shapes) + self.shapes.index(thing.shape)  # type: ignore[arg-type]
