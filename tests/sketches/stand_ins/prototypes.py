"""Prototypes of parts: how well each fits an image, and what keeps them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import (
    STAGE,
    DataStage,
    Encoder,
    Grid,
    Labels,
    Loss,
    Model,
    Parameters,
    Pooled,
    RawField,
    Ref,
    Refs,
    StageContext,
    TensorType,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class PartPrototypes(Encoder, name="part_prototypes"):
    """Learned vectors of several parts for each class."""

    of: Refs[Pooled | RawField] = ()
    classes: int = 4
    per_class: int = 2
    parts: int = 2
    dim: int = 16

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        size = (self.parts, self.dim)
        return {
            "vectors": TensorType("vector", ("prototype",), size),
            "slots": TensorType("vector", ("prototype",), size[:1]),
        }

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import PartPrototypes as Module

        return Module(self.classes * self.per_class, self.parts, self.dim)


class GreedyPartMatch(Encoder, name="greedy_part_match"):
    """The best cosine of each part of each prototype with a place of the grid, summed by slots."""

    of: Refs[Grid]  # pyright: ignore[reportIncompatibleVariableOverride]
    prototypes: Encoder

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", size=(8,)), "values": TensorType("vector", size=(8,))}

    def apply(self, grid: Tensor, prototypes: Any) -> dict[str, Tensor]:
        from torch.nn.functional import normalize

        found = prototypes()
        places = normalize(grid.flatten(1, 2), dim=-1)
        scores = places.unsqueeze(1).unsqueeze(1) @ normalize(found["vectors"], dim=-1).unsqueeze(-1)
        best = scores.squeeze(-1).amax(-1)
        values = (best * found["slots"]).mean(-1)
        return {"pooled": values, "values": values}


class ClassLinear(Encoder, name="class_linear"):
    """Logits from how well prototypes fit; those of the class itself count for it, others against it."""

    classes: int = 4
    own: float = 1.0
    other: float = -0.5

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("logits", size=(self.classes,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import ClassLinear as Module

        return Module(self.classes, int(inputs[0].size[-1] or 8), self.own, self.other)


class ProtoCluster(Loss, name="proto_cluster"):
    """The best fit of a prototype of the own class."""

    labels: Ref[Labels]
    own: bool = True

    def compute(self, values: Tensor, labels: Tensor) -> Tensor:
        by_class = values.unflatten(-1, (4, -1)).amax(-1)
        return by_class.gather(1, labels[:, None]).squeeze(1)


class ProtoSeparation(Loss, name="proto_separation"):
    """The best fit of a prototype of another class."""

    labels: Ref[Labels]

    def compute(self, values: Tensor, labels: Tensor) -> Tensor:
        by_class = values.unflatten(-1, (4, -1)).amax(-1)
        return by_class.scatter(1, labels[:, None], float("-inf")).amax(-1)


class OffclassL1(Loss, name="offclass_l1"):
    """The sum of weights between a prototype and other classes."""

    parameters: Ref[Parameters]

    def compute(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return sum(value[value < 0].abs().sum() for value in parameters.values())  # type: ignore[return-value]


class ProtoCoherence(Loss, name="proto_coherence"):
    """How far the parts of a prototype lie apart."""

    prototypes: Encoder

    def compute(self, prototypes: Any) -> Tensor:
        vectors = prototypes()["vectors"]
        return (vectors - vectors.mean(1, keepdim=True)).square().mean()


class PushPrototypes(DataStage, name="push_prototypes"):
    """The model with each part of each prototype replaced by the nearest place of a grid of its class."""

    gives = {"model": "Model"}
    of: Ref[Grid]
    prototypes: Ref[Parameters]
    labels: Ref[Labels]
    model: Ref[Model] | None = None

    def depends_on_seed(self) -> bool:
        return False

    def run(self, context: StageContext) -> None:
        import torch
        from torch.nn.functional import normalize

        rows = context.rows("of", "labels")
        grid = rows["of"].outputs["grid"] if hasattr(rows["of"], "outputs") else rows["of"]
        labels = torch.as_tensor(rows["labels"])
        path = f"{context.scope.targets(STAGE)['prototypes',].owner}.vectors"
        vectors = context.model().weights()[path].clone()
        for place in range(len(vectors)):
            own = grid[labels == place * 4 // len(vectors)].flatten(0, 2)
            scores = normalize(vectors[place], dim=-1) @ normalize(own, dim=-1).T
            vectors[place] = own[scores.argmax(-1)]
        context.write_model({path: vectors})
