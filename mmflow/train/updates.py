"""The updates of a training step, in order: each with the forward that its losses need, and its own optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmflow.artifacts.checkpoint import OptimizerState
from mmflow.data import Batch
from mmflow.model.model import Model, entry_of
from mmflow.plugin.component import ComponentError
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner
from mmflow.train.losses import StepResult
from mmflow.train.optimization import Optimization, move_averages
from mmflow.train.settings import Training, Update
from mmflow.train.step import Step


class Move(NamedTuple):
    """The part of one update in a step: its base learning rate, and the norm of its gradient before clipping."""

    rate: float
    norm: Tensor


@dataclass
class Moves(StepResult):
    """The measurements of a step with several updates."""

    moves: dict[str, Move] = field(default_factory=dict)
    """The updates that took part, by name and in order; a single one that the spec does not name has an empty name."""

    def measured(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the first update, and `lr/NAME`, `grad_norm/NAME` of each that the spec names."""
        found: dict[str, float] = {"lr": 0.0, "grad_norm": 0.0}
        for name, move in reversed(self.moves.items()):
            own = {"lr": move.rate, "grad_norm": float(move.norm)}
            found |= own if not name else {**{f"{key}/{name}": value for key, value in own.items()}, **own}
        return found

    def norms(self) -> dict[str, float]:
        """The norms of the gradients, by what they are called in a message."""
        return {
            f"the norm of the gradient{f' of update {name}' if name else ''}": float(move.norm)
            for name, move in self.moves.items()
        }


class _Update:
    """One update: what it minimizes, what it moves, and whose forward it takes."""

    def __init__(self, name: str, declared: Update, training: Training, model: Model) -> None:
        self.name, self.declared = name, declared
        chosen = None if declared.losses is None else set(declared.losses)
        losses = [node.owner for node in model.graph.nodes.values() if node.role == "loss"]
        self.losses = [owner for owner in losses if chosen is None or owner.name in chosen]
        try:
            self.optimization = Optimization(training, model, declared, name)
        except ComponentError as error:
            if training.updates:
                raise ComponentError(f"update {name}: {error}", hint=error.hint) from error
            raise
        reached = {entry_of(node.module) for node in model.graph.part(self.losses).nodes.values()}
        paths = [path for path, _ in self.optimization.named]
        if not any(not path.startswith("encoders.") or entry_of(path) in reached for path in paths):
            raise ComponentError(
                f"update {name}: its losses reach nothing that it moves",
                found=f"losses {', '.join(owner.name for owner in self.losses)}",
                hint=f"give it other groups, or a loss that reads {entry_of(paths[0])}",
            )
        self.held: list[Tensor | None] = []
        """Its gradients, from the moment that its forward gives them until its turn."""

    @property
    def joint(self) -> bool:
        return self.declared.normalize == "joint"

    def runs(self, step: int) -> bool:
        return step % self.declared.every == 0

    def hold_gradients(self) -> None:
        parameters = self.optimization.parameters
        self.held = [parameter.grad for parameter in parameters]

    def take_gradients(self) -> None:
        for parameter, gradient in zip(self.optimization.parameters, self.held, strict=True):
            parameter.grad = gradient
        self.held = []


class Updates:
    """The updates of a train stage. A step runs those whose turn it is; averages and memories follow the last.

    An update that reuses the forward of another has its gradients from there, at the weights as they were then, and
    holds them until its own turn.
    """

    def __init__(self, training: Training, model: Model, *, autocast: torch.dtype | None = None) -> None:
        self.model, self.training, self.autocast = model, training, autocast
        self.updates = {name: _Update(name, made, training, model) for name, made in training.planned().items()}
        self.leads = {name: self._lead(name) for name in self.updates}
        """Of each update, the one whose forward it takes: itself, or the first that it reuses."""
        enabled = training.precision == "float16"
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=enabled)
        if enabled:
            # Its scale is there once something was scaled.
            self.scaler.scale(torch.zeros((), device=model.device))
        self.moved = False
        """Whether a gradient has reached any parameter."""
        self._unscaled = False
        """Whether the scaler has seen gradients of this step."""
        self._steps: dict[tuple[frozenset[str], frozenset[Owner]], Step] = {}
        self._memories = [node.owner for node in model.graph.nodes.values() if node.role == "memory"]

    def _lead(self, name: str) -> str:
        while (reused := self.updates[name].declared.reuse) is not None:
            name = reused
        return name

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that some update moves, by path."""
        return {path: parameter for update in self.updates.values() for path, parameter in update.optimization.named}

    def run(self, batch: Batch, clock: Clock) -> Moves:
        """Take one step over `batch`; the weights, the averages and the memories move."""
        result = Moves()
        move_averages(self.model, "before_forward", clock)
        running = [name for name, update in self.updates.items() if update.runs(clock.step)]
        forwards = {lead: [name for name in running if self.leads[name] == lead] for lead in running}
        forwards = {lead: names for lead, names in forwards.items() if self.leads[lead] == lead}
        memories = self._of_forwards(forwards)
        for name in running:
            update = self.updates[name]
            rate = update.optimization.begin(clock)
            if name in forwards:
                found = self._forward(forwards[name], memories[name], batch, clock)
                result.add(found)
            result.moves[name if self.training.updates else ""] = Move(rate, self._apply(update, clock))
        if self._unscaled:
            self.scaler.update()
            self._unscaled = False
        self.model.remember(result.memories)
        move_averages(self.model, "after_step", clock)
        return result

    def _of_forwards(self, forwards: Mapping[str, Sequence[str]]) -> dict[str, frozenset[Owner]]:
        """The memories that each forward moves: those that its losses read after the step, and those whose columns it
        computes, where no later one does; what none computes, the last one does beside."""
        found: dict[str, set[Owner]] = {lead: set() for lead in forwards}
        parts = {lead: self.model.graph.part(self._losses(names)).nodes for lead, names in forwards.items()}
        for memory in self._memories:
            node = self.model.graph.nodes[memory]
            able = [
                lead
                for lead, part in parts.items()
                if memory in part or all(before.owner in part for before in self.model.graph.before(node))
            ]
            for lead in (able or list(forwards))[-1:]:
                found[lead].add(memory)
        return {lead: frozenset(memories) for lead, memories in found.items()}

    def _losses(self, names: Iterable[str]) -> list[Owner]:
        return list(dict.fromkeys(owner for name in names for owner in self.updates[name].losses))

    def _forward(self, names: Sequence[str], memories: frozenset[Owner], batch: Batch, clock: Clock) -> StepResult:
        """One forward for the updates `names`, the first of which it belongs to; each then holds its gradients."""
        step = self._step(names, memories)
        updates = [self.updates[name] for name in names]
        trained = {id(p) for update in updates for p in update.optimization.parameters}
        every = self.parameters.values()
        for parameter in every:
            parameter.grad = None
            parameter.requires_grad_(id(parameter) in trained)
        run = step.forward(batch, clock)
        for update in updates:
            scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
            run.backward(update.losses, joint=update.joint, scale=scale, last=update is updates[-1])
            update.hold_gradients()
            for parameter in every:
                parameter.grad = None
        for parameter in every:
            parameter.requires_grad_(True)
        return run.result

    def _step(self, names: Sequence[str], memories: frozenset[Owner]) -> Step:
        key = (frozenset(names), memories)
        if key not in self._steps:
            self._steps[key] = Step(
                self.model,
                micro_batch_size=self.training.micro_batch_size,
                autocast=self.autocast,
                graph=self.model.graph.part([*self._losses(names), *memories]),
                update=names[0] if self.training.updates else "",
            )
        return self._steps[key]

    def _apply(self, update: _Update, clock: Clock) -> Tensor:
        """Move the weights by the gradients that an update holds; returns their norm."""
        update.take_gradients()
        optimization = update.optimization
        optimization.rest(clock)
        there = any(parameter.grad is not None for parameter in optimization.parameters)
        self.moved = self.moved or there
        if there:
            self.scaler.unscale_(optimization.optimizer)
            self._unscaled = True
        norm = optimization.clip()
        if there:
            self.scaler.step(optimization.optimizer)
        self.model.constraints.project([p for p in optimization.parameters if p.grad is not None])
        for parameter in optimization.parameters:
            parameter.grad = None
        return norm

    # --- checkpoints -----------------------------------------------------------------------------------

    def paths(self) -> dict[str, list[str]]:
        """The paths of the parameters that each update moves, in the order of its optimizer's state."""
        return {name: [path for path, _ in update.optimization.named] for name, update in self.updates.items()}

    def states(self) -> dict[str, OptimizerState]:
        """The state of each update's optimizer."""
        return {name: u.optimization.optimizer.state_dict()["state"] for name, u in self.updates.items()}

    def restore(self, states: Mapping[str, OptimizerState]) -> None:
        """Take over what `states` gave."""
        for name, update in self.updates.items():
            optimizer = update.optimization.optimizer
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states.get(name, {})})
