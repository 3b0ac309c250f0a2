"""Synthetic videos: a moving shape with verbs, tracks and steps in order (`motions`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from mmflow.plugin import Field, TensorType
from mmflow_synthetic.base import Synthetic

if TYPE_CHECKING:
    import numpy as np

VERBS = ("moves left", "moves right", "moves up", "moves down", "grows", "shrinks", "stays")
STEP = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}


class Motions(Synthetic, name="motions"):
    """Videos of one colored shape that does one thing after the other (moves, grows, shrinks, stays).

    Fields: `video` (uint8 [frames, pixels, pixels, 3]), `caption` ("a red ring moves left then grows"), `label` (the
    first verb), `shape`, `color`, `background`, `steps` (the verb of each step, axis `step`), `step_of` (int64
    [frames]: the step that each frame belongs to), `boxes` (float32 [frames, 4], pixels: the track), `masks` (bool
    [frames, pixels, pixels]) and `order_changed` (the caption with its steps in the opposite order: wrong, as no two
    neighboring steps are alike and a sequence is never its own reverse).
    """

    example: ClassVar[str] = "data: {train: {use: motions, split: train, size: 2000, frames: 12}}"

    frames: int = Field(12, ge=2, le=256)
    pixels: int = Field(32, ge=16, le=512)
    steps: int = Field(2, ge=1, le=8, description="things done one after the other; must divide frames")

    @model_validator(mode="after")
    def _divisible(self) -> Motions:
        if self.frames % self.steps or self.frames // self.steps < 2:
            raise ValueError("`frames` must be a multiple of `steps`, at least two frames a step")
        return self

    def fields(self) -> Mapping[str, TensorType]:
        from mmflow_synthetic.scenes import BACKGROUNDS, COLORS, SHAPES

        side, frames = self.pixels, self.frames
        return {
            "id": TensorType("id"),
            "video": TensorType("video", ("sample", "frame"), (side, side, 3), "uint8", groups=(frames,)),
            "caption": TensorType("text"),
            "order_changed": TensorType("text"),
            "label": TensorType("label", dtype="int64", names=VERBS),
            "shape": TensorType("label", dtype="int64", names=SHAPES),
            "color": TensorType("label", dtype="int64", names=tuple(COLORS)),
            "background": TensorType("label", dtype="int64", names=tuple(BACKGROUNDS)),
            "steps": TensorType("label", ("sample", "step"), dtype="int64", names=VERBS, groups=(self.steps,)),
            "step_of": TensorType("labels", size=(frames,), dtype="int64"),
            "boxes": TensorType("boxes", ("sample", "frame"), (4,), groups=(frames,)),
            "masks": TensorType("mask", ("sample", "frame"), (side, side), "bool", groups=(frames,)),
        }

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        import numpy as np

        from mmflow_synthetic import captions, drawing, scenes

        draws = generator.random(16).tolist()
        shape = scenes.SHAPES[int(draws[0] * len(scenes.SHAPES))]
        color = tuple(scenes.COLORS)[int(draws[1] * len(scenes.COLORS))]
        background = tuple(scenes.BACKGROUNDS)[int(draws[2] * len(scenes.BACKGROUNDS))]
        verbs = self._verbs(generator)
        path = self._track(verbs, draws[3:5])
        things = [
            scenes.Thing(shape, color, "", "", float(x), float(y), float(radius), scenes.COLORS[color])
            for x, y, radius in path
        ]
        name = f"{captions.with_article(color)} {shape}"
        sample: dict[str, Any] = {
            "caption": f"{name} {' then '.join(verbs)}",
            "order_changed": f"{name} {' then '.join(reversed(verbs))}" if self.steps > 1 else None,
            "label": VERBS.index(verbs[0]),
            "shape": scenes.SHAPES.index(shape),
            "color": tuple(scenes.COLORS).index(color),
            "background": tuple(scenes.BACKGROUNDS).index(background),
            "steps": [VERBS.index(verb) for verb in verbs],
            "step_of": np.repeat(np.arange(self.steps), self.frames // self.steps),
            "boxes": np.array([drawing.box(thing, self.pixels) for thing in things], dtype=np.float32),
        }
        if "video" in wanted:
            shown = [scenes.Scene((thing,), background, scenes.BACKGROUNDS[background], ()) for thing in things]
            sample["video"] = np.stack([drawing.render(scene, self.pixels) for scene in shown])
        if "masks" in wanted:
            sample["masks"] = np.stack([drawing.mask(thing, self.pixels) for thing in things])
        return sample

    def _verbs(self, generator: Any) -> list[str]:
        """Steps of which no two neighbors are alike, and that read differently from their end."""
        while True:
            numbers = generator.integers(len(VERBS), size=self.steps).tolist()
            if any(a == b for a, b in pairwise(numbers)):
                continue
            if self.steps == 1 or numbers != numbers[::-1]:
                return [VERBS[number] for number in numbers]

    def _track(self, verbs: list[str], start: list[float]) -> np.ndarray:
        """Center and radius in each frame, [frames, 3], in shares of the side; all of it inside the image."""
        import numpy as np

        each = self.frames // self.steps
        speed, growth = 0.3 / max(each - 1, 1), 0.09 / max(each - 1, 1)
        deltas = []
        for number, verb in enumerate(verbs):
            dx, dy = STEP.get(verb, (0, 0))
            size = {"grows": growth, "shrinks": -growth}.get(verb, 0.0)
            # A frame shows the state before its step is taken on, so that each step has all its frames.
            first = 0 if number == 0 else 1
            deltas += [(0.0, 0.0, 0.0)] * (1 - first) + [(dx * speed, dy * speed, size)] * (each - 1 + first)
        path = np.cumsum(np.array(deltas), axis=0)
        low, high = path.min(0), path.max(0)
        radius = 0.08 + path[:, 2] - low[2]
        room = 0.96 - 2 * radius.max() - (high - low)[:2]
        # Long ways are shortened until they fit.
        shrink = np.minimum(1.0, (0.96 - 2 * radius.max()) / np.maximum((high - low)[:2], 1e-9))
        center = (path[:, :2] - low[:2]) * shrink
        offset = 0.02 + radius.max() + np.maximum(room, 0) * np.array(start)
        return np.concatenate([center + offset, radius[:, None]], axis=1)
