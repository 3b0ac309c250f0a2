"""One forward of a training step with its gradients: what it runs, which losses are active, how it cuts the batch."""

from __future__ import annotations

import torch

from mmflow.data import Batch
from mmflow.model.graph import Graph
from mmflow.model.model import Model
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner
from mmflow.train.forward import Run
from mmflow.train.losses import StepResult, active


class Step:
    """Computes the gradients of one global batch into the parameters' `.grad`, and the memories' next state.

    `graph` is the part of the model's graph that it runs, the whole by default. `update` names the update that it is
    for, whose draws are its own; empty where a step has one only.
    """

    def __init__(
        self, model: Model, *, micro_batch_size: int | None, autocast: torch.dtype | None = None,
        scale: float = 1.0, graph: Graph | None = None, update: str = "",
    ) -> None:  # fmt: skip
        self.model, self.graph, self.execution = model, graph or model.graph, model.execution
        self.micro_batch_size, self.autocast, self.scale, self.update = micro_batch_size, autocast, scale, update
        self.losses = {n.owner: n for n in self.graph.nodes.values() if n.role == "loss"}
        self.active: set[Owner] = set()
        # A tower that is frozen as a whole behaves as in evaluation; an averaged one follows its model.
        self.still = [
            module
            for node in self.graph.nodes.values()
            if (module := model.modules.at(node.module)) is not None
            and not node.follows
            and not any(p.requires_grad for p in module.parameters())
            and any(True for _ in module.parameters())
        ]

    def run(self, batch: Batch, clock: Clock) -> StepResult:
        """Forward and backward over `batch`. Gradients are added to `.grad`; memories are returned, not set."""
        run = self.forward(batch, clock)
        run.backward(self.losses, scale=self.scale)
        return run.result

    def forward(self, batch: Batch, clock: Clock) -> Run:
        """The forward alone; gradients of its losses may then be asked for, of some after others."""
        self.execution.clock, self.execution.update_name = clock, self.update
        self.model.root.train()
        for module in self.still:
            module.eval()
        self.active = {owner for owner, node in self.losses.items() if active(node, clock)}
        run = Run(
            self.model, self.graph, batch, micro_batch_size=self.micro_batch_size, active=self.active,
            autocast=self.autocast,
        )  # fmt: skip
        run.forward()
        return run
