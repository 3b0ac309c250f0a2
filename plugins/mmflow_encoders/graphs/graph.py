"""The graph network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Pooled, RawField, Refs, Scope, TensorType
from mmflow_encoders.declared import HEADS, Depth, Dropping, Heads, Width, check_heads, vector_like, width_of
from mmflow_encoders.inputs import MOST

if TYPE_CHECKING:
    from torch import nn


class Graph(Dropping, name="graph"):
    """Graph network over the rows of an axis (nodes), with one dense matrix for each type of edge or meta-path.

    `of: [features, edges, edges, ...]`: vectors [N, C] and matrices [N, N], where entry (i, j) is the weight of the
    edge from j to i. Outputs: `pooled` [N, width], a vector for each node. Tap: `paths` [N, P], the weights of the P
    matrices (equal for all nodes). Permuted nodes give permuted outputs; the node needs the whole graph, so it is a
    batch node.

    `neighbors`: how a layer sums over neighbors, D the sums of the rows: `symmetric` D^-1/2 A D^-1/2 (GCN; Kipf and
    Welling, 2017), `mean` D^-1 A, `sum` A, or `attention`, multi-head attention over the nodes with an edge, whose
    weights then do not count (Velickovic et al., 2018, with dot products). `loops` adds an edge from each node to
    itself. `paths: sum` adds the types in each layer, with weights of their own and one matrix for the node itself
    (R-GCN; Schlichtkrull et al., 2018): h' = activation(W_0 h + sum_p A_p h W_p). `paths: attention` runs a stack for
    each type (one for all with `share`) and joins their results by attention over types (HAN; Wang et al., 2019):
    z = sum_p b_p z_p, b = softmax_p mean_i q . tanh(W z_p,i + b). The activation follows all layers but the last.
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (("vector",),) * MOST
    example: ClassVar[str] = "{use: graph, of: [node.x, node.coauthors, node.venues], width: 64, paths: attention}"

    of: Refs[Pooled | RawField] = Field(min_length=2, max_length=MOST)
    width: Width = Field(64, description="of each layer")
    depth: Depth = Field(2, description="number of layers")
    neighbors: Literal["symmetric", "mean", "sum", "attention"] = Field("symmetric", description="sum over neighbors")
    paths: Literal["sum", "attention"] = Field("sum", description="how types of edges are joined")
    share: bool = Field(False, description="one set of weights for all types; needs paths: attention")
    loops: bool = Field(True, description="whether each node is its own neighbor")
    heads: Heads = Field(4, description=HEADS + "; of neighbors: attention")
    activation: Literal["none", "relu", "gelu", "tanh", "silu", "elu"] = Field("relu", description="between layers")

    @model_validator(mode="after")
    def _shared(self) -> Graph:
        if self.share and self.paths == "sum":
            raise ValueError("share: true needs paths: attention")
        return self

    def scope(self) -> Scope:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        widths = {given.size[-1] for given in inputs[1:] if given.size and given.size[-1] is not None}
        if len(widths) > 1 or (widths and "sample" in {given.axes[0] for given in inputs[1:]}):
            raise ComponentError(
                "edges are matrices with a row and a column for each node",
                found=" and ".join(f"{width} columns" for width in sorted(widths)),
            )
        return {"pooled": vector_like(inputs[0], self.width), "paths": vector_like(inputs[0], len(inputs) - 1)}

    def taps(self) -> tuple[str, ...]:
        return ("paths",)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.graph_network import GraphNetwork

        if self.neighbors == "attention":
            check_heads(self.width, self.heads)
        return GraphNetwork(
            channels=width_of(self.use, inputs[0]),
            types=len(inputs) - 1,
            width=self.width,
            layers=self.depth,
            neighbors=self.neighbors,
            by_attention=self.paths == "attention",
            share=self.share,
            loops=self.loops,
            heads=self.heads,
            activation=self.activation,
            dropout=self.dropout,
        )
