"""The stage `class_means`: the mean vector of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import (
    STAGE,
    ComponentError,
    DataStage,
    Encoded,
    Labels,
    Model,
    Ref,
    StageContext,
    StageInputs,
    TensorType,
    Weight,
    default,
)


class ClassMeans(DataStage, name="class_means"):
    """The mean vector of each class over the rows of `data` (class prototypes; Snell et al., 2017).

    `vectors` [C, D] has a row for each class that `labels` names, else one up to the highest number; a class without a
    row is zeros, and `count` [C] says how many rows each has. With `normalize`, vectors have length one before the
    mean, and means after. `where` keeps rows whose value is true.
    """

    gives: ClassVar[Mapping[str, str]] = {"vectors": "Static", "count": "Static"}
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": ("label", "index", "number")}
    example: ClassVar[str] = "{use: class_means, data: train, of: image, labels: label}"

    of: Ref[Encoded]
    labels: Ref[Labels]
    where: Ref[Weight] | None = default(None, description="rows that count: those with a value that is not 0")
    model: Ref[Model] | None = None
    normalize: bool = False

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        vectors, labels = given.of("of"), given.of("labels")
        for name, declared in ((self.of, vectors), (self.labels, labels)):
            if declared.axes[1:]:
                found = f"{name}, with the axis {declared.axes[1]}"
                message, hint = "class_means needs one vector and one label a row", f"write {name}.0 for the first"
                raise ComponentError(message, found=found, hint=hint)
        size = vectors.size or (None,)
        return {
            "vectors": TensorType("vector", ("class",), size, names=labels.names),
            "count": TensorType("number", ("class",), names=labels.names),
        }

    def run(self, context: StageContext) -> None:
        import torch
        from torch.nn.functional import normalize

        fields = ["of", "labels", *(["where"] if self.where is not None else [])]
        rows = context.rows(*fields)
        encoding, labels = rows["of"], torch.as_tensor(rows["labels"]).long().cpu()
        vectors = encoding.pooled.double().cpu()
        if vectors.ndim != 2 or labels.ndim != 1:
            found = f"vectors {list(vectors.shape)}, labels {list(labels.shape)}"
            raise ComponentError("class_means needs one vector and one label a row", found=found)
        kept = labels >= 0
        if encoding.present is not None:
            kept &= encoding.present.cpu()
        if self.where is not None:
            kept &= _true(torch.as_tensor(rows["where"]).cpu())
        if not bool(kept.any()):
            raise ComponentError("class_means: no row has a vector and a label", hint="look at `labels` and `where`")
        labels, vectors = labels[kept], vectors[kept]
        vectors = normalize(vectors, dim=-1) if self.normalize else vectors
        names = context.scope.type_of(context.scope.targets(STAGE)["labels",]).names
        count = max(len(names), int(labels.max()) + 1)
        sums = torch.zeros(count, vectors.shape[1], dtype=torch.float64).index_add_(0, labels, vectors)
        sizes = torch.bincount(labels, minlength=count).double()
        means = sums / sizes.clamp_min(1)[:, None]
        means = normalize(means, dim=-1) if self.normalize else means
        declared = TensorType("vector", ("class",), (vectors.shape[1],), names=names)
        context.write_static("vectors", means.float().numpy(), declared)
        context.write_static("count", sizes.float().numpy(), declared.with_(modality="number", size=()))


def _true(values: Any) -> Any:
    """Rows whose value is there (-1 and NaN stand for absent ones) and not 0."""
    if values.is_floating_point():
        values = values.nan_to_num(0.0)
    return values > 0
