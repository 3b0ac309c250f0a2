"""The training loop of a train stage, from its declaration to a stored model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmflow.artifacts import CheckpointArtifact, HistoryArtifact, ModelArtifact, TrainingSummary
from mmflow.data import Batch, Feed, Loader, requests_of
from mmflow.data.processes import warm_up
from mmflow.model.model import Model
from mmflow.model.trained import trained_by_entry
from mmflow.plugin.addresses import address
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import StageContext, StageStopped
from mmflow.plugin.modality import modality
from mmflow.plugin.numbers import Clock
from mmflow.plugin.streams import Streams
from mmflow.plugin.targets import STAGE, Owner
from mmflow.train.remarks import Bounds, Length, equal_rows, remarks
from mmflow.train.reserve import Reserve
from mmflow.train.settings import Start, Training
from mmflow.train.updates import Moves, Updates

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def train(declaration: Training, context: StageContext) -> None:
    """Run a train stage: learn preprocessing, build or load the model, train it, write model and history."""
    trainer = Trainer(declaration, context)
    try:
        trainer.run()
    finally:
        trainer.close()
    trainer.write(context.output)


class Trainer:
    """State of a training run. A checkpoint holds all of it, so that a later run goes on exactly from there."""

    def __init__(self, declaration: Training, context: StageContext) -> None:
        self.declaration, self.context, self.scope = declaration, context, context.scope
        self.seed: int = context.scope.seed
        self.device = torch.device(context.device)
        self.roots = self.scope.roots()
        if (source := self.scope.source) is None:
            raise ComponentError(f"stage {context.name} names no data to train on")
        self.source = source
        workers = declaration.workers if declaration.workers is not None else context.workers
        if workers:
            warm_up()
        self.model = self._model()
        self.history: list[dict[str, float]] = []
        self.step = 0
        self.seconds = 0.0
        self.shares: dict[str, float | torch.Tensor] = dict.fromkeys(self.scope.losses, 0.0)
        """The weight of all rows that each loss has seen; on the device, as reading it waits for it."""
        self.pace = Pace()
        self.waited_before = 0.0
        self.feed = Feed(self._loaders(workers))
        self.steps: int = declaration.steps or self.feed.steps(declaration.epochs or 0)
        dtype = PRECISIONS[declaration.precision]
        autocast = dtype if dtype in (torch.bfloat16, torch.float16) else None
        self.updates = Updates(declaration, self.model, autocast=autocast)
        if declaration.compile:
            self._compile()

    def _loaders(self, workers: int) -> dict[str, Loader]:
        """A loader for each stream, which share the worker processes; for data without streams one, without a name."""
        drawn = self.declaration.drawn()
        share = max(1, workers // len(drawn)) if workers else 0
        targets = self.scope.targets(STAGE)
        loaders: dict[str, Loader] = {}
        for name, batches in drawn.items():
            source = self.source.of[name] if isinstance(self.source, Streams) else self.source
            requests = self.model.requests()
            requests = requests_of(name, requests, self.scope.views, source) if name else requests
            own = ("data", name, "sampler") if name and self.declaration.streams()[name].sampler else ("sampler",)
            sampled = {str(p[-1]): t.as_field.name for p, t in targets.items() if p[:-1] == own}
            loaders[name] = Loader(
                source, self.scope.views, requests, sampler=batches.sampler, batch_size=batches.size,
                # Streams of one entry draw apart.
                seed=address(self.seed, "stream", name) if name else self.seed, workers=share, sampled=sampled,
                pin=self.device.type == "cuda",
            )  # fmt: skip
        return loaders

    def _model(self) -> Model:
        upstream = self.context.upstream
        precision = torch.float64 if self.declaration.precision == "float64" else torch.float32
        if self.scope.start is not None:
            stored = ModelArtifact(upstream(self.scope.start))
            memories = not isinstance(start := self.declaration.start, Start) or start.memories
            model = Model.load(
                stored, self.scope, self.roots, seed=self.seed, upstream=upstream, train_on=self.source,
                memories=memories,
            )  # fmt: skip
        else:
            states = Model.learn_states(self.scope, self.roots, self.source, upstream=upstream)
            model = Model.create(self.scope, self.roots, seed=self.seed, states=states, upstream=upstream)
        return model.to(self.device, precision)

    def _compile(self) -> None:
        for node in self.model.graph.nodes.values():
            if (
                node.role == "encoder"
                and node.scope == "row"
                and (module := self.model.modules.at(node.module)) is not None
            ):
                module.compile()

    # --- the loop --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the last step, from a stored checkpoint where an earlier try left one."""
        checkpoint = self.context.load_partial()
        if checkpoint is not None:
            self._resume(checkpoint)
            self.context.report.note(f"resumed at step {self.step} of {self.steps} from {checkpoint}")
        else:
            # The model that it begins with may come from a stage without these constraints.
            self.model.constraints.project()
        self.reserve = Reserve(self.context.output, self.model.stored_bytes())
        lines = trained_by_entry(self.model, self.declaration.patterns())
        self.context.report.note(f"trains {', '.join(lines)}")
        begun = saved = time.monotonic()
        seconds_before = self.seconds
        window = _Window()
        self.pace.begin(self.feed.waited)
        for batch in self.feed.batches() if self.step < self.steps else ():
            if self.context.report.should_stop():
                self.seconds = seconds_before + time.monotonic() - begun
                self._save()
                raise StageStopped(f"stopped after step {self.step} of {self.steps}; the next run goes on from there")
            clock = self.clock()
            result = self._one(batch, clock)
            self.step += 1
            self.feed.step_done()
            self.pace.step(self.feed.waited)
            self.seconds = seconds_before + time.monotonic() - begun
            window.samples += batch.size
            if self.step % self.declaration.log_every == 0 or self.step == self.steps:
                self._log(result, window)
                window = _Window()
            if time.monotonic() - saved > self.declaration.checkpoint_every and self.step < self.steps:
                self._save()
                saved = time.monotonic()
            if self.step >= self.steps:
                break
        self._account()

    def _account(self) -> None:
        """Tell of losses that never took part, and other signs of ill; raise where nothing has trained at all."""
        idle = [name for name, share in self.shares.items() if not float(share)]
        why = "no row was present in all of its inputs, all weights were 0, a memory was not ready, or it is not active"
        if len(idle) == len(self.shares):
            raise ComponentError(f"no loss took part in any of {self.steps} steps: {', '.join(idle)}", hint=why)
        if not self.updates.moved:
            raise ComponentError(
                f"nothing trained in {self.steps} steps: no loss depends on a parameter that trains",
                hint="look at `freeze`, `.detach`, `groups` and at what the losses read",
            )
        for name in idle:
            self.context.remark(f"losses.{name} took part in no step: {why}")
        learned = {
            path: Bounds(module.bounds[0], module.bounds[1]) for path, module in self.model.modules.learned_values()
        }
        contrasts = [n.owner.name for n in self.model.graph.working if n.role == "loss" and n.scope == "batch"]
        leading = self.feed.loaders[self.feed.first]
        length = Length(self.steps, leading.batch_size, leading.length)
        untrained = self.scope.start is None
        for remark in remarks(self.history, length, untrained=untrained, contrasts=contrasts, bounds=learned):
            self.context.remark(remark)
        for loss, fields in self._plain_sides():
            source = self.source.holding(fields) if isinstance(self.source, Streams) else self.source
            for remark in equal_rows(source, fields, loss, self.declaration.batch_size):
                self.context.remark(remark)

    def _plain_sides(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Losses that tell each row of a batch from all others, with the fields behind an input of theirs, where these
        can be compared as they are: texts, names, numbers, classes."""
        for name, loss in self.scope.losses.items():
            owner = Owner("losses", name)
            sides = [t.owner for place, t in self.scope.targets(owner).items() if place[0] == "of"]
            for side in sides if loss.in_batch_negatives() else ():
                fields = tuple(o.name for o in self.scope.reach(side) if o.section == "fields")
                known = [self.scope.fields[field] for field in fields if field in self.scope.fields]
                rows = {one.axes[0] for one in known if not one.static}
                if (
                    known
                    and len(rows) < 2
                    and all(one.modality == "text" or modality(one.modality).discrete for one in known)
                ):
                    yield name, fields

    def _one(self, batch: Batch, clock: Clock) -> Moves:
        result = self.updates.run(batch, clock)
        for name, share in result.shares.items():
            self.shares[name] = self.shares[name] + share
        return result

    def clock(self) -> Clock:
        """Where the run stands. Of data whose length nobody knows, epochs are counted whole."""
        return Clock(self.step, self.steps, self.feed.epoch(), self.declaration.epochs or self._epochs())

    def _epochs(self) -> float:
        """Epochs of a stage that is as long as its `steps`, by the length of the current one."""
        count = self.feed.count()
        return self.steps / count if count else 1.0

    def _log(self, result: Moves, window: _Window) -> None:
        numbers, moves = result.numbers(), result.measured()
        # Half precision skips steps whose gradient overflowed, so there only the losses tell.
        checked = numbers if self.updates.scaler.is_enabled() else {**numbers, **result.norms()}
        bad = [name for name, value in checked.items() if not math.isfinite(value)]
        if bad:
            raise ComponentError(
                f"{', '.join(bad)} is not finite after step {self.step}",
                hint="lower the learning rate, clip the gradient (`clip: 1.0`), or use precision: bfloat16 or float32",
            )
        learned = {
            f"value/{path}": float(module().detach())
            for path, module in self.model.modules.learned_values()
        }  # fmt: skip
        speed = window.samples / max(1e-9, time.monotonic() - window.begun)
        line = {
            "step": self.step, "epoch": round(self.clock().epoch, 4), **numbers, **moves, **learned,
            "samples_per_second": round(speed, 1),
            "seconds": round(self.seconds, 3), **self.pace.measured(),
        }  # fmt: skip
        self.history.append(line)
        self.context.report.log(self.step, line)
        self.context.report.progress(
            self.step, self.steps, loss=numbers["loss"], lr=moves["lr"], samples_per_second=line["samples_per_second"],
            **self.pace.measured(),
        )  # fmt: skip

    # --- checkpoints -----------------------------------------------------------------------------------

    def _save(self) -> None:
        with TemporaryDirectory() as directory:
            checkpoint = CheckpointArtifact(Path(directory))
            self.model.save(checkpoint.model)
            standing = {
                "step": self.step, "data": self.feed.state(), "seconds": self.seconds,
                "waited": self.waited, "pace": self.pace.state(), "history": self.history,
                "shares": {name: float(share) for name, share in self.shares.items()},
                "moved": self.updates.moved, "scaler": self.updates.scaler.state_dict(),
                "parameters": self.updates.paths(),
            }  # fmt: skip
            checkpoint.write(self.updates.states(), standing)
            self.context.save_partial(Path(directory))

    def _resume(self, folder: Path) -> None:
        checkpoint = CheckpointArtifact(folder)
        state = checkpoint.standing()
        if state["parameters"] != self.updates.paths():
            raise ComponentError(
                "the checkpoint was written for other parameters", hint="run with --force to start again"
            )
        self.model.restore(checkpoint.model)
        self.updates.restore(checkpoint.optimizers())
        self.updates.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.feed.restore(state["data"])
        self.shares, self.updates.moved = state["shares"], state["moved"]
        self.waited_before = state["waited"]
        self.pace = Pace(*state["pace"])
        for line in self.history:
            # A tracker of this run has seen none of the earlier one.
            self.context.report.log(int(line["step"]), line)

    @property
    def waited(self) -> float:
        return self.waited_before + self.feed.waited

    # --- the end ---------------------------------------------------------------------------------------

    def write(self, output: Path) -> None:
        """Write the stage's outputs: the model and the history."""
        self.reserve.release()
        self.model.save(ModelArtifact(output))
        trained = sum(p.numel() for p in self.updates.parameters.values())
        summary: TrainingSummary = {
            "steps": self.steps, "epochs": round(self.clock().epoch, 4), "samples": self.feed.length,
            "batch_size": self.declaration.sizes().batch, "seconds": round(self.seconds, 3),
            "waited_seconds": round(self.waited, 3),
            "parameters": sum(p.numel() for p in self.model.parameters()), "trained_parameters": trained,
            "device": str(self.device), "precision": self.declaration.precision,
            "skipped": self.feed.skipped,
        }  # fmt: skip
        if self.pace.seconds:
            summary["waiting"] = self.pace.measured()["waiting"]
        HistoryArtifact(output).write(self.history, summary)

    def close(self) -> None:
        with suppress(Exception):
            self.feed.close()


class Pace:
    """The share of its time that a run waits for data: waiting over waiting and steps, after `WARM_UP` steps.

    The first steps of a process start workers and fill caches; they are left out each time.
    """

    WARM_UP = 10

    def __init__(self, seconds: float = 0.0, waited: float = 0.0) -> None:
        self.seconds, self.waited = seconds, waited
        self._steps = 0
        self._last = (0.0, 0.0)

    def begin(self, waited: float) -> None:
        self._last = (time.monotonic(), waited)

    def step(self, waited: float) -> None:
        """A step is done; `waited` is the time in seconds spent waiting so far."""
        now = (time.monotonic(), waited)
        self._steps += 1
        if self._steps > self.WARM_UP:
            self.seconds += now[0] - self._last[0]
            self.waited += now[1] - self._last[1]
        self._last = now

    def measured(self) -> dict[str, float]:
        """`waiting`, a share from 0 to 1; nothing before there is anything to go by."""
        return {"waiting": round(self.waited / self.seconds, 4)} if self.seconds else {}

    def state(self) -> tuple[float, float]:
        return self.seconds, self.waited


class _Window:
    """Samples since the last logged step, for the throughput."""

    def __init__(self) -> None:
        self.samples, self.begun = 0, time.monotonic()
