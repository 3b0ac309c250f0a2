"""Encoders of other libraries, run by a spec and compared with the libraries' own outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mmflow.data import Batch, scan
from mmflow.model.model import Model
from mmflow.model.shapes import check_shapes
from mmflow.plugin import Clock, Encoding, Tokens
from mmflow.spec import Owner, Spec, load_text

ROWS = 6
SPEC = """
mmflow: 1
data: {{train: {source}}}
views: {views}
encoders:
  x: {encoder}
losses: {{l: {{use: uniformity, of: x}}}}
train: {{data: train, steps: 1, batch_size: {rows}}}
"""


@dataclass
class Run:
    """An encoder `x` of a spec with the rows of its data."""

    spec: Spec
    model: Model
    batches: list[Batch]

    def encode(self, outputs: Sequence[str]) -> Encoding:
        """All rows, as an evaluation encodes them, in the batches that were asked for."""
        parts = [self.model.encode(["x"], batch, outputs)["x"] for batch in self.batches]
        return Encoding({name: _joined([part[name] for part in parts]) for name in outputs}, parts[0].axes)

    def train(self, ordinal: int = -1) -> Encoding:
        """All rows in one pass of training."""
        model, batch = self.model, self.batches[0]
        model.root.train()
        model.execution.clock = Clock(3, 10)
        columns = model.columns(batch)
        node = model.graph.nodes[Owner("encoders", "x")]
        return model.execution.encode(node, lambda output: columns[output[0]], {"sample": batch.ids}, ordinal=ordinal)

    def raw(self, field: str) -> list[Any]:
        reader = self.spec.data["train"].open()
        return [reader[index][field] for index in range(len(reader))]

    @property
    def module(self) -> torch.nn.Module:
        found = self.model.modules.at("encoders.x")
        assert found is not None
        return found


def _joined(values: Sequence[Any]) -> Any:
    if not isinstance(values[0], Tokens):
        return torch.cat(list(values))
    longest = max(value.mask.shape[1] for value in values)

    def longer(tensor: Tensor) -> Tensor:
        room = tensor.new_zeros((tensor.shape[0], longest - tensor.shape[1], *tensor.shape[2:]))
        return torch.cat([tensor, room], 1)

    return Tokens(torch.cat([longer(v.values) for v in values]), torch.cat([longer(v.mask) for v in values]))


@pytest.fixture
def library_encoder() -> Callable[..., Run]:
    """`library_encoder("{use: ...}", source="{use: ...}", dtype=..., rows=3)`: the encoder over six rows of data."""

    def make(
        encoder: str, *, source: str = "{use: shapes, size: 6, pixels: 40}", dtype: torch.dtype = torch.float64,
        rows: int = ROWS, overrides: Sequence[str] = (), views: str = "{}",
    ) -> Run:  # fmt: skip
        spec = load_text(SPEC.format(encoder=encoder, source=source, rows=ROWS, views=views), overrides=list(overrides))
        scope = spec.scope("train")
        states = Model.learn_states(scope, scope.roots(), scope.source)
        model = Model.create(scope, scope.roots(), seed=0, states=states).to("cpu", dtype)
        return Run(spec, model, list(scan(spec.data["train"], scope.views, model.requests(), batch_size=rows)))

    return make


@pytest.fixture
def declared_as_made() -> Callable[..., None]:
    """Declared sizes of outputs and taps are those of the tensors, and `check --shapes` finds nothing."""

    def check(run: Run, made: Encoding) -> None:
        declared: Mapping[str, Any] = run.spec.scope("train").outputs(Owner("encoders", "x"))
        for name, value in made.outputs.items():
            shape = tuple((value.values if isinstance(value, Tokens) else value).shape[1:])
            size = declared[name].size
            assert len(size) == len(shape), name
            assert all(one in (None, other) for one, other in zip(size, shape, strict=True)), (name, size, shape)
        assert check_shapes(run.spec).problems == []

    return check
