"""`refresh`: the stages inside a training at their times, and what becomes of the values, models, metrics they give.

A time is whole or not at all: until its last stage is done, the training goes on from what the time before has given.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mmflow.artifacts import ColumnArtifact, MetricsArtifact, ModelArtifact, StaticArtifact
from mmflow.model.model import Model
from mmflow.plugin.kinds import InnerGroup, Source, Stage, StageContext
from mmflow.plugin.targets import STAGE, Place
from mmflow.plugin.values import Json, Metric
from mmflow.train.losses import StepResult
from mmflow.train.settings import TOTAL, Refresh, Time, Training

_NEAR = 1e-9
"""Epochs at most by which a time is taken to be reached, as they are sums of fractions."""


@dataclass
class Standing:
    """Where a group stands: how often it has run, and when it does next."""

    times: int = 0
    first: float = 0.0
    """Its first time, in the unit of `every`."""
    following: float = 0.0
    """The next one."""
    last: int = -1
    """The step before which it ran last."""
    numbers: dict[str, Json] = field(default_factory=dict)
    """Numbers that the last time has given to the next."""


@dataclass
class Patience:
    """How long a measured value has not improved on the best one before."""

    best: float = math.nan
    begun: bool = False
    waited: int = 0

    def take(self, found: Metric) -> bool:
        """Take note of a measured value; whether it is the best so far."""
        improves = not self.begun or found.improves_on(replace(found, value=self.best))
        self.best, self.waited = (found.value, 0) if improves else (self.best, self.waited + 1)
        self.begun = True
        return improves


class Refresher:
    """Runs the groups of stages inside a training."""

    def __init__(self, declaration: Training, context: StageContext, model: Model) -> None:
        self.declaration, self.context, self.model = declaration, context, model
        self.groups: Mapping[str, InnerGroup] = context.scope.groups
        self.standing = {name: Standing() for name in self.groups}
        self.results: dict[str, Path] = {}
        """What stages inside have given, as the training reads it."""
        self.begun: dict[str, Path] = {}
        """What stages have given of a time that is not over."""
        self.running = ""
        """The group whose time that is."""
        self.kept, self.stopping = Patience(), Patience()
        self.course: tuple[float | Tensor, int] = (0.0, 0)
        """The sum of the loss that decides when to end, over the steps of this epoch, and their number."""
        self._measured: list[dict[str, float]] = []

    @property
    def ended(self) -> bool:
        """Whether the training is to end early."""
        stop = self.declaration.stop
        return stop is not None and self.stopping.waited >= stop.patience

    def told(self) -> list[dict[str, float]]:
        """The metrics that are new, by `GROUP.STAGE.METRIC`: a line for each time of a group."""
        found, self._measured = self._measured, []
        return found

    def why(self) -> str:
        """Why the training has ended early."""
        stop = self.declaration.stop
        of = stop.of if stop is not None else ""
        return f"{of} was best at {self.stopping.best:.4g}, and no better {self.stopping.waited} times since"

    def watch(self, result: StepResult) -> None:
        """Take note of a step."""
        stop = self.declaration.stop
        name = stop.loss() if stop is not None else ""
        if name in result.losses:
            value: float | Tensor = result.losses[name]
        elif name == TOTAL and result.losses:
            value = sum(loss * result.weights[one] for one, loss in result.losses.items())
        else:
            return
        self.course = self.course[0] + value, self.course[1] + 1

    def epoch_done(self) -> None:
        """An epoch is over."""
        total, count = self.course
        if count:
            self.stopping.take(Metric("loss", float(total) / count, better="lower"))
        self.course = 0.0, 0

    def source(self) -> Source | None:
        """The data of the training with what stages inside have given so far."""
        return self.context.inside.source(self.results) if self.groups else self.context.scope.source

    # --- times -----------------------------------------------------------------------------------------

    def due(self, step: int, epoch: float, *, end: bool = False) -> list[str]:
        """The groups to run before a step, in order; at the `end` also those that measure."""
        return [name for name in self.groups if name == self.running or self._is_due(name, step, epoch, end)]

    def _is_due(self, name: str, step: int, epoch: float, end: bool) -> bool:
        refresh, standing = self.declaration.refresh[name], self.standing[name]
        if standing.times and standing.last == step:
            return False
        if refresh.until is not None and _reached(refresh.until, step, epoch):
            return False
        if end and self._measuring(name):
            return True
        if not standing.times:
            return _reached(self._start(name), step, epoch)
        return _now(refresh, step, epoch) >= standing.following - _NEAR

    def _start(self, name: str) -> Time:
        refresh = self.declaration.refresh[name]
        return refresh.since or (dict.fromkeys(refresh.every, 0.0) if self.groups[name].read else refresh.every)

    def _measuring(self, name: str) -> list[tuple[str, str]]:
        """The stages of a group that measure, by their own names and by those of their scopes."""
        return [(stage, full) for stage, full in self.groups[name].stages.items() if "Metrics" in self._gives(full)]

    def _gives(self, full: str) -> set[str]:
        return {*self._declared(full).given().values()}

    def _declared(self, full: str) -> Stage:
        declared = self.context.spec.scope(full).component(STAGE)
        assert isinstance(declared, Stage)
        return declared

    # --- a time ----------------------------------------------------------------------------------------

    def run(self, name: str, step: int, epoch: float, between: Callable[[], None]) -> bool:
        """Run a group to its end, from where an earlier try left it; whether the data of the training is another now.

        `between` is called after each stage: there the training may save its state, or stop.
        """
        group, standing = self.groups[name], self.standing[name]
        snapshot = self._emptied(Path("model"))
        self.model.save(ModelArtifact(snapshot))
        self.running = name
        scopes = group.later if standing.times else group.stages
        before = {f"{full}@last": folder for full, folder in self.results.items()}
        for stage, full in group.stages.items():
            if full in self.begun:
                continue
            output = self._emptied(Path("begun") / full)
            scope = scopes[stage]
            self.context.inside.run(
                scope, output, {**before, **self.begun, self.context.scope.stage: snapshot},
                numbers=self._numbers(scope, group, standing), time=f"{step}.{name}",
            )  # fmt: skip
            self.begun[full] = output
            between()
        self._measure(name, step, epoch, snapshot)
        return self._finish(name, step, epoch)

    def _numbers(self, scope: str, group: InnerGroup, standing: Standing) -> dict[Place, Json]:
        places = group.numbers.get(scope, {})
        return {place: standing.numbers[number] for place, number in places.items() if number in standing.numbers}

    def _measure(self, name: str, step: int, epoch: float, snapshot: Path) -> None:
        """Read what the stages of a group have measured, and what follows of it."""
        numbers: dict[str, float] = {}
        keep, stop = self.declaration.keep, self.declaration.stop
        for stage, full in self._measuring(name):
            artifact, written = MetricsArtifact(self.begun[full]), f"{name}.{stage}"
            numbers |= {f"{written}.{metric.name}": metric.value for metric in artifact.metrics()}
            for asked, named in (("keep.best", keep and keep.best), ("stop.of", stop and stop.of)):
                if named is None or not named.startswith(f"{written}."):
                    continue
                wanted = named.removeprefix(f"{written}.")
                found = artifact.judged(wanted, asked=asked, stage=written, written=written)
                if asked == "stop.of":
                    self.stopping.take(found)
                elif self.kept.take(found):
                    self._keep(self._model_of(full, snapshot))
        if numbers:
            line = {"step": step, "epoch": round(epoch, 4), **numbers}
            self._measured.append(line)

    def _model_of(self, full: str, snapshot: Path) -> Path:
        """The model that a stage has used."""
        return self.begun.get(self.context.spec.scope(full).model or "", snapshot)

    def _keep(self, model: Path) -> None:
        best = self._emptied(Path("best"))
        shutil.copytree(model / "model", best / "model", copy_function=_linked)
        self.publish(best, {**self.results, **self.begun})

    def _finish(self, name: str, step: int, epoch: float) -> bool:
        """The time is over: its results take the place of those of the one before."""
        group, standing, refresh = self.groups[name], self.standing[name], self.declaration.refresh[name]
        for number, target in group.given.items():
            values, _ = StaticArtifact(self.begun[target.name], str(target.output)).read()
            standing.numbers[number] = values.tolist()
        replaced = False
        for full in group.stages.values():
            if "Model" in self._gives(full):
                self.model.restore(ModelArtifact(self.begun[full]))
                replaced = True
        if replaced:
            self.model.constraints.project()
        needed = {*group.read, *group.remembered, *(full for full, _, _ in group.published.values())}
        for full, folder in self.begun.items():
            kept = self._folder("results") / full
            shutil.rmtree(kept, ignore_errors=True)
            if full in needed:
                kept.parent.mkdir(exist_ok=True)
                folder.rename(kept)
                self.results[full] = kept
            else:
                shutil.rmtree(folder)
        self.begun, self.running = {}, ""
        now, ((unit, every), *_) = _now(refresh, step, epoch), refresh.every.items()
        if not standing.times:
            standing.first = self._start(name).get(unit, now)
        standing.times, standing.last = standing.times + 1, step
        standing.following = standing.first + every * (math.floor((now - standing.first) / every + _NEAR) + 1)
        return bool(group.read)

    # --- outputs ---------------------------------------------------------------------------------------

    def write(self, output: Path) -> None:
        """Write the model that the training leaves, and the values of stages inside."""
        if self.kept.begun:
            shutil.copytree(self._folder("best"), output, copy_function=_linked, dirs_exist_ok=True)
        else:
            self.model.save(ModelArtifact(output))
            self.publish(output, self.results)

    def publish(self, output: Path, results: Mapping[str, Path]) -> None:
        """Write the values of stages inside that are outputs of the training."""
        for group in self.groups.values():
            for name, (full, inner, kind) in group.published.items():
                if full not in results:
                    continue
                if kind == "Static":
                    StaticArtifact(results[full], inner).copy_to(StaticArtifact(output, name))
                else:
                    ColumnArtifact(results[full], inner).copy_to(ColumnArtifact(output, name))

    # --- checkpoints -----------------------------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what a later run needs to go on; returns the rest of it, plain."""
        best = {"best": self._folder("best")} if self.kept.begun else {}
        for kind, folders in (("results", self.results), ("begun", self.begun), ("best", best)):
            for name, one in folders.items():
                shutil.copytree(one, folder / "inside" / kind / name, copy_function=_linked)
        return {
            "groups": {name: asdict(standing) for name, standing in self.standing.items()},
            "running": self.running, "course": [float(self.course[0]), self.course[1]], "kept": asdict(self.kept),
            "stopping": asdict(self.stopping),
        }  # fmt: skip

    def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Take over what `save` gave."""
        self.standing = {name: Standing(**state["groups"][name]) for name in self.groups}
        self.running, self.course = state["running"], (state["course"][0], state["course"][1])
        self.kept, self.stopping = Patience(**state["kept"]), Patience(**state["stopping"])
        self.results, self.begun = (dict(self._restored(folder / "inside" / kind)) for kind in ("results", "begun"))
        if self.kept.begun:
            shutil.copytree(folder / "inside" / "best" / "best", self._folder("best"), copy_function=_linked)

    def _restored(self, folder: Path) -> Iterator[tuple[str, Path]]:
        for one in sorted(folder.iterdir()) if folder.exists() else ():
            own = self._folder(folder.name) / one.name
            shutil.copytree(one, own, copy_function=_linked)
            yield one.name, own

    def _folder(self, name: str) -> Path:
        return self.context.scratch / name

    def _emptied(self, name: Path) -> Path:
        folder = self.context.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def _reached(time: Time, step: int, epoch: float) -> bool:
    now = {"steps": float(step), "epochs": epoch}
    return all(now[unit] >= number - _NEAR for unit, number in time.items())


def _now(refresh: Refresh, step: int, epoch: float) -> float:
    return float(step) if "steps" in refresh.every else epoch


def _linked(source: str, destination: str) -> str:
    """One more name of a file that is never changed, where the disk allows it; else a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination
