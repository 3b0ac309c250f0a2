"""Losses that refuse whole numbers by their values (a class beyond the logits), called with those of real rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmflow.model.graph import Output
from mmflow.model.rehearsal import problem_of, said_by
from mmflow.model.rows import folded
from mmflow.model.tracing import Trace
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Loss
from mmflow.plugin.values import Argument, Encoding, Tokens
from mmflow.spec.text.problems import Problem


def value_problems(trace: Trace) -> Iterator[Problem]:
    """What losses refuse of the whole numbers in the rows that were read; other numbers are zeros.

    Numbers that an encoder makes are not known before it has run: such a loss is left out.
    """
    columns = trace.real

    def fetch(output: Output) -> Encoding:
        owner, name = output
        if isinstance(owner, str):
            if owner not in columns:
                raise _Unknown
            return columns[owner]
        traced = trace.given(output)
        if traced is None:
            raise _Unknown
        keys = [key for read in trace.graph.nodes[owner].reads for key, _ in read.outputs if isinstance(key, str)]
        behind = [value for key in keys if key in columns for value in columns[key].outputs.values()]
        return Encoding({name: _stand_in(traced[name], behind)}, traced.axes)

    for node in trace.graph.working:
        made = node.component
        if not isinstance(made, Loss) or not type(made).refuses_values or node.owner not in trace.learning:
            continue
        try:
            inputs = {r.place: trace.execution.fetch(r, fetch) for r in node.reads if r.field != "rows"}
            found = folded(inputs, type(made).axes, trace.ids) if node.scope == "row" else (inputs, trace.ids)
            with torch.no_grad():
                trace.execution.call(node, found[0], ids=found[1])
        except ComponentError as error:
            message = f"{made.use} does not fit its inputs: {said_by(error)}"
            yield problem_of(tuple(filter(None, node.owner)), message, error)
        except (_Unknown, RuntimeError, NotImplementedError):
            # Numbers of the model are not there yet.
            continue


class _Unknown(Exception):
    """A whole number that only a run of an encoder gives."""


def _stand_in(traced: Argument, behind: list[Argument]) -> Argument:
    """Zeros for other numbers; whole ones as they went into the encoder, cut or padded as they came out."""
    tensor = traced.values if isinstance(traced, Tokens) else traced
    if not isinstance(tensor, Tensor):
        raise _Unknown
    if tensor.is_floating_point():
        zeros = torch.zeros(tensor.shape, dtype=tensor.dtype)
        mask = torch.ones(traced.mask.shape, dtype=torch.bool) if isinstance(traced, Tokens) else None
        return zeros if mask is None else Tokens(zeros, mask)
    for value in behind:
        inner = value.values if isinstance(value, Tokens) else value
        if type(value) is not type(traced) or not isinstance(inner, Tensor) or inner.is_floating_point():
            continue
        if inner.shape == tensor.shape:
            return value
        if isinstance(value, Tokens) and inner.ndim == tensor.ndim == 2 and len(inner) == len(tensor):
            cut = (0, tensor.shape[1] - inner.shape[1])
            return Tokens(pad(inner, cut), pad(value.mask, cut))
    raise _Unknown
