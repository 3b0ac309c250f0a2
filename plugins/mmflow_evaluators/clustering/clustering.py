"""Whether rows that lie together belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from mmflow.plugin import Encoding, EvaluationResult, Metric, PositiveInt, RawField, Ref, default
from mmflow_evaluators.declared import Counts, Refusal, WithClasses, amount, quiet, two_classes
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mmflow_evaluators.estimates import Group

SILHOUETTE_ROWS = 2000
TITLES = {"nmi": "NMI", "ami": "AMI", "ari": "ARI", "hungarian_accuracy": "Hungarian accuracy"}
STARTS = 10


class Clustering(WithClasses, name="clustering"):
    """Agreement of clusters with labels: Hungarian accuracy, NMI (the V-measure), AMI and ARI.

    The clusters are those of k-means on L2-normalized vectors (the best of ten starts), for each encoder in `of`, or
    those that the field `assigned` names. `clusters` is their number: that of the classes by default; of several
    numbers the one with the highest mean silhouette is taken (of equal ones the smallest). `clusters_found` counts
    the clusters with a row. Accuracy matches clusters and classes one to one. Chance is what clusters of the same
    sizes give in random order; intervals are those of a bootstrap over rows, the clusters as they are.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": CLASS, "assigned": CLASS}
    example: ClassVar[str] = "{use: clustering, data: test, of: image, labels: label}"
    requires: ClassVar[tuple[str, ...]] = ("sklearn", "scipy")

    assigned: Ref[RawField] | None = default(None, description="the clusters, where they are known; -1 for none")
    clusters: Annotated[
        tuple[PositiveInt, ...],
        BeforeValidator(
            lambda raw: (raw,) if isinstance(raw, int) else raw,
            json_schema_input_type=PositiveInt | tuple[PositiveInt, ...],
        ),
    ] = Field((), description="how many, or numbers to choose from; as many as classes without it")  # fmt: skip
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    @model_validator(mode="after")
    def _some(self) -> Clustering:
        if bool(self.of) == (self.assigned is not None):
            raise ValueError("either `of` names encoders, or `assigned` the field with the clusters")
        return self

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        yield from two_classes(known, "agreement with classes")
        rows, most = sum(known.values()), max(self.clusters or (len(known),))
        if self.of and most > rows:
            yield "clusters", f"{most} clusters of {amount(rows, 'labeled row')}", "write fewer clusters"

    def evaluate(self, *of: Encoding, labels: Tensor, assigned: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import Group, group_of, result
        from mmflow_evaluators.vectors import unit, vectors_of

        classes = labels.cpu().numpy().reshape(-1)
        metrics: list[Metric] = []
        notes: list[str] = []
        if not of:
            groups = np.asarray(assigned).reshape(-1)
            self.require("clustering", classes[(classes >= 0) & (groups >= 0)])
            metrics += _agreement(Group(), classes, groups, (classes >= 0) & (groups >= 0), notes)
        for name, encoding in zip(self.of, of, strict=False):
            x, there = vectors_of(encoding, f"clustering of {name}")
            kept = there & (classes >= 0)
            self.require(f"clustering of {name}", classes[kept])
            groups = np.full(len(classes), -1)
            groups[kept] = self._clusters(unit(x[kept]), classes[kept])
            wanted = min(self.clusters or (len(np.unique(classes[kept])),))
            metrics += _agreement(group_of(name, len(of) == 1), classes, groups, kept, notes, wanted)
        return result(metrics, notes, "clustering")

    def _clusters(self, x: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
        import numpy as np

        counts = self.clusters or (len(np.unique(classes)),)
        tried = {count: _kmeans(x, count, self.seed) for count in sorted(set(counts))}
        if len(tried) == 1:
            return next(iter(tried.values()))
        return max(tried.values(), key=lambda groups: _silhouette(x, groups))


def _kmeans(x: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    import numpy as np
    from sklearn.cluster import k_means

    from mmflow.plugin import address

    states = [address("mmflow_evaluators.clustering", seed, count, start) % 2**32 for start in range(STARTS)]
    with quiet():
        starts = [k_means(x, count, random_state=state) for state in states]
    # Centers, clusters, sum of squared distances.
    return np.asarray(min(starts, key=lambda start: start[2] or 0.0)[1], dtype=np.int64)


def _silhouette(x: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Mean silhouette of at most `SILHOUETTE_ROWS` rows; that of one cluster, or of one row each, is 0."""
    import numpy as np
    from sklearn.metrics import silhouette_score

    step = max(1, -(-len(x) // SILHOUETTE_ROWS))
    x, groups = x[::step], groups[::step]
    count = len(np.unique(groups))
    return float(silhouette_score(x, groups)) if 1 < count < len(x) else 0.0


def _agreement(
    group: Group, classes: NDArray[np.int64], groups: NDArray[np.int64], kept: NDArray[np.bool_], notes: list[str],
    wanted: int = 0,
) -> list[Metric]:  # fmt: skip
    import numpy as np

    from mmflow_evaluators.clustering import agreement as measures
    from mmflow_evaluators.estimates import bootstrapped, estimate

    a, b = classes[kept], groups[kept]
    found = len(np.unique(b))
    if found < wanted:
        distinct = f"only {found} of {wanted} clusters have a row: the vectors have no more distinct values."
        notes.append(f"{group.heading + ': ' if group.heading else ''}{distinct}")
    metrics = [estimate("clusters_found", found, group=group, better="")]
    for name, measure, bounds, draws in (
        ("hungarian_accuracy", measures.hungarian_accuracy, (0.0, 1.0), 200),
        ("nmi", measures.normalized_mutual_information, (0.0, 1.0), 200),
        ("ami", measures.adjusted_mutual_information, (-1.0, 1.0), 50),
        ("ari", measures.adjusted_rand_index, (-1.0, 1.0), 200),
    ):
        adjusted = name in ("ami", "ari")
        chance = 0.0 if adjusted else measures.chance_agreement(measure, a, b, at=name)
        metrics.append(
            bootstrapped(
                name, lambda i, of=measure: of(a[i], b[i]), len(a), bounds=bounds, draws=draws,
                title=TITLES.get(name, ""), group=group, chance=chance,
            )
        )  # fmt: skip
    return metrics
