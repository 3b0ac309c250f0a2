"""`Model`: the modules, learned preprocessing and memories of a stage's graph, and how to encode with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmflow.artifacts import ModelArtifact
from mmflow.data import Batch, ColumnBatch, ColumnRequest, collate, column_type, read_field, scan, static_columns
from mmflow.model.execution import Execution
from mmflow.model.graph import Graph, Output, Read, build_graph, entry, face, inputs_of, structure_of
from mmflow.model.modules import Modules
from mmflow.plugin.addresses import address
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Encoder, Memory
from mmflow.plugin.references import Encoded
from mmflow.plugin.values import Encoding
from mmflow.spec.target import Target

LEARN_LIMIT = 200_000
"""Samples at most that `Encoder.learn` reads."""


class Model:
    """Everything that a graph needs to run: made by `create` or `load`, stored by `save`."""

    def __init__(
        self, scope: Any, graph: Graph, modules: Modules, states: Mapping[str, Mapping[str, Any]], seed: int
    ) -> None:
        self.scope, self.graph, self.modules, self.states, self.seed = scope, graph, modules, states, seed
        self.root = modules.root
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.memories: dict[str, dict[str, Tensor]] = {}
        self._static: dict[str, ColumnBatch] | None = None
        self.execution = Execution(graph, modules, scope, seed)

    @classmethod
    def create(
        cls, scope: Any, roots: Sequence[str], *, seed: int, device: str = "cpu",
        states: Mapping[str, Mapping[str, Any]] | None = None, upstream: Callable[[str], Path] | None = None,
    ) -> Model:  # fmt: skip
        """An untrained model of the entries `roots`. `states`: learned preprocessing, see `learn_states`."""
        graph = build_graph(scope, roots)
        modules = Modules(scope, graph, seed=seed, states=states or {}, upstream=upstream)
        with torch.device("meta") if device == "meta" else nullcontext():
            modules.build()
        model = cls(scope, graph, modules, states or {}, seed)
        model._begin_memories()
        return model.to(device)

    @staticmethod
    def learn_states(
        scope: Any, roots: Sequence[str], source: Any, *, limit: int = LEARN_LIMIT
    ) -> dict[str, dict[str, Any]]:
        """Run `Encoder.learn` of every encoder that needs it over its inputs: fields, or views in evaluation's form."""
        states: dict[str, dict[str, Any]] = {}
        graph = build_graph(scope, roots)
        for owner in (n.owner for n in graph.nodes.values() if n.role == "encoder"):
            base, component = structure_of(scope, owner)
            if base in states or not component.learns():
                continue
            inputs = inputs_of(scope, base)
            state: dict[str, Any] = {}
            for place in component.learns():
                target = inputs[place][1]
                if target.section not in ("fields", "views"):
                    raise ComponentError(f"{base} must learn from a field of the data, not from {target.name}")
                state.update(component.learn(place, _values(source, scope.views, target, limit)))
            states[base] = state
        return states

    # --- storage ---------------------------------------------------------------------------------------

    def save(self, artifact: ModelArtifact) -> None:
        artifact.write(self.modules.state_dict(), self.memories, self.states)

    @classmethod
    def load(
        cls, artifact: ModelArtifact, scope: Any, roots: Sequence[str], *, seed: int, device: str = "cpu",
        upstream: Callable[[str], Path] | None = None,
    ) -> Model:  # fmt: skip
        """The model that a train stage stored, as far as `roots` need it; what it never had is drawn again."""
        states = artifact.states()
        for node in build_graph(scope, roots).nodes.values():
            base, component = structure_of(scope, node.owner) if node.role == "encoder" else ("", None)
            if component is not None and component.learns() and base not in states:
                raise ComponentError(
                    f"the model has no {base}: no loss of its training reads that encoder, so it learned no vocabulary",
                    hint="train it with a loss, or measure it with `model: init`",
                )
        model = cls.create(scope, roots, seed=seed, states=states, upstream=upstream)
        model.restore(artifact)
        return model.to(device)

    def restore(self, artifact: ModelArtifact) -> None:
        """Take over the stored values of every parameter, buffer and memory that this model has."""
        stored = artifact.weights()
        self.modules.load(stored)
        self.modules.follow(stored)
        for memory, state in artifact.memories().items():
            if memory in self.memories:
                self.memories[memory] |= {key: tensor.to(self.device) for key, tensor in state.items()}

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> Model:
        self.device = torch.device(device)
        self.dtype = dtype or self.dtype
        self.root.to(self.device, dtype)
        move = partial(_moved, device=self.device, dtype=dtype)
        if self.device.type != "meta":
            self.memories = {n: {k: move(v) for k, v in s.items()} for n, s in self.memories.items()}
        return self

    # --- memories --------------------------------------------------------------------------------------

    def _begin_memories(self) -> None:
        for node in self.graph.nodes.values():
            if isinstance(node.component, Memory):
                generator = torch.Generator().manual_seed(address(self.seed, "memory", node.owner))
                columns = {
                    r.path.removeprefix("of."): self.scope.type_of(r.target) for r in node.reads if r.path[:2] == "of"
                }
                self.memories[node.owner] = node.component.initial(columns, generator=generator)

    # --- data ------------------------------------------------------------------------------------------

    def requests(self) -> list[ColumnRequest]:
        """The columns that the loader must give for this graph; static fields come with the model."""
        return [request for request in self._requests() if not self.scope.type_of(request.target).static]

    def _requests(self) -> list[ColumnRequest]:
        return [
            ColumnRequest(key, target, self._preprocess(encoder, place) if encoder else None)
            for key, (target, encoder, place) in self.graph.leaves.items()
        ]

    def columns(self, batch: Batch) -> dict[str, Encoding]:
        """All leaves of the graph for a batch: its columns, and the fields without the sample axis."""
        if self._static is None:
            wanted = [r for r in self._requests() if self.scope.type_of(r.target).static]
            self._static = static_columns(self.scope.source, wanted) if wanted else {}
        return {key: self.column(column) for key, column in {**batch.columns, **self._static}.items()}

    def _preprocess(self, encoder: str, place: int) -> Callable[[Any], Any]:
        component = entry(self.scope, encoder)
        return partial(component.preprocess, place, state=self.states.get(encoder, {}))

    def column(self, column: ColumnBatch) -> Encoding:
        """A batch column on the model's device, in its floating type."""
        encoding = Encoding({"value": column.values}, column.axes, column.present)
        return encoding.map(partial(_moved, device=self.device, dtype=self.dtype))

    # --- encoding --------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(
        self, encoders: Iterable[str], batch: Batch, outputs: Sequence[str] = ("pooled",)
    ) -> dict[str, Encoding]:
        """Encodings of `encoders` (names) for a batch, without gradient, in evaluation mode."""
        self.root.eval()
        encoders = list(encoders)
        asked = {f"encoders.{name}" for name in encoders}
        values: dict[str, Encoding] = {}
        columns = self.columns(batch)

        def fetch(output: Output) -> Encoding | None:
            owner, name = output
            if owner in self.graph.leaves:
                return columns[owner]
            node = self.graph.nodes[owner]
            if isinstance(node.component, Memory):
                read = node.component.read(self.memories[owner])
                return None if read is None else Encoding({name: read[name].pooled}, (owner,), read[name].present)
            if owner not in values:
                structure = node.structure
                own = structure.taps() if isinstance(structure, Encoder) and owner in asked else ()
                taps = [output for output in outputs if output in own]
                values[owner] = self.execution.encode(node, fetch, taps=taps)
            found = values[owner]
            return Encoding({name: found.outputs[name]}, found.axes, found.present)

        result: dict[str, Encoding] = {}
        for name in encoders:
            owner = f"encoders.{name}"
            merged: dict[str, Any] = {}
            for output in outputs:
                # One by one: the output before a head and the one behind it are both `pooled` of their nodes.
                read = Read(name, Target("encoders", name), (Encoded,), (face(self.graph, owner, output),))
                found = self.execution.fetch(read, fetch)
                assert found is not None
                (merged[output],) = found.outputs.values()
                result[name] = Encoding(merged, found.axes, found.present)
        return result

    def encode_values(self, encoder: str, values: Sequence[Any], outputs: Sequence[str] = ("pooled",)) -> Encoding:
        """Encode raw values (prompts, pictures) of an encoder with one input, as if they were rows of the data."""
        owner = f"encoders.{encoder}"
        leaves = [k for k in self.graph.leaves if k in {o for r in self.graph.nodes[owner].reads for o, _ in r.outputs}]
        if len(leaves) != 1:
            raise ComponentError(f"{owner} does not read one field of the data, so single values cannot be encoded")
        target, base, place = self.graph.leaves[leaves[0]]
        preprocess = self._preprocess(base, place)
        declared = self.scope.type_of(target)
        column = collate([preprocess(value) for value in values], declared.with_(axes=("sample",), groups=()))
        batch = Batch({leaves[0]: column}, [str(i) for i in range(len(values))], len(values), 0, 0)
        return self.encode([encoder], batch, outputs)[encoder]

    def built(self, owner: str, field: str) -> Any:
        """A sub-component or moving number of a component of the graph, as its method would receive it."""
        return self.execution.built(entry(self.scope, owner), owner, field)

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for _, parameter in self.modules.named_parameters()]


def _values(source: Any, views: Mapping[str, Any], target: Target, limit: int) -> Iterator[Any]:
    """What is present of a field or of a view's deterministic form in the first `limit` samples, group members apart.

    The copies of a view are alike in that form, and come once.
    """
    type_ = column_type(target, source.fields(), views)
    if "copy" in type_.axes:
        target = replace(target, index=0)
        type_ = column_type(target, source.fields(), views)
    depth = len(type_.axes) - 1
    if target.section == "fields":
        for value in read_field(source, target.name, limit=limit):
            yield from _members(value if target.index is None else value[target.index], depth)
        return
    count = 0
    for batch in scan(source, views, [ColumnRequest("value", target)], batch_size=64):
        for value in batch.columns["value"].values[: limit - count]:
            yield from _members(value, depth)
        count += batch.size
        if count >= limit:
            return


def _members(value: Any, depth: int) -> Iterator[Any]:
    if value is None:
        return
    if depth == 0:
        yield value
        return
    for member in value:
        yield from _members(member, depth - 1)


def _moved(tensor: Tensor, *, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    floating = dtype is not None and tensor.is_floating_point()
    return tensor.to(device, dtype if floating else None, non_blocking=True)
