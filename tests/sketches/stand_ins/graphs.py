"""One graph with several kinds of paths, networks over it, and losses that weigh its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from mmflow.plugin import (
    Bounds,
    Component,
    Encoder,
    Labels,
    Loss,
    Ref,
    Scope,
    Source,
    TensorType,
    Value,
    default,
    numpy_generator,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTH = 6


class GraphStep(Component, kind="graph_step"):
    """A change of a graph's arrays."""

    def changed(self, graph: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class PathsimTopk(GraphStep, name="pathsim_topk"):
    """The k nodes that are most alike by each kind of path (Sun et al., 2011)."""

    k: tuple[int, ...]

    def changed(self, graph: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        found = []
        for count, k in zip(graph["counts"], self.k, strict=True):
            alike = 2 * count / (count.diagonal()[:, None] + count.diagonal()[None]).clip(1)
            least = np.sort(alike, axis=1)[:, -k][:, None]
            found.append((alike >= least).astype(np.float32))
        paths = sum(found) / len(found)
        return {**graph, "paths": paths, "masked_paths": paths, "mean_path": paths.mean(0) + np.eye(len(paths))}


class EdgeMask(GraphStep, name="edge_mask"):
    """Leaves out some edges."""

    drop: tuple[float, ...]
    seed: int = 0

    def changed(self, graph: dict[str, Any]) -> dict[str, Any]:
        kept = numpy_generator(self.seed, "edges").random(graph["paths"].shape) >= self.drop[0]
        return {**graph, "masked_paths": graph["paths"] * kept}


class FeatureMask(GraphStep, name="feature_mask"):
    """Leaves out some features."""

    drop: float = 0.2
    seed: int = 0

    def changed(self, graph: dict[str, Any]) -> dict[str, Any]:
        kept = numpy_generator(self.seed, "features").random(graph["x"].shape) >= self.drop
        return {**graph, "masked_x": graph["x"] * kept}


class HeteroGraph(Source, name="hetero_graph"):
    """Nodes of four classes, and how often paths of two kinds lead from one to another; no samples."""

    nodes: int = 24
    apply: tuple[GraphStep, ...] = ()

    def fields(self) -> Mapping[str, TensorType]:
        row = TensorType("vector", ("node",), (self.nodes,))
        features = row.with_(size=(WIDTH,))
        return {
            "node.x": features, "node.masked_x": features, "node.paths": row, "node.masked_paths": row,
            "node.mean_path": row, "node.context": row, "node.id": TensorType("id", ("node",), dtype="str"),
            "node.label": TensorType("label", ("node",), dtype="int64", names=("a", "b", "c", "d")),
        }  # fmt: skip

    def open(self) -> GraphReader:
        return GraphReader(self)


class GraphReader:
    def __init__(self, source: HeteroGraph) -> None:
        self.source = source

    def __len__(self) -> int:
        return 0

    def id(self, index: int) -> str:
        raise IndexError(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        raise IndexError(index)

    def static(self) -> Mapping[str, Any]:
        import numpy as np

        n, draw = self.source.nodes, numpy_generator("graph")
        label = np.arange(n) % 4
        same = (label[:, None] == label[None]).astype(float)
        counts = [same * draw.integers(1, 4, (n, n)) + draw.integers(0, 2, (n, n)) for _ in range(2)]
        counts = [count + count.T for count in counts]
        x = np.eye(4, WIDTH)[label] + 0.3 * draw.normal(size=(n, WIDTH))
        graph: dict[str, Any] = {"x": x, "masked_x": x, "counts": counts, "context": same / same.sum(1, keepdims=True)}
        for step in self.source.apply:
            graph = step.changed(graph)
        names = ("x", "masked_x", "paths", "masked_paths", "mean_path", "context")
        found: dict[str, Any] = {f"node.{name}": list(np.asarray(graph[name], np.float32)) for name in names}
        return {**found, "node.id": [f"n{i}" for i in range(n)], "node.label": label.tolist()}


class OverGraph(Encoder):
    """Needs the whole graph."""

    def scope(self) -> Scope:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}


class MetapathContext(OverGraph, name="metapath_context"):
    """A node with the mean of its context."""

    def apply(self, x: Tensor, context: Tensor) -> Tensor:
        return x + context @ x


class Gcn(OverGraph, name="gcn"):
    """Means over the neighbors by each path, mapped (Kipf and Welling, 2017)."""

    dim: int = 8

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(size=(self.dim,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Propagated

        return Propagated(int(inputs[0].size[-1] or 1), self.dim)


class SemanticAttention(OverGraph, name="semantic_attention"):
    """Several vectors of a node, weighed by how much they agree with their mean."""

    def apply(self, *views: Tensor) -> Tensor:
        import torch

        stacked = torch.stack(views)
        weights = torch.softmax((stacked * stacked.mean(0)).sum(-1).mean(1), dim=0)
        return (weights[:, None, None] * stacked).sum(0)


class PairWeights(Component, kind="pair_weights"):
    """How much each pair counts as a negative."""

    def of(self, labels: Tensor) -> Tensor:
        raise NotImplementedError


class ClusterDisagreement(PairWeights, name="cluster_disagreement"):
    """Pairs of one cluster count less."""

    def of(self, labels: Tensor) -> Tensor:
        import torch

        same = (labels[:, None] == labels[None]) & ~torch.eye(len(labels), dtype=torch.bool)
        return 1 - 0.5 * same.float()


class WeightedInfonce(Loss, name="weighted_infonce"):
    """A contrast of two views of the nodes whose negatives are weighed."""

    axes = ("node",)
    weights: PairWeights = default("cluster_disagreement")
    labels: Ref[Labels]
    temperature: Annotated[Value, Bounds(gt=0)] = default(0.4)

    def compute(self, a: Tensor, b: Tensor, weights: PairWeights, labels: Tensor, temperature: Any) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        scores = normalize(a, dim=-1) @ normalize(b, dim=-1).T / temperature
        return torch.logsumexp(scores + weights.of(labels).log(), dim=1) - scores.diagonal()
