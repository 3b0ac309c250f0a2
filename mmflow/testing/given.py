"""Components that stand for fixed tensors: what a component under test reads is exactly what its author gave.

Vectors become the weights of an encoder, so that they are cut into micro-batches, kept and given gradients by the real
step; other values become fields of a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING

from mmflow.artifacts.cells import type_of_plain
from mmflow.plugin import Component, Encoder, Encoding, Memory, Source, TensorType, hookimpl
from mmflow.plugin.registry import registry
from mmflow.plugin.values import RawValue, State

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class _Rows:
    """The ids of a source whose columns the test gives itself."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Mapping[str, RawValue]:
        return {"id": str(index), "row": index}

    def static(self) -> Mapping[str, RawValue]:
        return {}


class GivenRows(Source, name="given_rows"):
    """So many rows; each field is declared, and given by the test."""

    size: int
    declared_fields: dict[str, dict[str, RawValue]] = {}

    def fields(self) -> Mapping[str, TensorType]:
        own = {"row": TensorType("label", dtype="int64"), "id": TensorType("id")}
        return {**own, **{name: type_of_plain(declared) for name, declared in self.declared_fields.items()}}

    def open(self) -> _Rows:
        return _Rows(self.size)


class GivenEncoder(Encoder, name="given_encoder"):
    """Outputs that are weights: row `i` of each is that of the sample whose field `row` holds `i`."""

    gives: dict[str, dict[str, RawValue]]
    """Declared type of each output."""
    shapes: dict[str, tuple[int, ...]]
    """Shape of each output over all rows."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {name: type_of_plain(declared) for name, declared in self.gives.items()}

    @property
    def axes(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(
            dict.fromkeys(axis for declared in self.gives.values() for axis in type_of_plain(declared).axes[1:])
        )

    def build(self, *inputs: TensorType, state: State) -> torch.nn.Module:
        import torch
        from torch import nn

        from mmflow.plugin import Tokens

        kinds = {name: type_of_plain(declared) for name, declared in self.gives.items()}

        class Given(nn.Module):
            def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
                super().__init__()
                for name, shape in shapes.items():
                    if kinds[name].dtype.startswith("float"):
                        self.register_parameter(f"given_{name}", nn.Parameter(torch.zeros(shape)))
                    else:
                        self.register_buffer(f"given_{name}", torch.zeros(shape, dtype=torch.int64))
                    if kinds[name].modality == "tokens":
                        self.register_buffer(f"mask_{name}", torch.ones(shape[:2], dtype=torch.bool))

            def forward(self, row: Tensor) -> dict[str, Tensor | Tokens]:
                found: dict[str, Tensor | Tokens] = {}
                for name, kind in kinds.items():
                    values = getattr(self, f"given_{name}")[row]
                    is_tokens = kind.modality == "tokens"
                    found[name] = Tokens(values, self.get_buffer(f"mask_{name}")[row]) if is_tokens else values
                return found

        return Given(self.shapes)


class GivenMemory(Memory, name="given_memory"):
    """A memory that holds fixed rows and never changes."""

    shapes: dict[str, tuple[int, ...]]

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        import torch

        return {name: torch.zeros(shape) for name, shape in self.shapes.items()}

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding]:
        return {name: Encoding({"pooled": values}) for name, values in state.items()}


def register(*others: type[Component]) -> None:
    """Make the components of this file known to the registry of this process, and `others` that are not installed."""
    made = [each for each in (GivenRows, GivenEncoder, GivenMemory, *others) if not _known(each)]
    names = {f"{each.kind}/{each.use}": f"{each.__module__}:{each.__qualname__}" for each in made}
    if names:
        plugin = SimpleNamespace(mmflow_components=hookimpl(lambda: names))
        registry().add(f"mmflow-testing-{'-'.join(names)}", lambda: plugin, "mmflow.testing", "0")


def _known(made: type[Component]) -> bool:
    return made.use in registry().names(made.kind)
