"""The parts that move the weights: parameter groups by path, learning rates by the clock, averages, bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmflow.model.graph import Site
from mmflow.model.model import Model
from mmflow.model.trained import check_trainable, group_of, trainable
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Encoder
from mmflow.plugin.numbers import Clock
from mmflow.plugin.references import words
from mmflow.plugin.targets import STAGE, Owner
from mmflow.train.settings import Group, Training, Update

Settings = dict[str, Any]
"""A parameter group of a torch optimizer: parameters, their paths, and settings of their own."""


class Optimization:
    """The optimizer of one update with its groups, schedule and clipping."""

    def __init__(self, declaration: Training, model: Model, update: Update | None = None, name: str = "") -> None:
        """`name` is that of the update, where the spec names one: the place of its own optimizer and schedule."""
        self.declaration, self.model = declaration, model
        update = update or Update()
        own = Site(STAGE, ("updates", name))
        self.optimizer_at = own if update.optimizer is not None else Site(STAGE)
        self.declared = update.optimizer or declaration.optimizer
        self.schedule = (declaration, Site(STAGE)) if update.schedule is None else (update, own)
        self.rules: dict[str, Group] = dict(declaration.groups)
        self.patterns = declaration.patterns()
        check_trainable(model, self.patterns)
        self.named = [
            (path, parameter)
            for path, parameter in trainable(model, self.patterns)
            if update.groups is None or group_of(self.patterns, path) in update.groups
        ]
        if not self.named:
            raise ComponentError("nothing to train: every parameter is frozen", hint="look at `freeze` and `groups`")
        self.parameters = [parameter for _, parameter in self.named]
        groups = [self._group(path, parameter) for path, parameter in self.named]
        self.optimizer = self.declared.build(_merged(groups))

    def _group(self, path: str, parameter: nn.Parameter) -> Settings:
        name = group_of(self.patterns, path) or ""
        rule = self.rules.get(name)
        group: Settings = {"params": [parameter], "names": [path], "rule": name}
        group["lr_scale"] = _lr_scale(self.model, path)
        group["fixed_lr"] = rule.lr if rule else None
        if rule and rule.weight_decay is not None:
            group["weight_decay"] = rule.weight_decay
        return group

    def begin(self, clock: Clock) -> float:
        """Set the learning rates of this step; returns the base rate."""
        execution = self.model.execution
        execution.clock = clock
        factor = float(execution.built(*self.schedule, "schedule"))
        base = float(execution.built(self.declared, self.optimizer_at.at("optimizer"), "lr")) * factor
        for group in self.optimizer.param_groups:
            rate = base if group["fixed_lr"] is None else group["fixed_lr"] * factor
            group["lr"] = rate * group["lr_scale"] if self._active(group, clock) else 0.0
        return base

    def rest(self, clock: Clock) -> None:
        """Take the gradients from groups that are not active: neither weights nor the optimizer's state move."""
        for group in self.optimizer.param_groups:
            if not self._active(group, clock):
                for parameter in group["params"]:
                    parameter.grad = None

    def _active(self, group: Settings, clock: Clock) -> bool:
        rule = self.rules.get(group["rule"])
        return rule is None or rule.active is None or rule.active.at(clock.step, clock.epoch)

    def clip(self) -> torch.Tensor:
        """Clip the gradients to the stage's global norm; returns the norm before (0-d, on the device)."""
        limit = self.declaration.clip if self.declaration.clip is not None else float("inf")
        return torch.nn.utils.clip_grad_norm_(self.parameters, limit)


@torch.no_grad()
def move_averages(model: Model, when: str, clock: Clock) -> None:
    """Move the averaged encoders that do so at `when` (`before_forward`, `after_step`) towards those they follow."""
    model.execution.clock = clock
    for path, component, own, followed in model.modules.averaged():
        if component.when != when:
            continue
        owner = Owner(*words(path)[:2])
        momentum = float(model.execution.built(component, Site(owner), "momentum"))
        for mine, other in zip(own.parameters(), followed.parameters(), strict=True):
            mine.lerp_(other, 1.0 - momentum)
        if component.buffers != "own":
            for mine, other in zip(own.buffers(), followed.buffers(), strict=True):
                if component.buffers == "average" and mine.is_floating_point():
                    mine.lerp_(other, 1.0 - momentum)
                else:
                    mine.copy_(other)


def _lr_scale(model: Model, path: str) -> float:
    scale = 1.0
    for node in model.graph.nodes.values():
        if isinstance(node.component, Encoder) and node.role == "encoder" and path.startswith(f"{node.owner}."):
            scale = node.component.lr_scale
    return scale


def _merged(groups: list[Settings]) -> list[Settings]:
    """Groups with equal settings, joined, so that the optimizer's fused kernels see long lists."""
    merged: dict[tuple[object, ...], Settings] = {}
    for group in groups:
        key = (group["rule"], group["lr_scale"], group["fixed_lr"], group.get("weight_decay"))
        if key in merged:
            merged[key]["params"] += group["params"]
            merged[key]["names"] += group["names"]
        else:
            merged[key] = group
    return list(merged.values())
