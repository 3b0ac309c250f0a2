"""Scenes as images, masks, boxes and depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mmflow_synthetic.scenes import LAYERS, Scene, Thing


def render(scene: Scene, pixels: int) -> np.ndarray:
    """The image, uint8 [pixels, pixels, 3], edges antialiased over one pixel."""
    image = np.empty((pixels, pixels, 3), dtype=np.float32)
    image[:] = scene.rgb
    for thing in reversed(nearest_first(scene)):
        window, cover = coverage(thing, pixels)
        part = image[window]
        part += cover[..., None] * (np.asarray(thing.rgb, dtype=np.float32) - part)
    return (image + 0.5).astype(np.uint8)


def nearest_first(scene: Scene) -> list[Thing]:
    """The things in the order in which they hide each other."""
    return sorted(scene.things, key=lambda thing: thing.layer)


def visible(scene: Scene, pixels: int) -> list[np.ndarray]:
    """Which pixels show each thing: those that it covers by at least half, and no nearer one does, bool [H, W]."""
    hidden = np.zeros((pixels, pixels), dtype=bool)
    seen: dict[int, np.ndarray] = {}
    for thing in nearest_first(scene):
        covered = mask(thing, pixels)
        seen[id(thing)] = covered & ~hidden
        hidden |= covered
    return [seen[id(thing)] for thing in scene.things]


def depth(scene: Scene, pixels: int) -> np.ndarray:
    """The layer that each pixel shows, int64 [pixels, pixels]; the background is one farther than the last of them."""
    out = np.full((pixels, pixels), len(LAYERS), dtype=np.int64)
    for thing, shown in zip(scene.things, visible(scene, pixels), strict=True):
        out[shown] = thing.layer
    return out


def coverage(thing: Thing, pixels: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window that holds a thing, and how much of each of its pixels it covers, in [0, 1]."""
    x, y, radius = thing.x * pixels, thing.y * pixels, thing.radius * pixels
    left, right = max(0, int(x - radius - 1)), min(pixels, int(x + radius + 2))
    top, bottom = max(0, int(y - radius - 1)), min(pixels, int(y + radius + 2))
    dx = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x)
    dy = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None]
    outside = DISTANCES[thing.shape](dx, dy, np.float32(radius))
    return (slice(top, bottom), slice(left, right)), np.clip(0.5 - outside, 0, 1)


def box(thing: Thing, pixels: int) -> tuple[float, float, float, float]:
    """The smallest box around a thing, `(left, top, right, bottom)` in pixels."""
    left, top, right, bottom = EXTENTS[thing.shape]
    radius = thing.radius
    corners = (thing.x - left * radius, thing.y - top * radius, thing.x + right * radius, thing.y + bottom * radius)
    return tuple(corner * pixels for corner in corners)  # type: ignore[return-value]


def mask(thing: Thing, pixels: int) -> np.ndarray:
    """Which pixels a thing covers by at least half, bool [pixels, pixels]."""
    out = np.zeros((pixels, pixels), dtype=bool)
    window, cover = coverage(thing, pixels)
    out[window] = cover >= 0.5
    return out


def _circle(x: np.ndarray, y: np.ndarray, r: Any) -> np.ndarray:
    return np.sqrt(x * x + y * y) - r


def _square(x: np.ndarray, y: np.ndarray, r: Any) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - r * np.float32(0.8)


def _triangle(x: np.ndarray, y: np.ndarray, r: Any) -> np.ndarray:
    half = r * np.float32(0.5)
    return np.maximum(y - half, np.abs(x) * np.float32(0.8660254) - y * np.float32(0.5) - half)


def _diamond(x: np.ndarray, y: np.ndarray, r: Any) -> np.ndarray:
    return (np.abs(x) + np.abs(y) - r) * np.float32(0.7071068)


def _cross(x: np.ndarray, y: np.ndarray, r: Any) -> np.ndarray:
    x, y, thin = np.abs(x), np.abs(y), r * np.float32(0.3)
    return np.minimum(np.maximum(x - r, y - thin), np.maximum(x - thin, y - r))


def _ring(x: np.ndarray, y: np.ndarray, r: Any) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - r * np.float32(0.75)) - r * np.float32(0.25)


DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray, Any], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
}
"""Distance to the edge in pixels, negative inside (for the cross and corners a lower bound outside)."""

EXTENTS = {
    "circle": (1.0, 1.0, 1.0, 1.0),
    "square": (0.8, 0.8, 0.8, 0.8),
    "triangle": (0.8660254, 1.0, 0.8660254, 0.5),
    "diamond": (1.0, 1.0, 1.0, 1.0),
    "cross": (1.0, 1.0, 1.0, 1.0),
    "ring": (1.0, 1.0, 1.0, 1.0),
}
"""How far each shape reaches from its center to the left, top, right and bottom, in radii."""
