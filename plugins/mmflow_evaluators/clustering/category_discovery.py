"""Finding new classes beside known ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import (
    ComponentError,
    Data,
    Encoding,
    EvaluationResult,
    Metric,
    PositiveInt,
    RawField,
    Ref,
    default,
)
from mmflow_evaluators.declared import Counts, Refusal, WithClasses, amount
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mmflow_evaluators.estimates import Group


class CategoryDiscovery(WithClasses, name="category_discovery"):
    """Accuracy of clusters on rows of known (old) and of new classes: all, old and new (Vaze et al., 2022).

    `data` holds the labeled rows, whose classes are the old ones; rows of `test` are clustered with them, by k-means
    on L2-normalized vectors in which labeled rows stay with their class, or they have the clusters that the field
    `assigned` names. Clusters and classes of `test` are matched once, one to one, over all rows. `clusters` is the
    number of classes in both without it. Chance is that of the same clusters in random order; intervals are Wilson's,
    for the matching as it is.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": CLASS, "assigned": CLASS}
    example: ClassVar[str] = "{use: category_discovery, data: labeled, test: rest, of: image, labels: label}"
    requires: ClassVar[tuple[str, ...]] = ("scipy",)

    test: Ref[Data] = default(..., description="rows to be clustered, with their true classes")
    assigned: Ref[RawField] | None = default(None, description="clusters of the test rows; k-means without it")
    clusters: PositiveInt | None = default(None, description="how many; the number of classes without it")
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    @model_validator(mode="after")
    def _some(self) -> CategoryDiscovery:
        if bool(self.of) == (self.assigned is not None):
            raise ValueError("either `of` names encoders, or `assigned` the field with the clusters")
        return self

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        asked = asked or {}
        rows, count = sum(known.values()) + sum(asked.values()), self.clusters or len({*known, *asked})
        if not known or not asked:
            field = "labels" if not known else "test"
            yield field, f"no row of {'the data' if not known else 'the test data'} has a label", "name labeled data"
        elif self.of and not len(known) <= count <= rows:
            said = f"{amount(count, 'cluster')} for {len(known)} known classes and {amount(rows, 'row')}"
            yield "clusters", said, "write a number between them"

    def evaluate(self, *of: Encoding, labels: Tensor, test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import Group, group_of, result

        own, asked = (v.cpu().numpy().reshape(-1) for v in (labels, test.fields["labels"]))
        metrics: list[Metric] = []
        notes: list[str] = []
        if not of:
            groups = np.asarray(test.fields["assigned"]).reshape(-1)
            kept = (asked >= 0) & (groups >= 0)
            metrics += _measured(Group(), asked, groups, kept, own[own >= 0], notes)
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=False)):
            groups = self._clusters(encoding, test.of[place], own, asked, f"category_discovery of {name}")
            group = group_of(name, len(of) == 1)
            metrics += _measured(group, asked, groups, groups >= 0, own[own >= 0], notes)
        return result(metrics, notes, "category_discovery")

    def _clusters(
        self, known: Encoding, rows: Encoding, own: NDArray[np.int64], asked: NDArray[np.int64], where: str
    ) -> NDArray[np.int64]:
        """Cluster of each row of the test data, -1 for rows without label or value."""
        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.clustering.discovery import seeded_kmeans
        from mmflow_evaluators.vectors import unit, vectors_of

        x, there = vectors_of(known, where)
        y, there_y = vectors_of(rows, f"{where} (test)")
        kept, kept_y = there & (own >= 0), there_y & (asked >= 0)
        names, classes = np.unique(own[kept], return_inverse=True)
        count = self.clusters or len(np.union1d(names, asked[kept_y]))
        both = np.concatenate([unit(x[kept]), unit(y[kept_y])])
        fixed = np.concatenate([classes, np.full(int(kept_y.sum()), -1)]).astype(np.int64)
        self.require(where, own[kept], asked[kept_y])
        generator = numpy_generator("mmflow_evaluators.category_discovery", self.seed)
        found = np.full(len(asked), -1)
        found[kept_y] = seeded_kmeans(both, fixed, count, generator)[int(kept.sum()) :]
        return found


def _measured(
    group: Group, classes: NDArray[np.int64], groups: NDArray[np.int64], kept: NDArray[np.bool_],
    known: NDArray[np.int64], notes: list[str],
) -> list[Metric]:  # fmt: skip
    """Metrics of the test rows that are `kept`, with the classes and clusters of all of them [N]."""
    import numpy as np

    from mmflow.plugin import numpy_generator
    from mmflow_evaluators.clustering.discovery import discovery_hits
    from mmflow_evaluators.estimates import estimate, share

    rows = np.flatnonzero(kept)
    classes, groups = classes[rows], groups[rows]
    if not len(classes):
        raise ComponentError("category_discovery: no row of the test data has a class and a cluster")
    found = discovery_hits(classes, groups, known)
    generator = numpy_generator("mmflow_evaluators.category_discovery", "chance")
    drawn = [discovery_hits(classes, generator.permutation(groups), known).accuracies for _ in range(20)]
    metrics = [estimate("clusters_found", len(np.unique(groups)), group=group, better="")]
    parts = (("all", np.ones(len(classes), bool)), ("old", found.old), ("new", ~found.old))
    for place, (name, part) in enumerate(parts):
        if not part.any():
            notes.append(f"{name}_accuracy: no row of the test data has a class that is {name}.")
            continue
        hits = found.hits[part].astype(np.float64)
        chance = float(np.mean([accuracies[place] for accuracies in drawn]))
        metrics.append(share(f"{name}_accuracy", hits, rows[part], group=group, chance=chance))
    return metrics
