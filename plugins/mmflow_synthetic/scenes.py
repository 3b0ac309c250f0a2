"""Scenes of colored shapes: the things of a scene, and the names and values that they may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 225),
    "yellow": (235, 215, 50),
    "purple": (150, 60, 190),
    "orange": (240, 140, 30),
    "white": (240, 240, 240),
    "cyan": (60, 200, 215),
}
BACKGROUNDS = {"black": (15, 15, 15), "gray": (110, 110, 110), "brown": (90, 60, 40), "navy": (25, 30, 75)}
SIZES = {"small": 0.09, "medium": 0.14, "large": 0.2}
"""Radius of the circumscribed circle as a share of the image's side."""
PLACES = ("top left", "top right", "bottom left", "bottom right")
CENTER = "center"
"""Where the main thing of a pile is, its others around it in the directions of `PLACES`."""
DIRECTIONS = (
    "above", "below", "left of", "right of", "above and left of", "above and right of", "below and left of",
    "below and right of",
)  # fmt: skip
LAYERS = ("front", "middle", "back")
"""From the nearest to the farthest; the main thing is in the middle."""
ORDERS = ("in front of", "behind")
CHANGES = ("attribute", "object", "order", "number")
"""The fault of a hard caption, or the difference of a minimal pair."""
MOST = 4
"""Things in a scene."""
JITTER = 10
"""Largest change of a color channel from its name's value."""


@dataclass(frozen=True)
class Thing:
    """One shape: attributes by name, center and radius as shares of the image's side, color as drawn."""

    shape: str
    color: str
    size: str
    place: str
    x: float
    y: float
    radius: float
    rgb: tuple[int, int, int]
    layer: int = 1
    """Place in `LAYERS`; things of one layer lie in their order in the scene, the first in front."""

    def words(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Things on a background, the main one first: the only one of its size, and the largest."""

    things: tuple[Thing, ...]
    background: str
    rgb: tuple[int, int, int]
    style: tuple[float, ...]
    """Numbers in [0, 1) that choose among ways to say it."""


def pick(options: Sequence[str], draw: float) -> str:
    """The option at `draw` in [0, 1)."""
    return options[int(draw * len(options))]
