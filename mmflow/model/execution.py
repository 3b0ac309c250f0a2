"""Running one node: its arguments bound by name, group axes folded into rows, presence carried along."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmflow.model.graph import Graph, Node, Output, Read
from mmflow.model.modules import Modules
from mmflow.plugin.addresses import address
from mmflow.plugin.component import Component, Shared
from mmflow.plugin.kinds import Encoder
from mmflow.plugin.numbers import Clock, Constant, Learned, Value
from mmflow.plugin.references import Encoded
from mmflow.plugin.values import Encoding, Tokens, in_all

Fetch = Callable[[Output], Encoding | None]
"""Gives one output as an `Encoding` that holds just it, or None where a memory is not ready."""


def tensor_map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply `function` to the tensors of an output: a tensor, `Tokens`, or a list (left alone)."""
    if isinstance(value, Tokens):
        return Tokens(function(value.values), function(value.mask))
    return function(value) if isinstance(value, Tensor) else value


class Execution:
    """Runs nodes of a graph with the modules of a model. Stateless but for the clock and the seed."""

    def __init__(self, graph: Graph, modules: Modules, scope: Any, seed: int) -> None:
        self.graph, self.modules, self.scope, self.seed = graph, modules, scope, seed
        self.clock = Clock(0, 1)
        self._signatures: dict[str, Mapping[str, inspect.Parameter]] = {}

    # --- reading ---------------------------------------------------------------------------------------

    def fetch(self, read: Read, fetch: Fetch) -> Encoding | None:
        """What a reference reads, as one `Encoding`: group index and `.detach` applied; None if not ready."""
        merged: dict[str, Any] = {}
        axes: tuple[str, ...] = ("sample",)
        present: Tensor | None = None
        for owner, name in read.outputs:
            found = fetch((owner, name))
            if found is None:
                return None
            role = self.graph.nodes[owner].role if owner in self.graph.nodes else ""
            label = {"head": "pooled", "tokens": "tokens"}.get(role, name)
            merged[label] = found.outputs[name]
            axes, present = found.axes, in_all(present, found.present)
        encoding = Encoding(merged, axes, present)
        if read.target.index is not None:
            encoding = _pick(encoding, read.target.index, read.path)
        if read.target.detach:
            encoding = encoding.map(torch.Tensor.detach)
        return encoding

    def argument(self, read: Read, encoding: Encoding | None) -> Any:
        """The form in which a component receives a reference: an `Encoding`, `Tokens`, a tensor or a list."""
        if encoding is None:
            return None
        if read.whole or (read.target.section == "memories" and _takes_bank(read)):
            if read.target.section == "memories":
                return Encoding({"pooled": next(iter(encoding.outputs.values()))}, encoding.axes, encoding.present)
            return encoding
        return next(iter(encoding.outputs.values()))

    # --- encoders --------------------------------------------------------------------------------------

    def encode(self, node: Node, fetch: Fetch, *, ordinal: int = 0, taps: Sequence[str] = ()) -> Encoding:
        """Run an encoder, a head or a token projection on the rows that `fetch` gives; `taps`: asked for beside."""
        encodings = [self.fetch(read, fetch) for read in node.reads]
        module = self.modules.at(node.module)
        structure = node.structure
        assert isinstance(structure, Encoder)
        own_axes = structure.axes
        axes, folded, groups = _fold(encodings, own_axes)
        present = structure.presence([e for e in encodings if e is not None and e.axes[0] == axes[0]])
        arguments, named = self._encoder_arguments(node, folded)
        if asked := (*self.graph.taps.get(node.owner, ()), *taps):
            named["taps"] = asked
        call = module if module is not None else structure.apply  # type: ignore[attr-defined]
        if module is None or module.training:
            torch.manual_seed(address(self.seed, "model", self.clock.step, node.owner, ordinal))
        if node.role == "tokens":
            tokens: Tokens = arguments[0]
            result = Tokens(call(tokens.values), tokens.mask)
        else:
            result = call(*arguments, **named)
        outputs = result if isinstance(result, Mapping) else {"pooled": result}
        unfolded = {name: _unfold(value, groups) for name, value in outputs.items()}
        return Encoding(unfolded, (*axes, *self._made_axes(node)), present)

    def _made_axes(self, node: Node) -> tuple[str, ...]:
        """Group axes of the result that the encoder handles itself: those that its declared output has of its own."""
        structure = node.structure
        if not isinstance(structure, Encoder) or not structure.axes:
            return ()
        declared = structure.outputs(*(self.scope.type_of(read.target) for read in node.reads))
        first = next(iter(declared.values()))
        return tuple(axis for axis in first.axes[1:] if axis in structure.axes)

    def _encoder_arguments(self, node: Node, folded: list[Encoding | None]) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for read, encoding in zip(node.reads, folded, strict=True):
            field = read.path.partition(".")[0]
            value = self.argument(read, encoding)
            if field == "of":
                positional.append(value)
            elif read.path == field:
                named[field] = value
            else:
                named.setdefault(field, []).append(value)
        # `of` comes first: a parameter in its place may bear any name, that of a field included.
        for name in self._takes(node)[len(positional) :]:
            if name in type(node.structure).model_fields and name not in named:
                named[name] = self.built(node.structure, node.module, name)
            elif name == "clock":
                named[name] = self.clock
        return positional, named

    def _takes(self, node: Node) -> tuple[str, ...]:
        module = self.modules.at(node.module)
        function = module.forward if module is not None else getattr(node.structure, "apply", None)
        return tuple(self._parameters(node.owner, function)) if function is not None else ()

    def _parameters(self, owner: str, function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
        """The parameters of what runs `owner`, looked up once: reading a signature is slow beside a small step."""
        if owner not in self._signatures:
            self._signatures[owner] = inspect.signature(function).parameters
        return self._signatures[owner]

    # --- losses and other components -------------------------------------------------------------------

    def call(
        self, component: Component, owner: str, reads: Mapping[str, tuple[Read, Encoding | None]], *, ids: Any = None,
        present: Tensor | None = None,
    ) -> Any:  # fmt: skip
        """Call a component's method (or its module) with arguments named like its fields."""
        module = self.modules.at(owner)
        function = module.forward if module is not None else getattr(component, component.method)
        parameters = self._parameters(owner, function)
        values = self._fields(reads)
        of = [values.pop(path) for path in list(values) if path == "of" or path.startswith("of.")]
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name in parameters:
            if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                positional += of
                of = []
            elif name in type(component).model_fields:
                named[name] = values[name] if name in values else self.built(component, owner, name)
            elif name in ("clock", "step", "generator", "ids", "present"):
                named[name] = self._request(name, owner, ids, present)
            else:
                if not of:
                    raise TypeError(
                        f"{owner}: {component.use}.{component.method}() wants {name!r}, but `of` has no more"
                    )
                positional.append(of.pop(0))
        return function(*positional, **named)

    def _fields(self, reads: Mapping[str, tuple[Read, Encoding | None]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for path, (read, encoding) in reads.items():
            value = self.argument(read, encoding)
            name, _, rest = path.partition(".")
            if name == "of" or not rest:
                values[path] = value
            elif rest.isdigit():
                values.setdefault(name, []).append(value)
            else:
                values.setdefault(name, {})[rest] = value
        return values

    def _request(self, name: str, owner: str, ids: Any, present: Tensor | None) -> Any:
        if name == "generator":
            return torch.Generator().manual_seed(address(self.seed, "draw", self.clock.step, owner))
        return {"clock": self.clock, "step": self.clock.step, "ids": ids, "present": present}[name]

    def built(self, component: Component, owner: str, name: str) -> Any:
        """A field as a method receives it: numbers resolved, sub-components with their modules in place."""
        value = getattr(component, name)
        if isinstance(value, Shared):
            target = self.scope.targets(owner)[name]
            path = f"{target.section}.{target.name}"
            if target.output:
                other = getattr(self.scope, target.section)[target.name]
                return self.built(other, path, target.output)
            other = getattr(self.scope, target.section)[target.name]
            return self.number(other, path) if isinstance(other, Value) else self._object(other, path)
        if isinstance(value, Value):
            return self.number(value, f"{owner}.{name}")
        if isinstance(value, Component):
            return self._object(value, f"{owner}.{name}")
        return value

    def number(self, value: Value, path: str) -> Any:
        """A moving number now: a float, or a 0-d tensor with gradient where it is learned."""
        if isinstance(value, Constant):
            return value.value
        if isinstance(value, Learned):
            module = self.modules.at(path)
            assert module is not None, f"no learned value at {path}"
            return module()
        return value.at(self.clock)

    def _object(self, component: Component, path: str) -> Any:
        module = self.modules.at(path)
        return module if module is not None else component


def batch_inputs(reads: Mapping[str, Encoding | None]) -> tuple[dict[str, Encoding | None], Tensor | None, int]:
    """Keep the rows that are present in all inputs with the sample axis: (inputs, index or None, rows kept)."""
    mask: Tensor | None = None
    rows = 0
    for encoding in reads.values():
        if encoding is not None and encoding.axes[:1] == ("sample",):
            rows = max(rows, len(encoding))
            if encoding.present is not None:
                own = encoding.present
                own = own.flatten(1).any(1) if own.ndim > 1 else own
                mask = own if mask is None else mask & own
    if mask is None or bool(mask.all()):
        return dict(reads), None, rows
    index = mask.nonzero().squeeze(1)
    kept = {
        path: encoding.rows(index) if encoding is not None and encoding.axes[:1] == ("sample",) else encoding
        for path, encoding in reads.items()
    }
    return kept, index, int(index.numel())


def _takes_bank(read: Read) -> bool:
    return any(t.__name__ in ("Bank",) for t in read.types) or Encoded in read.types


def _pick(encoding: Encoding, index: int, path: str) -> Encoding:
    if len(encoding.axes) < 2:
        raise IndexError(f"{path}: no group axis to take number {index} of")
    outputs = {name: tensor_map(v, lambda t: t[:, index]) for name, v in encoding.outputs.items()}
    present = (
        encoding.present[:, index] if encoding.present is not None and encoding.present.ndim > 1 else encoding.present
    )
    return Encoding(outputs, (encoding.axes[0], *encoding.axes[2:]), present)


def _fold(
    encodings: list[Encoding | None], own_axes: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Encoding | None], tuple[int, ...]]:
    """Fold the group axes that the encoder does not take itself into rows."""
    row = _row_axis(encodings)
    axes: tuple[str, ...] = (row,)
    groups: tuple[int, ...] = ()
    for encoding in encodings:
        if encoding is not None and encoding.axes[0] == row:
            foreign = [a for a in encoding.axes[1:] if a not in own_axes]
            if len(foreign) + 1 > len(axes):
                axes = (row, *foreign)
                first = next(iter(encoding.outputs.values()))
                shape = (first.values if isinstance(first, Tokens) else first).shape
                groups = tuple(int(n) for n in shape[1 : 1 + len(foreign)])
    if not groups:
        return axes, encodings, ()
    folded: list[Encoding | None] = []
    for encoding in encodings:
        if encoding is None or encoding.axes[0] != row:
            folded.append(encoding)
            continue
        count = len([a for a in encoding.axes[1:] if a not in own_axes])
        if count == len(groups):
            fold = lambda t, c=count: t.reshape(-1, *t.shape[1 + c :])  # noqa: E731
        else:
            repeat = 1
            for size in groups[count:]:
                repeat *= size
            fold = lambda t, r=repeat, c=count: t.reshape(-1, *t.shape[1 + c :]).repeat_interleave(r, 0)  # noqa: E731
        outputs = {name: tensor_map(v, fold) for name, v in encoding.outputs.items()}
        folded.append(Encoding(outputs, encoding.axes, None))
    return axes, folded, groups


def _row_axis(encodings: list[Encoding | None]) -> str:
    """The axis of the rows that an encoder runs on: static inputs beside samples are the same for every row."""
    rows = [encoding.axes[0] for encoding in encodings if encoding is not None]
    return "sample" if "sample" in rows or not rows else rows[0]


def _unfold(value: Any, groups: tuple[int, ...]) -> Any:
    if not groups:
        return value
    return tensor_map(value, lambda t: t.reshape(-1, *groups, *t.shape[1:]))
