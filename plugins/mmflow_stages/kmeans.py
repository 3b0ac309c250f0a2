"""The stage `kmeans`: clusters of a column of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import (
    Column,
    ComponentError,
    Field,
    PositiveFloat,
    PositiveInt,
    Ref,
    Stage,
    StageContext,
    StageInputs,
    TensorType,
    address,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMOOTHING = 10.0
"""The constant in the density of a cluster, so that small clusters are not too dense (Li et al., 2021)."""


VECTORS = ("vector", "logits", "series", "mask")
"""Modalities of one array of numbers a row."""


class KMeans(Stage, name="kmeans"):
    """Clusters of a column of vectors by k-means (Lloyd, 1982), the best of `restarts` starts by k-means++.

    `label` is the number of the cluster of each id, `centers` [k, D], and `density` [k] how wide each cluster is: the
    mean distance to its center over the logarithm of its size (Li et al., 2021, Prototypical contrastive learning,
    equation 12), a cluster of one row as wide as the widest. With `mean_density` densities are scaled to that mean, to
    be temperatures. Rows without a vector have no label.
    """

    gives: ClassVar[Mapping[str, str]] = {"label": "Column", "centers": "Static", "density": "Static"}
    requires: ClassVar[tuple[str, ...]] = ("sklearn", "threadpoolctl")
    example: ClassVar[str] = "{use: kmeans, of: feats.image, k: 10}"

    of: Ref[Column]
    k: PositiveInt = Field(le=1_000_000)
    restarts: PositiveInt = Field(3, le=1000)
    iterations: PositiveInt = Field(100, le=100_000)
    mean_density: PositiveFloat | None = Field(None, description="scale densities to this mean, such as 0.1")

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        vectors = given.of("of")
        if vectors.modality not in ("unknown", *VECTORS):
            raise ComponentError(
                "kmeans reads one vector a row", found=f"{self.of}, {vectors.modality}", hint="name a column of vectors"
            )
        axis = f"cluster_of_{'_'.join(map(str, vectors.axes[:1]))}" if vectors.static else "cluster"
        return {
            "label": TensorType("label", vectors.axes[:1], dtype="int64"),
            "centers": TensorType("vector", (axis,), vectors.size or (None,)),
            "density": TensorType("number", (axis,)),
        }

    def run(self, context: StageContext) -> None:
        import numpy as np
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        column = context.column("of")
        ids, values = column.present()
        if len(ids) < self.k:
            message = f"kmeans: {self.k} clusters of {len(ids)} rows with a vector"
            raise ComponentError(message, hint="a smaller `k`")
        x = np.stack([np.asarray(value, dtype=np.float64) for value in values])
        if x.ndim != 2:
            raise ComponentError("kmeans needs one vector a row", found=f"rows of shape {list(x.shape[1:])}")
        starts = []
        # Several threads add up in another order each time.
        with threadpool_limits(limits=1):
            for start in range(self.restarts):
                seed = address(context.scope.seed, "kmeans", start) % 2**32
                found = KMeans(self.k, n_init=1, max_iter=self.iterations, random_state=seed).fit(x)  # pyright: ignore[reportArgumentType]
                starts.append((found.inertia_, found.cluster_centers_, found.labels_))
                context.report.progress(start + 1, self.restarts)
        _, centers, labels = min(starts, key=lambda each: each[0])
        dtype = column.type.with_(modality="label", size=(), groups=(), axes=column.type.axes[:1], dtype="int64")
        context.write_column("label", ids, labels.astype(np.int64), dtype.with_(names=(), vocabulary=None))
        context.write_static("centers", centers.astype(np.float32))
        context.write_static("density", self._density(x, centers, labels).astype(np.float32))

    def _density(
        self, x: NDArray[np.float64], centers: NDArray[np.float64], labels: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        import numpy as np

        distances = np.linalg.norm(x - centers[labels], axis=1)
        sizes = np.bincount(labels, minlength=self.k)
        sums = np.bincount(labels, weights=distances, minlength=self.k)
        density = sums / np.maximum(sizes, 1) / np.log(np.maximum(sizes, 1) + SMOOTHING)
        alone = (sizes < 2) | (density == 0)
        density[alone] = density[~alone].max(initial=0.0) or 1.0
        return density if self.mean_density is None else density * (self.mean_density / density.mean())
