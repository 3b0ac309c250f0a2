"""Stages that find groups: semi-supervised clusters, how many there are, clean and noisy rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmflow.plugin import (
    Column,
    Component,
    DataStage,
    Labels,
    PositiveInt,
    Ref,
    Refs,
    Stage,
    StageContext,
    StageInputs,
    Static,
    TensorType,
    address,
)  # fmt: skip

if TYPE_CHECKING:
    import numpy as np

LABEL = TensorType("label", dtype="int64")


class Reduction(Component, kind="reduction"):
    """Vectors in fewer dimensions."""

    dim: int = 4

    def reduced(self, x: Any) -> Any:
        raise NotImplementedError


class Pca(Reduction, name="pca"):
    """Principal components."""

    def reduced(self, x: Any) -> Any:
        import numpy as np

        centered = x - x.mean(0)
        return centered @ np.linalg.svd(centered, full_matrices=False)[2][: self.dim].T


def _known(context: StageContext, ids: Sequence[str]) -> np.ndarray:
    """The labels of rows, -1 where absent."""
    import numpy as np

    rows = context.rows("labels")
    found = dict(zip(rows.ids, rows["labels"].tolist(), strict=True))
    return np.array([max(-1, found[id]) for id in ids])


def _nearest(x: Any, centers: Any, known: Any) -> Any:
    """The nearest center of each row; labeled rows stay with their class."""
    distances = ((x[:, None] - centers[None]) ** 2).sum(-1)
    found = distances.argmin(1)
    return found * (known < 0) + known * (known >= 0)


class SsKmeans(DataStage, name="ss_kmeans"):
    """K-means in which labeled rows stay with their class (Vaze et al., 2022)."""

    gives = {"label": "Column", "centers": "Static"}
    of: Ref[Column]
    labels: Ref[Labels]
    k: PositiveInt
    restarts: int = 1

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"label": LABEL, "centers": TensorType("vector", ("cluster",), given.of("of").size)}

    def run(self, context: StageContext) -> None:
        import numpy as np

        ids, values = context.column("of").present()
        x, known = np.stack([np.asarray(value, float) for value in values]), _known(context, ids)
        k = max(self.k, int(known.max()) + 1)
        draw = np.random.default_rng(address(context.scope.seed, "ss_kmeans"))
        centers = x[draw.choice(len(x), k, replace=False)]
        labels = _nearest(x, centers, known)
        for _ in range(10):
            labels = _nearest(x, centers, known)
            centers = np.stack([x[labels == c].mean(0) if (labels == c).any() else centers[c] for c in range(k)])
        context.write_column("label", ids, labels)
        context.write_static("centers", centers.astype(np.float32))


class GmmSplitMerge(DataStage, name="gmm_split_merge"):
    """Splits the widest cluster, merges small ones: labels, centers, densities, and how many clusters there are."""

    gives = {"label": "Column", "centers": "Static", "density": "Static", "count": "Static"}
    of: Ref[Column]
    initial: Ref[Static]
    labels: Ref[Labels]
    reduce: Reduction

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        size = given.of("of").size
        return {
            "label": LABEL, "centers": TensorType("vector", ("part",), size),
            "density": TensorType("number", ("part",)), "count": TensorType("number", (), dtype="int64"),
        }  # fmt: skip

    def run(self, context: StageContext) -> None:
        import numpy as np

        ids, values = context.column("of").present()
        x, known = np.stack([np.asarray(value, float) for value in values]), _known(context, ids)
        centers = context.static("initial")[0].astype(float)
        labels = _nearest(x, centers, known)
        small = self.reduce.reduced(x)
        spread = [small[labels == c].var() if (labels == c).sum() > 1 else 0.0 for c in range(len(centers))]
        widest = int(np.argmax(spread))
        centers = np.concatenate([centers, centers[widest : widest + 1] + 0.01])
        labels = _nearest(x, centers, known)
        kept = [c for c in range(len(centers)) if c <= known.max() or (labels == c).any()]
        centers = centers[kept]
        labels = _nearest(x, centers, known)
        density = [0.1 + np.sqrt(((x[labels == c] - center) ** 2).sum(-1)).mean() if (labels == c).any() else 0.1
                   for c, center in enumerate(centers)]  # fmt: skip
        context.write_column("label", ids, labels)
        context.write_static("centers", centers.astype(np.float32))
        context.write_static("density", np.array(density, np.float32))
        context.write_static("count", np.array(len(centers)))


class GmmSplit(Stage, name="gmm_split"):
    """Rows of low loss are clean; the margin falls with the loss and with how far a guess has moved."""

    gives = {"clean": "Column", "margin": "Column"}
    of: Ref[Column]
    drift: Refs[Column] = ()

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"clean": TensorType("mask", dtype="bool"), "margin": TensorType("number")}

    def run(self, context: StageContext) -> None:
        import numpy as np

        ids, values = context.column("of").present()
        x = np.array(values, float)
        now, before = (dict(zip(c.ids, c.values, strict=True)) for c in (context.column("drift", n) for n in (0, 1)))
        moved = np.array([np.abs(np.asarray(now[id]) - np.asarray(before[id])).mean() for id in ids])
        share = 1 / (1 + np.exp((x - np.median(x)) / (x.std() + 1e-6)))
        context.write_column("clean", ids, [bool(value) for value in share >= 0.5])
        context.write_column("margin", ids, [float(value) for value in 0.2 * share / (1 + moved)])
