"""A map of embeddings in the plane, for the report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmflow.artifacts import EmbeddingMap
from mmflow.plugin.addresses import address
from mmflow.plugin.values import Encoding

ROWS = 500


def embedding_map(
    names: Sequence[str], encodings: Sequence[Encoding], ids: Sequence[str], labels: Sequence[str] | None
) -> EmbeddingMap | None:
    """The first two principal components of L2-normalized vectors, of at most `ROWS` rows chosen by their ids.

    Encoders with equally long vectors share one map; others are projected one by one and laid over each other
    (`joint` false). The sign of a component is such that its largest loading is positive. Returns plain data
    (`points`, `ids`, `group`, `label`, `joint`, `explained`), or None where no encoder has one vector a row.
    """
    clouds: list[tuple[str, Tensor, list[int]]] = []
    chosen = sorted(range(len(ids)), key=lambda i: address("map", ids[i]))[:ROWS]
    for name, encoding in zip(names, encodings, strict=True):
        vectors = encoding.outputs.get("pooled")
        if not isinstance(vectors, Tensor) or len(vectors) != len(ids):
            # Vectors of classes beside samples are no points of the map.
            continue
        present = None if encoding.present is None else encoding.present.cpu()
        while vectors.ndim > 2:
            # Of a group, the first member stands for the row.
            vectors = vectors[:, 0]
            present = present[:, 0] if present is not None and present.ndim > 1 else present
        if vectors.ndim != 2 or vectors.shape[1] < 1:
            continue
        there = [i for i in chosen if present is None or bool(present[i])]
        clouds.append((name, torch.nn.functional.normalize(vectors[there].double().cpu(), dim=-1), there))
    clouds = [cloud for cloud in clouds if len(cloud[2])]
    if not clouds:
        return None
    joint = len({cloud[1].shape[1] for cloud in clouds}) == 1
    if joint:
        points, explained = _project(torch.cat([vectors for _, vectors, _ in clouds]))
    else:
        parts = [_project(vectors) for _, vectors, _ in clouds]
        points, explained = torch.cat([p for p, _ in parts]), None
    places = [(name, row) for name, _, there in clouds for row in there]
    return {
        "points": [[round(x, 5), round(y, 5)] for x, y in points.tolist()],
        "ids": [ids[row] for _, row in places],
        "group": [name for name, _ in places],
        "label": None if labels is None else [labels[row] for _, row in places],
        "joint": joint,
        "explained": explained,
    }


def _project(vectors: Tensor) -> tuple[Tensor, list[float]]:
    centered = vectors - vectors.mean(0)
    _, values, loadings = torch.linalg.svd(centered, full_matrices=False)
    loadings = loadings[:2]
    largest = loadings.abs().argmax(1, keepdim=True)
    loadings = loadings * loadings.gather(1, largest).sign()
    points = centered @ loadings.T
    if points.shape[1] < 2:
        points = torch.cat([points, torch.zeros(len(points), 2 - points.shape[1], dtype=points.dtype)], dim=1)
    total = float(values.pow(2).sum())
    shares = [float(v) ** 2 / total if total > 0 else 0.0 for v in values[:2]]
    return points, [round(share, 5) for share in shares]
