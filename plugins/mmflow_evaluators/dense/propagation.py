"""Labels of a first frame carried to later ones by the likeness of places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def propagate(
    query: NDArray[np.float64],
    keys: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    temperature: float = 0.07,
    top: int | None = 10,
    radius: float | None = None,
    free: int = 0,
) -> NDArray[np.float64]:
    """Soft labels [L, h, w] of a frame from those of other frames (Jabri et al., 2020; Xu and Wang, 2021).

    `query` [D, h, w], `keys` [T, D, h, w] are unit vectors, `labels` [T, L, h, w]. Each place takes the `top` most
    alike places of all frames together, at a distance below `radius` cells (any, without it; anywhere in the first
    `free` frames), and the mean of their labels with the softmax of product / temperature as weights. Ties for the
    last place in the order of frames and places. A place with no allowed key has labels of 0.
    """
    count, _, height, width = keys.shape
    flat = query.reshape(len(query), -1).T
    others = keys.transpose(0, 2, 3, 1).reshape(-1, keys.shape[1])
    alike = flat @ others.T / temperature
    if radius is not None:
        rows, columns = np.divmod(np.arange(height * width), width)
        distance = np.hypot(rows[:, None] - rows[None], columns[:, None] - columns[None])
        allowed = np.tile(distance < radius, (1, count))
        allowed[:, : free * height * width] = True
        alike = np.where(allowed, alike, -np.inf)
    if top is not None and top < alike.shape[1]:
        places = np.argsort(-alike, axis=1, kind="stable")[:, :top]
        kept = np.full_like(alike, -np.inf)
        np.put_along_axis(kept, places, np.take_along_axis(alike, places, axis=1), axis=1)
        alike = kept
    highest = alike.max(1, keepdims=True)
    weights = np.exp(alike - np.where(np.isfinite(highest), highest, 0.0))
    total = weights.sum(1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1.0)
    values = labels.transpose(0, 2, 3, 1).reshape(-1, labels.shape[1])
    return (weights @ values).T.reshape(-1, height, width)


def propagate_video(
    frames: NDArray[np.float64],
    first: NDArray[np.float64],
    *,
    context: int = 20,
    temperature: float = 0.07,
    top: int | None = 10,
    radius: float | None = None,
) -> NDArray[np.float64]:
    """Soft labels [T, L, h, w] of all frames [T, D, h, w] from those of the first, [L, h, w].

    The keys of a frame are the first one and the `context` before it, with the labels that they were given.
    """
    found = [first]
    for time in range(1, len(frames)):
        known = sorted({0, *range(max(0, time - context), time)})
        labels = np.stack([found[t] for t in known])
        found.append(propagate(frames[time], frames[known], labels, temperature=temperature, top=top, radius=radius))
    return np.stack(found)
