"""Synthetic images: colored shapes with complete truth, drawn when they are asked for (`shapes`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from mmflow.plugin import Field, TensorType
from mmflow_synthetic.base import Synthetic

if TYPE_CHECKING:
    from mmflow_synthetic.scenes import Scene, Thing

Shape = Literal["circle", "square", "triangle", "diamond", "cross", "ring"]
Color = Literal["red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"]


class Shapes(Synthetic, name="shapes"):
    """Colored shapes on a plain background, one to four in an image, with every factor of variation as a field.

    The first thing of an image is its main one: larger than the others. Fields: `image` (uint8 [pixels, pixels, 3]),
    `caption` (all things, as in "a large red circle above a small blue square"), `label` (color and shape of the
    main thing, named as in "red circle"), its factors `shape`, `color`, `scale` (small, medium, large) and `place`,
    further `background` and `count`. For each thing (axis `object`): `things` (its class, as in `label`), `scales`,
    `places`, `relations` (where the main thing stands to it; absent for itself), `boxes` (left, top, right, bottom in
    pixels) and `masks` (the pixels that show it).

    With `overlap` the main thing is at the center and the others lie in front of it or behind it, in another color
    each: relations are these two, and there are `depths` (the layer of each thing: front, middle, back) and `depth`
    (int64 [pixels, pixels]: the layer that a pixel shows, 3 for the background).

    `hard_captions` (axis `candidate`) are four captions that are wrong in one way each: colors (attribute), shapes
    (object) or places (order; in front and behind where things overlap) are exchanged, or there is one thing more, or
    fewer where there are four (number). `pair_image` and `pair_caption` are a second sample that differs from the
    first in one of these ways alone, which `pair_change` names.
    """

    example: ClassVar[str] = "data: {train: {use: shapes, split: train, size: 4000}}"

    pixels: int = Field(48, ge=16, le=1024, description="side of an image")
    objects: tuple[int, int] = Field((1, 4), description="fewest and most things in an image")
    shapes: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond", "cross", "ring")
    colors: tuple[Color, ...] = ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan")
    overlap: bool = Field(False, description="things lie in front of each other; needs at least two in an image")

    @model_validator(mode="after")
    def _two_to_overlap(self) -> Shapes:
        if self.overlap and self.objects[0] < 2:
            raise ValueError("with `overlap` an image needs at least two things: objects: [2, 4]")
        return self

    @field_validator("objects", mode="before", json_schema_input_type=int | tuple[int, int])
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
        from mmflow_synthetic import scenes

        side, most = self.pixels, self.objects[1]
        each: dict[str, Any] = {"axes": ("sample", "object"), "groups": (most,)}
        places = (*scenes.PLACES, scenes.CENTER) if self.overlap else scenes.PLACES
        sizes = tuple(scenes.SIZES)

        def label(*names: str, **more: Any) -> TensorType:
            return TensorType("label", dtype="int64", names=names, **more)

        layered = {
            "depth": TensorType("mask", size=(side, side), dtype="int64"),
            "depths": label(*scenes.LAYERS, **each),
        }
        return {
            "id": TensorType("id"),
            "image": TensorType("image", size=(side, side, 3), dtype="uint8"),
            "caption": TensorType("text"),
            "label": label(*self.classes()),
            "shape": label(*self.shapes),
            "color": label(*self.colors),
            "scale": label(*sizes),
            "place": label(*places),
            "background": label(*scenes.BACKGROUNDS),
            "count": label("none", "one", "two", "three", "four"),
            "boxes": TensorType("boxes", size=(4,), **each),
            "masks": TensorType("mask", size=(side, side), dtype="bool", **each),
            "things": label(*self.classes(), **each),
            "scales": label(*sizes, **each),
            "places": label(*places, **each),
            "relations": label(*(scenes.ORDERS if self.overlap else scenes.DIRECTIONS), **each),
            **(layered if self.overlap else {}),
            "hard_captions": TensorType("text", ("sample", "candidate"), groups=(len(scenes.CHANGES),)),
            "pair_image": TensorType("image", size=(side, side, 3), dtype="uint8"),
            "pair_caption": TensorType("text"),
            "pair_change": label(*scenes.CHANGES),
        }

    def scene(self, generator: Any) -> Scene:
        """The scene of a sample."""
        from mmflow_synthetic.arranging import draw_pile, draw_scene

        return (draw_pile if self.overlap else draw_scene)(generator, self.shapes, self.colors, self.objects)

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        import numpy as np

        from mmflow_synthetic import captions, drawing, scenes

        scene, side = self.scene(generator), self.pixels
        main, *others = scene.things
        sizes, places = tuple(scenes.SIZES), (*scenes.PLACES, scenes.CENTER)
        relations = scenes.ORDERS if self.overlap else scenes.DIRECTIONS
        sample: dict[str, Any] = {
            "label": self._class(main),
            "shape": self.shapes.index(main.shape),  # type: ignore[arg-type]
            "color": self.colors.index(main.color),  # type: ignore[arg-type]
            "background": tuple(scenes.BACKGROUNDS).index(scene.background),
            "count": len(scene.things),
            "things": [self._class(thing) for thing in scene.things],
            "scales": [sizes.index(thing.size) for thing in scene.things],
            "places": [places.index(thing.place) for thing in scene.things],
            "relations": [None, *(relations.index(captions.relation(main, other)) for other in others)],
        }
        sample |= {"scale": sample["scales"][0], "place": sample["places"][0]}
        if self.overlap:
            sample["depths"] = [thing.layer for thing in scene.things]
        if self.overlap and "depth" in wanted:
            sample["depth"] = drawing.depth(scene, side)
        if "image" in wanted:
            sample["image"] = drawing.render(scene, side)
        if "caption" in wanted:
            sample["caption"] = captions.caption(scene)
        if "boxes" in wanted:
            sample["boxes"] = [np.array(drawing.box(thing, side), dtype=np.float32) for thing in scene.things]
        if "masks" in wanted:
            sample["masks"] = drawing.visible(scene, side)
        if "hard_captions" in wanted:
            sample["hard_captions"] = [captions.caption(self.altered(scene, change)) for change in scenes.CHANGES]
        if {"pair_image", "pair_caption", "pair_change"} & set(wanted):
            number = int(scene.style[3] * len(scenes.CHANGES))
            pair = self.altered(scene, scenes.CHANGES[number])
            sample |= {"pair_caption": captions.caption(pair), "pair_change": number}
            if "pair_image" in wanted:
                sample["pair_image"] = drawing.render(pair, side)
        return sample

    def altered(self, scene: Scene, change: str) -> Scene:
        """The scene with one change of `scenes.CHANGES`."""
        from mmflow_synthetic.arranging import altered

        return altered(scene, change, self.shapes, self.colors)

    def _class(self, thing: Thing) -> int:
        return self.colors.index(thing.color) * len(self.shapes) + self.shapes.index(thing.shape)  # type: ignore[arg-type]
