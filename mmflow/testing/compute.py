"""`compute_on`: the value and the gradients of a loss on fixed tensors, by the training step itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mmflow.data import Batch, ColumnBatch
from mmflow.model.model import Model
from mmflow.plugin import Encoder, Encoding, Loss, Memory, Tokens
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Json
from mmflow.spec import Spec, load_text
from mmflow.testing.given import register
from mmflow.train.losses import StepResult
from mmflow.train.step import Step

Array: TypeAlias = "Tensor | np.ndarray"
Input: TypeAlias = "Array | Tokens | Encoding | Held | Sequence[str]"
"""The value of a reference: vectors [N, ..., D] or tokens, which get gradients; an `Encoding` with several outputs or
group axes; whole numbers, masks and numbers a row [N]; texts; or a `Held` memory."""


@dataclass(frozen=True)
class Held:
    """Rows of a memory: columns [K, D] by name; one column is called `value`."""

    columns: Mapping[str, Array]


@dataclass
class Computed:
    """The value of a loss, and the gradient of its value for each input and each number that it learns."""

    value: Tensor
    """0-d, before the loss's weight."""
    gradients: dict[str, Tensor] = field(default_factory=dict)
    """By input (`a`; `a.tokens` for one of several outputs), and by path for parameters of the loss (`temperature`)."""
    rows: int = 0
    """Rows that took part."""


@dataclass
class ComputedSum:
    """The weighted sum of several losses, their values before their weights, and the gradients of the sum."""

    total: Tensor
    """0-d."""
    values: dict[str, Tensor]
    gradients: dict[str, Tensor]
    """By input and by path, as those of `Computed`."""


@dataclass(frozen=True)
class Settings:
    """The surroundings of a computation beside its inputs."""

    dtype: torch.dtype = torch.float64
    micro_batch_size: int | None = None
    step: int = 0
    steps: int = 1
    present: Mapping[str, Array] | None = None
    """By input, which rows are there: bool [N]."""
    seed: int = 0


def compute_on(loss: Loss, *, settings: Settings = Settings(), **inputs: Input) -> Computed:
    """Run one training step on fixed values of everything that `loss` refers to, and give its value and gradients.

    `inputs` are named like the references of the loss: with `of=("a", "b"), labels="y"`, give `a=`, `b=` and `y=`.
    Vectors are float tensors [N, D] (or [N, groups, D] in an `Encoding` that names its axes). Raises `SpecError` where
    `mmflow check` would refuse the loss.
    """
    return compute(loss, inputs, settings)


def compute(
    loss: Loss, inputs: Mapping[str, Input], settings: Settings, weights: Mapping[str, Tensor] = {}
) -> Computed:
    """`compute_on` with the inputs in a mapping, and weights that the loss has itself, by path."""
    own = {f"losses.loss.{path}": value for path, value in weights.items()}
    result, gradients = _run({"loss": loss}, inputs, settings, weights=own)
    weight = float(result.weights.get("loss", 1.0))
    value = result.losses.get("loss", torch.zeros((), dtype=settings.dtype))
    scaled = {name: gradient / weight if weight else gradient for name, gradient in gradients.items()}
    return Computed(value.detach(), scaled, result.rows.get("loss", 0))


def compute_sum(
    losses: Mapping[str, Loss],
    inputs: Mapping[str, Input],
    settings: Settings = Settings(),
    *,
    nodes: Mapping[str, Encoder | Memory] = {},
    weights: Mapping[str, Tensor] = {},
) -> ComputedSum:
    """The same for several losses with their weights, as a system trains on their sum.

    `nodes` are encoders and memories between inputs and losses, by name; `weights` what modules hold, by path
    (`encoders.head.linear.weight`, `losses.swap.prototypes.vectors`).
    """
    result, gradients = _run(losses, inputs, settings, nodes, weights)
    values = {name: value.detach() for name, value in result.losses.items()}
    total = torch.zeros((), dtype=settings.dtype)
    for name, value in values.items():
        total = total + value * result.weights[name]
    return ComputedSum(total.detach(), values, gradients)


def _run(
    losses: Mapping[str, Loss],
    inputs: Mapping[str, Input],
    settings: Settings,
    nodes: Mapping[str, Encoder | Memory] = {},
    weights: Mapping[str, Tensor] = {},
) -> tuple[StepResult, dict[str, Tensor]]:
    register(*{type(part): None for part in (*losses.values(), *nodes.values())})
    given = _Inputs(inputs, settings.present or {})
    spec = given.spec(losses, settings.steps, nodes)
    scope = spec.scope("train")
    owners = tuple(Owner("losses", name) for name in losses)
    model = Model.create(scope, owners, seed=settings.seed).to("cpu", settings.dtype)
    given.fill(model, weights)
    batch = given.batch(model)
    result = Step(model, micro_batch_size=settings.micro_batch_size).run(batch, Clock(settings.step, settings.steps))
    gradients: dict[str, Tensor] = {}
    for path, parameter in model.modules.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        section, name, rest = path.split(".", 2)
        output = rest.removeprefix("given_")
        own = section == "encoders" and name in given.encoders
        plain = own and len(given.encoders[name].outputs) == 1
        key = name if plain else f"{name}.{output}" if own else f"{name}.{rest}" if name in nodes else rest
        gradients[key] = gradient
    return result, gradients


class _Inputs:
    """Fixed values as entries of a spec, and put in their places in a model and a batch."""

    def __init__(self, inputs: Mapping[str, Input], present: Mapping[str, Array]) -> None:
        self.encoders: dict[str, Encoding] = {}
        self.fields: dict[str, Tensor | list[str]] = {}
        self.memories: dict[str, dict[str, Tensor]] = {}
        self.present = {name: torch.as_tensor(mask).bool() for name, mask in present.items()}
        for name, value in inputs.items():
            if isinstance(value, Held):
                self.memories[name] = {column: _tensor(rows) for column, rows in value.columns.items()}
            elif isinstance(value, Encoding):
                self.encoders[name] = value
            elif isinstance(value, Tokens):
                self.encoders[name] = Encoding({"tokens": value})
            elif isinstance(value, Tensor | np.ndarray):
                tensor = _tensor(value)
                if tensor.is_floating_point() and tensor.ndim > 1:
                    self.encoders[name] = Encoding({"pooled": tensor})
                else:
                    self.fields[name] = tensor
            else:
                self.fields[name] = list(value)
        sizes = {name: len(value) for name, value in (*self.encoders.items(), *self.fields.items())}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"inputs have different numbers of rows: {sizes}")
        self.size = next(iter(sizes.values()), 0)

    def spec(self, losses: Mapping[str, Loss], steps: int, nodes: Mapping[str, Encoder | Memory]) -> Spec:
        """A spec whose losses read the given values."""
        import yaml

        kinds = {name: _declared(value, self.present.get(name)) for name, value in self.fields.items()}
        masks = {f"row_of_{name}": {"modality": "label", "dtype": "int64"} for name in self.encoders}
        encoders = {
            name: {
                "use": "given_encoder",
                "of": f"row_of_{name}",
                "gives": {output: _output(value, encoding.axes) for output, value in encoding.outputs.items()},
                "shapes": {output: list(_values(value).shape) for output, value in encoding.outputs.items()},
            }
            for name, encoding in self.encoders.items()
        }
        first = next(iter(self.encoders), "row")
        memories = {
            name: {
                "use": "given_memory",
                "of": dict.fromkeys(columns, first),
                "shapes": {column: list(rows.shape) for column, rows in columns.items()},
            }
            for name, columns in self.memories.items()
        }
        made: dict[str, Json] = {name: node.declared() for name, node in nodes.items() if isinstance(node, Encoder)}
        kept: dict[str, Json] = {name: node.declared() for name, node in nodes.items() if isinstance(node, Memory)}
        text: dict[str, Json] = {
            "mmflow": 1,
            "name": "compute",
            "data": {"rows": {"use": "given_rows", "size": self.size, "declared_fields": {**kinds, **masks}}},
            "encoders": {**encoders, **made},
            "memories": {**memories, **kept},
            "losses": {name: loss.declared() for name, loss in losses.items()},
            "train": {"data": "rows", "steps": steps, "batch_size": max(self.size, 1), "optimizer": "sgd"},
        }
        return load_text(yaml.safe_dump(text, sort_keys=False), file="<compute_on>")

    def fill(self, model: Model, others: Mapping[str, Tensor]) -> None:
        """Put the values, and the weights of other nodes, into the weights and memories of a model."""
        weights = dict(others)
        for name, encoding in self.encoders.items():
            for output, value in encoding.outputs.items():
                weights[f"encoders.{name}.given_{output}"] = _values(value)
                if isinstance(value, Tokens):
                    weights[f"encoders.{name}.mask_{output}"] = value.mask
        state = model.modules.state_dict()
        with torch.no_grad():
            for path in weights.keys() & state.keys():
                state[path].copy_(weights[path])
        if missing := others.keys() - state.keys():
            raise KeyError(f"no module has {', '.join(sorted(missing))}; there are {', '.join(state)}")
        for name, columns in self.memories.items():
            owner = Owner("memories", name)
            memory = model.graph.nodes[owner].component if owner in model.graph.nodes else None
            if isinstance(memory, Memory):
                model.memories[owner] = {column: rows.to(model.dtype) for column, rows in columns.items()}

    def batch(self, model: Model) -> Batch:
        """All rows, as a loader would give them."""
        rows = torch.arange(self.size)
        values: dict[str, Tensor | list[str]] = {**self.fields, "row": rows}
        values |= {f"row_of_{name}": rows for name in self.encoders}
        columns: dict[str, ColumnBatch] = {}
        for key, leaf in model.graph.leaves.items():
            name = leaf.target.name
            mask = self.present.get(name.removeprefix("row_of_"))
            columns[key] = ColumnBatch(values[name], ("sample",), mask)
        return Batch(columns, [str(row) for row in range(self.size)], self.size)


def _tensor(value: Array) -> Tensor:
    tensor = torch.as_tensor(value)
    return tensor.clone() if isinstance(value, Tensor) else tensor


def _values(value: Tensor | Tokens) -> Tensor:
    return value.values if isinstance(value, Tokens) else value


def _output(value: Tensor | Tokens, axes: Sequence[str]) -> dict[str, Json]:
    """The declared type of an output as plain data."""
    tensor = _values(value)
    groups = list(tensor.shape[1 : len(axes)])
    kind = {} if tensor.is_floating_point() else {"dtype": "int64"}
    content = tensor.shape[len(axes) :]
    if isinstance(value, Tokens):
        return {"modality": "tokens", "axes": list(axes), "groups": groups, "size": [None, *content[1:]], **kind}
    modality = {0: "number", 1: "vector"}.get(len(content), "grid")
    return {"modality": modality, "axes": list(axes), "groups": groups, "size": list(content), **kind}


def _declared(value: Tensor | list[str], present: Tensor | None) -> dict[str, Json]:
    """The declared type of a field as plain data."""
    if isinstance(value, list):
        return {"modality": "text"}
    if value.is_floating_point():
        return {"modality": "number"} if value.ndim == 1 else {"modality": "vector", "size": list(value.shape[1:])}
    if value.ndim == 2:
        return {"modality": "labels", "size": [value.shape[1]], "dtype": "int64"}
    if value.dtype == torch.bool:
        return {"modality": "number", "dtype": "bool"}
    names = [f"class {number}" for number in range(int(value.max()) + 1)] if value.numel() and value.min() >= 0 else []
    return {"modality": "label", "dtype": "int64", "names": names if len(names) <= 4096 else []}
