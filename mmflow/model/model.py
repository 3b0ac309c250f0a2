"""`Model`: the modules, learned preprocessing and memories of a stage's graph, and how to encode with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmflow.artifacts import ModelArtifact
from mmflow.data import Batch, ColumnBatch, ColumnRequest, collate_values, static_columns, whole_column
from mmflow.model.constraints import Constraining
from mmflow.model.execution import Execution
from mmflow.model.graph import Graph, Leaf, Node, Output, Read, Site, column_of, face
from mmflow.model.graph_builder import build_graph
from mmflow.model.modules import Modules, States
from mmflow.model.preprocessing import LEARN_LIMIT, learn, not_learned, prepared_structures, state_of
from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.kinds import Application, Encoder, Memory, Source, StageScope
from mmflow.plugin.references import Encoded, words
from mmflow.plugin.targets import STAGE, Owner, Target
from mmflow.plugin.values import Argument, Encoding, RawValue, State

CONTENT = "initial"
"""The field of a memory with the values that it begins with."""


class Carried(NamedTuple):
    """Parts of the model that a stage begins with which its own graph does not need."""

    weights: Mapping[str, Tensor]
    memories: Mapping[str, Mapping[str, Tensor]]


class Model:
    """Everything that a graph needs to run: made by `create` or `load`, stored by `save`."""

    def __init__(self, scope: StageScope, graph: Graph, modules: Modules, states: States, seed: int) -> None:
        self.scope, self.graph, self.modules, self.states, self.seed = scope, graph, modules, states, seed
        self.root = modules.root
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.memories: dict[Owner, dict[str, Tensor]] = {}
        self.source = scope.source
        """The data with the static fields that the graph reads."""
        self._static: dict[str, ColumnBatch] | None = None
        self.carried: Carried | None = None
        self.drawn: tuple[str, ...] = ()
        """Encoders whose weights the stored model did not have and no file gives: they are as they were drawn."""
        self.execution = Execution(graph, modules, scope, seed)

    @cached_property
    def constraints(self) -> Constraining:
        """The parameters that stay in a set, known once the modules are built."""
        return Constraining(self.scope, self.graph, self.modules)

    @classmethod
    def planned(
        cls, scope: StageScope, roots: Sequence[Owner], *, seed: int, states: States | None = None,
        upstream: Callable[[str], Path] | None = None,
    ) -> Model:  # fmt: skip
        """The model of the entries `roots` before its modules are built: it knows what it reads of the data."""
        graph = build_graph(scope, roots)
        modules = Modules(scope, graph, seed=seed, states=states or {}, upstream=upstream)
        return cls(scope, graph, modules, states or {}, seed)

    @classmethod
    def create(
        cls, scope: StageScope, roots: Sequence[Owner], *, seed: int, device: str = "cpu",
        states: States | None = None, upstream: Callable[[str], Path] | None = None,
    ) -> Model:  # fmt: skip
        """An untrained model of the entries `roots`. `states`: learned preprocessing, see `learn_states`."""
        model = cls.planned(scope, roots, seed=seed, states=states, upstream=upstream)
        model.modules.build()
        model.constraints.project()
        for node in model.graph.nodes.values():
            if isinstance(node.component, Memory):
                model.memories[node.owner] = model.first_state(node, node.component)
        return model.to(device)

    @staticmethod
    def learn_states(
        scope: StageScope, roots: Sequence[Owner], source: Source | None, *, limit: int = LEARN_LIMIT,
        upstream: Callable[[str], Path] | None = None,
    ) -> dict[str, State]:  # fmt: skip
        """Run `Encoder.learn` of every encoder that needs it over its inputs: fields, or views in evaluation's form.

        Encoders that share weights or structure learn together, from all that they read. An encoder of another stage's
        model brings the state that it learned there, where `upstream` gives that model.
        """
        states: dict[str, State] = {}
        for structure, applied in prepared_structures(scope, roots):
            owner, _, origin = structure
            if origin is not None and origin.trained and upstream is not None:
                states[str(owner)] = state_of(origin, upstream)
            else:
                states[str(owner)] = learn(scope, structure, applied, source, limit)
        return states

    # --- storage ---------------------------------------------------------------------------------------

    def save(self, artifact: ModelArtifact) -> None:
        """Store the model, and with it what the model that it began with had beside it."""
        weights, memories = self._stored()
        artifact.write(weights, memories, self.states)

    def stored_bytes(self) -> int:
        """The length of the tensors that `save` stores."""
        weights, memories = self._stored()
        return sum(tensor.nbytes for state in (weights, *memories.values()) for tensor in state.values())

    def _stored(self) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        memories = {str(owner): state for owner, state in self.memories.items()}
        weights = self.modules.state_dict()
        if self.carried is not None:
            weights, memories = {**self.carried.weights, **weights}, {**self.carried.memories, **memories}
        return weights, memories

    @classmethod
    def load(
        cls, artifact: ModelArtifact, scope: StageScope, roots: Sequence[Owner], *, seed: int, device: str = "cpu",
        upstream: Callable[[str], Path] | None = None, train_on: Source | None = None, memories: bool = True,
    ) -> Model:  # fmt: skip
        """The model that a train stage stored, as far as `roots` need it; parts that it never had are drawn again.

        To train it further, on the data `train_on`: encoders that it never had learn from there, and parts of it that
        `roots` do not need are stored again by `save`. Of what the stage takes over, memories only with `memories`.
        """
        begun = {owner for owner in scope.reach(*roots) if any(p[0] == CONTENT for p in scope.targets(owner))}

        def takes(owner: Owner) -> bool:
            return train_on is None or (scope.takes(owner) and owner not in begun)

        states: dict[str, State] = {name: state for name, state in artifact.states().items() if takes(_owner(name))}
        for structure, applied in prepared_structures(scope, roots):
            owner, _, origin = structure
            if str(owner) in states:
                continue
            if origin is not None and origin.trained and upstream is not None:
                states[str(owner)] = state_of(origin, upstream)
            elif train_on is not None:
                states[str(owner)] = learn(scope, structure, applied, train_on, LEARN_LIMIT)
            else:
                raise not_learned(owner)
        model = cls.create(scope, roots, seed=seed, states=states, upstream=upstream)
        model.restore(artifact, takes, memories=memories)
        if train_on is not None:
            own = {str(owner.whole) for owner in model.graph.nodes}
            beside = {name: tensor for name, tensor in artifact.weights().items() if entry_of(name) not in own}
            kept = {name: state for name, state in artifact.memories().items() if memories and name not in own}
            model.carried = Carried(
                {name: tensor for name, tensor in beside.items() if takes(_owner(name))},
                {name: state for name, state in kept.items() if takes(_owner(name))},
            )
        return model.to(device)

    def restore(
        self, artifact: ModelArtifact, takes: Callable[[Owner], bool] | None = None, *, memories: bool = True
    ) -> None:
        """Take over the stored values of every parameter, buffer and memory that this model has, as far as `takes`
        says of their entries."""
        takes = takes or (lambda owner: True)
        stored = {name: tensor for name, tensor in artifact.weights().items() if takes(_owner(name))}
        self.modules.load(stored)
        self.modules.follow(stored)
        self.drawn = tuple(self._drawn({entry_of(name) for name in stored}))
        owners = {str(owner): owner for owner in self.memories}
        for memory, state in artifact.memories().items() if memories else ():
            if memory in owners and takes(owners[memory]):
                taken = {key: tensor.to(self.device) for key, tensor in state.items()}
                self.remember({owners[memory]: {**self.memories[owners[memory]], **taken}})

    def _drawn(self, stored: Collection[str]) -> Iterator[str]:
        for node in self.graph.nodes.values():
            made, module = node.component, self.modules.at(str(node.owner))
            if node.role != "encoder" or module is None or not isinstance(made, Encoder):
                continue
            own = not isinstance(made, Application) and made.init is None and made.fingerprint() is None
            if own and str(node.owner) not in stored and any(True for _ in module.parameters()):
                yield str(node.owner)

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> Model:
        self.device = torch.device(device)
        self.dtype = dtype or self.dtype
        self.root.to(self.device, dtype)
        move = partial(_moved, device=self.device, dtype=dtype)
        self.remember({n: {k: move(v) for k, v in s.items()} for n, s in self.memories.items()})
        return self

    # --- memories --------------------------------------------------------------------------------------

    def remember(self, states: Mapping[Owner, Mapping[str, Tensor]]) -> None:
        """Take over states of memories, each kept where its memory wants it."""
        for owner, state in states.items():
            memory = self.graph.nodes[owner].component
            assert isinstance(memory, Memory)
            self.memories[owner] = dict(memory.kept(state))

    def first_state(self, node: Node, memory: Memory) -> dict[str, Tensor]:
        """The state in which a memory begins."""
        generator = torch.Generator().manual_seed(address(self.seed, "memory", str(node.owner)))
        columns = {str(r.place[1]): self.scope.type_of(r.target) for r in node.reads if r.field == "of"}
        state = memory.initial(columns, generator=generator)
        targets = self.scope.targets(node.owner).items()
        given = {str(place[1]): target.as_field for place, target in targets if place[0] == CONTENT}
        if not given:
            return state
        values = {name: whole_column(self.source, target) for name, target in given.items()}
        return memory.begun(state, values)

    # --- data ------------------------------------------------------------------------------------------

    def read_from(self, source: Source | None) -> None:
        """Take static fields from `source`, and expect the columns of the batches that it gives."""
        if source is not self.source:
            self.source, self._static = source, None

    def requests(self) -> list[ColumnRequest]:
        """The columns that the loader must give for this graph; static fields come with the model."""
        return self._requests(static=False)

    def _requests(self, *, static: bool) -> list[ColumnRequest]:
        """The columns that the graph reads; those that join the data may not be there yet."""
        known = self.source.fields() if self.source is not None else {}
        absent = self.scope.joined.keys() - known.keys()
        found = []
        for key, leaf in self.graph.columns.items():
            target = leaf.target.as_field
            there = target.section != "fields" or target.name not in absent
            if there and self.scope.type_of(leaf.target).static == static:
                preprocess = None if leaf.structure is None else self._preprocess(leaf)
                found.append(ColumnRequest(key, target, preprocess))
        return found

    def columns(self, batch: Batch) -> dict[str, Encoding]:
        """All leaves of the graph for a batch: its columns, and the fields without the sample axis."""
        if self._static is None:
            wanted = self._requests(static=True)
            self._static = static_columns(self.source, wanted) if wanted and self.source is not None else {}
        return {key: self.column(column) for key, column in {**batch.columns, **self._static}.items()}

    def _preprocess(self, leaf: Leaf) -> Callable[[RawValue], RawValue]:
        assert leaf.structure is not None
        return partial(leaf.structure.preprocess, leaf.input, state=self.states.get(str(leaf.encoder), {}))

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
        self.execution.update_name = ""
        encoders = list(encoders)
        asked = {Owner("encoders", name) for name in encoders}
        values: dict[Owner, Encoding] = {}
        columns = self.columns(batch)
        ids = batch.row_ids()

        def fetch(output: Output) -> Encoding | None:
            owner, name = output
            if isinstance(owner, str):
                if owner not in columns:
                    raise ComponentError(f"{owner} is not there yet, which {', '.join(encoders)} read")
                return columns[owner]
            node = self.graph.nodes[owner]
            if isinstance(node.component, Memory):
                return self.remembered(owner, name, self.memories[owner])
            if owner not in values:
                structure = node.structure
                own = structure.taps() if isinstance(structure, Encoder) and owner in asked else ()
                taps = [output for output in outputs if output in own]
                values[owner] = self.execution.encode(node, fetch, ids, taps=taps)
            found = values[owner]
            return Encoding({name: found.outputs[name]}, found.axes, found.present)

        result: dict[str, Encoding] = {}
        for name in encoders:
            owner = Owner("encoders", name)
            merged: dict[str, Argument] = {}
            for output in outputs:
                # One by one: the output before a head and the one behind it are both `pooled` of their nodes.
                read = Read(("of", 0), Target("encoders", name), (Encoded,), (face(self.graph, owner, output),))
                found = self.execution.fetch(read, fetch)
                assert found is not None
                (merged[output],) = found.outputs.values()
                result[name] = Encoding(merged, found.axes, found.present)
        return result

    def encode_values(self, encoder: str, values: Sequence[RawValue], outputs: Sequence[str] = ("pooled",)) -> Encoding:
        """Encode raw values (prompts, images) of an encoder with one input, as if they were rows of the data."""
        owner = Owner("encoders", encoder)
        read = {key for read in self.graph.nodes[owner].reads for key, _ in read.outputs}
        leaves = [key for key in self.graph.leaves if key in read]
        if len(leaves) != 1:
            raise ComponentError(f"{owner} does not read one field of the data, so single values cannot be encoded")
        leaf = self.graph.leaves[leaves[0]]
        preprocess = self._preprocess(leaf)
        declared = self.scope.type_of(leaf.target)
        ready = [preprocess(value) for value in values]
        index = next((r.target.index for r in self.graph.nodes[owner].reads if leaves[0] in dict(r.outputs)), None)
        column = collate_values(ready, declared, index)
        batch = Batch({leaves[0]: column}, [str(i) for i in range(len(values))], len(values), 0, 0)
        return self.encode([encoder], batch, outputs)[encoder]

    def remembered(self, owner: Owner, name: str, state: Mapping[str, Tensor]) -> Encoding | None:
        """The encoding that a node reads of a memory in `state`, under that name; None while it is not ready."""
        memory, (column, _) = self.graph.nodes[owner].component, column_of(name)
        assert isinstance(memory, Memory)
        read = memory.read(state)
        return None if read is None else Encoding({name: read[column].pooled}, (str(owner),), read[column].present)

    def built_for_stage(self, field: str) -> Argument:
        """A sub-component or moving number of the stage itself, as its method would receive it."""
        component = self.scope.component(STAGE)
        assert isinstance(component, Component)
        return self.execution.built(component, Site(STAGE), field)

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by path, on the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in self.modules.state_dict().items()}

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for _, parameter in self.modules.named_parameters()]


def _owner(path: str) -> Owner:
    """The entry that a parameter, a memory or learned preprocessing belongs to, by its path."""
    return Owner(*words(path)[:2])


def entry_of(parameter: str) -> str:
    """The entry that a parameter belongs to, by its path."""
    return ".".join(words(parameter)[:2])


def _moved(tensor: Tensor, *, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    floating = dtype is not None and tensor.is_floating_point()
    return tensor.to(device, dtype if floating else None, non_blocking=True)
