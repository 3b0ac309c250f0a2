"""The checks of a memory: a pure function of its state, the same after it was stored, and absent rows are not kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmflow.plugin import Encoding, Memory, TensorType
from mmflow.plugin.binding import binding
from mmflow.plugin.numbers import Clock
from mmflow.plugin.values import Argument
from mmflow.testing.case import DIM, ROWS
from mmflow.testing.faults import Fault

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class MemoryCase:
    """A memory with one vector [N, D] a column."""

    component: Memory

    @property
    def label(self) -> str:
        return f"memory/{self.component.use}"

    def initial(self, seed: int = 0) -> dict[str, Tensor]:
        types = {name: TensorType("vector", size=(DIM,)) for name in self.component.of}
        return self.component.initial(types, generator=torch.Generator().manual_seed(seed))

    def columns(self, seed: int, rows: int = ROWS) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        return {name: torch.randn(rows, DIM, generator=draw) for name in self.component.of}

    def update(self, state: State, columns: State, *, step: int = 0) -> dict[str, Tensor]:
        """The next state, with made-up labels and ids for what else it asks for."""
        rows = len(next(iter(columns.values())))

        def request(name: str) -> Argument:
            clock = Clock(step, 10)
            asked = {"clock": clock, "step": step, "ids": [str(row) for row in range(rows)]}
            return torch.Generator().manual_seed(step) if name == "generator" else asked[name]

        def field(name: str) -> Argument:
            value = getattr(self.component, name)
            return (
                value.at(Clock(step, 10))
                if hasattr(value, "at")
                else torch.arange(rows) % 3
                if name == "labels"
                else value
            )

        return binding(self.component).call(
            self.component.update, [], field, request, leading=(dict(state), dict(columns))
        )


def check_update_is_pure(case: MemoryCase) -> None:
    """`update` changes neither the state nor the columns that it is given, and gives the same twice."""
    state, columns = case.initial(), case.columns(1)
    given = [*state.items(), *columns.items()]
    before = [value.clone() for _, value in given]
    first = case.update(state, columns)
    for (name, value), old in zip(given, before, strict=True):
        if not torch.equal(value, old):
            raise Fault(case, f"`update` changes `{name}` in place: the state before the step would be lost")
    _same(case, case.update(state, columns), first, "two updates of one state differ: it keeps something of its own")


def check_state_keeps_its_form(case: MemoryCase) -> None:
    """Names, dtypes and, where its size does not grow, shapes of the state stay, so that a checkpoint holds it."""
    state = case.initial()
    for step in range(3):
        after = case.update(state, case.columns(step), step=step)
        if after.keys() != state.keys():
            raise Fault(case, "`update` changes the names of the state", found=sorted(after), expected=sorted(state))
        for name, value in after.items():
            if not isinstance(value, Tensor) or value.dtype != state[name].dtype:
                raise Fault(
                    case, f"`{name}` of the state changes its dtype", found=getattr(value, "dtype", type(value))
                )
            if value.requires_grad:
                raise Fault(case, f"`{name}` of the state carries a gradient")
        state = after


def check_restart(case: MemoryCase) -> None:
    """Stored after two steps and loaded again, it goes on with the same bits."""
    state = case.initial()
    for step in range(2):
        state = case.update(state, case.columns(step), step=step)
    loaded = {name: value.clone() for name, value in state.items()}
    _same(
        case,
        case.update(loaded, case.columns(2), step=2),
        case.update(state, case.columns(2), step=2),
        "a restart changes it",
    )


def check_read(case: MemoryCase) -> None:
    """`read` gives an `Encoding` a column with vectors [K, D], or None while it is not ready, and changes nothing."""
    state = case.initial()
    for step in range(3):
        found = case.component.read(state)
        if found is not None:
            missing = set(case.component.of) - set(found)
            if missing:
                raise Fault(case, "`read` lacks columns", found=sorted(found), expected=sorted(case.component.of))
            for name, encoding in found.items():
                if not isinstance(encoding, Encoding) or encoding.pooled.ndim < 1:
                    raise Fault(case, f"`read` gives no encoding for `{name}`", found=type(encoding))
        state = case.update(state, case.columns(step), step=step)


def check_draws_by_address(case: MemoryCase) -> None:
    """The first state is the same for the same generator, wherever torch's own stands."""
    torch.manual_seed(1)
    first = case.initial()
    torch.manual_seed(2)
    _same(case, case.initial(), first, "`initial` draws without the generator that it is given")


CHECKS = (check_update_is_pure, check_state_keeps_its_form, check_restart, check_read, check_draws_by_address)


def _same(case: MemoryCase, found: State, expected: State, says: str) -> None:
    for name, value in expected.items():
        if not torch.equal(found[name], value):
            raise Fault(case, f"{says} (`{name}`)")
