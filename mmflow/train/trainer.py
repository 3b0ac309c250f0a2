"""The training loop of a train stage, from its declaration to a stored model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmflow.artifacts import CheckpointArtifact, HistoryArtifact, ModelArtifact, TrainingSummary
from mmflow.data import Batch
from mmflow.data.processes import warm_up
from mmflow.model.model import Model
from mmflow.model.trained import nothing_depends, trained_by_entry
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import StageContext, StageStopped
from mmflow.plugin.modality import modality
from mmflow.plugin.numbers import Clock
from mmflow.plugin.streams import Streams
from mmflow.plugin.targets import Owner
from mmflow.train.pace import Pace, Window
from mmflow.train.refresh import Refresher
from mmflow.train.remarks import Bounds, Length, equal_rows, remarks
from mmflow.train.reserve import Reserve
from mmflow.train.settings import Start, Training
from mmflow.train.supply import Supply
from mmflow.train.updates import Moves, Updates
from mmflow.train.warming import warm

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
        workers = declaration.workers if declaration.workers is not None else context.workers
        if workers:
            warm_up()
        self.supply = Supply(declaration, self.scope, source, workers=workers, pin=self.device.type == "cuda")
        self.model = self._model()
        self.history: list[dict[str, float]] = []
        self.step = 0
        self.seconds_before, self.begun = 0.0, time.monotonic()
        """The seconds of earlier tries, and when this one began."""
        self.result: Moves | None = None
        """The last step, until it is logged."""
        self.window = Window()
        self.shares: dict[str, float | torch.Tensor] = dict.fromkeys(self.scope.losses, 0.0)
        """The weight of all rows that each loss has seen; on the device, as reading it waits for it."""
        self.pace = Pace()
        self.refresher = Refresher(declaration, context, self.model)
        self.saved = time.monotonic()
        dtype = PRECISIONS[declaration.precision]
        autocast = dtype if dtype in (torch.bfloat16, torch.float16) else None
        self.updates = Updates(declaration, self.model, autocast=autocast)
        if declaration.compile:
            self._compile()

    def _load(self, *, changed: bool = False) -> None:
        """Read the data as it is now; `changed`: stages inside have changed it."""
        self.supply.load(self.refresher.source() or self.supply.source, self.model, self.step, changed=changed)
        self.pace.begin(self.supply.waited)

    def _model(self) -> Model:
        upstream = self.context.upstream
        precision = torch.float64 if self.declaration.precision == "float64" else torch.float32
        if self.scope.start is not None:
            stored = ModelArtifact(upstream(self.scope.start))
            memories = not isinstance(start := self.declaration.start, Start) or start.memories
            model = Model.load(
                stored, self.scope, self.roots, seed=self.seed, upstream=upstream, train_on=self.supply.source,
                memories=memories,
            )  # fmt: skip
        else:
            states = Model.learn_states(self.scope, self.roots, self.supply.source, upstream=upstream)
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
        else:
            # The model that it begins with may come from a stage without these constraints.
            self.model.constraints.project()
        self.reserve = Reserve(self.context.output, self.model.stored_bytes())
        self.begun = self.saved = time.monotonic()
        if self.step == 0 or self.refresher.running:
            self._refresh()
        if not self.supply.loaded:
            self._load()
        if checkpoint is None:
            clock, size = self.supply.clock(0), self.declaration.micro_batch_size
            for line in warm(self.model, self.supply.batches_before(self.model), clock, size, self.updates.autocast):
                self.context.report.note(line)
        else:
            self.context.report.note(f"resumed at step {self.step} of {self.steps} from {checkpoint}")
        lines = trained_by_entry(self.model, self.declaration.patterns())
        self.context.report.note(f"trains {', '.join(lines)}")
        for batch in self._batches():
            if self.context.report.should_stop():
                self._save()
                raise StageStopped(f"stopped after step {self.step} of {self.steps}; the next run goes on from there")
            self.result = self._one(batch, self.supply.clock(self.step))
            self.step += 1
            self.supply.step_done()
            self.pace.step(self.supply.waited)
            self.window.samples += batch.size
            if self.step % self.declaration.log_every == 0 or self.step == self.steps:
                self._log()
            if time.monotonic() - self.saved > self.declaration.checkpoint_every and self.step < self.steps:
                self._save()
        self._log()
        self._refresh(end=True)
        if self.refresher.ended:
            self.context.report.note(f"ended early, after step {self.step} of {self.steps}: {self.refresher.why()}")
        self._account()

    def _batches(self) -> Iterator[Batch]:
        """Batches, before each of which stages inside may run: where these change the data, it is drawn again."""
        while self.step < self.steps:
            epoch = self.supply.whole_epochs
            for batch in self.supply.batches():
                if self.supply.whole_epochs != epoch:
                    epoch = self.supply.whole_epochs
                    self.refresher.epoch_done()
                changed = self._refresh()
                if self.refresher.ended:
                    return
                if changed:
                    break
                yield batch
                if self.step >= self.steps:
                    return

    def _refresh(self, *, end: bool = False) -> bool:
        """Run the groups of stages inside whose time it is; whether the data is another now."""
        step, epoch, changed = self.step, self.supply.epoch(), False
        for name in self.refresher.due(step, epoch, end=end):
            try:
                changed = self.refresher.run(name, step, epoch, self._between) or changed
            except StageStopped as stop:
                self._save()
                said = f"stopped in `refresh.{name}` after step {step} of {self.steps}; the next run goes on from there"
                raise StageStopped(said) from stop
            for line in self.refresher.told():
                self.history.append(line)
                self.context.report.log(step, line)
                self.context.report.progress(step, self.steps, **{n: v for n, v in line.items() if "." in n})
            self.window = Window()
            self.pace.begin(self.supply.waited)
        if changed and not end:
            self._load(changed=True)
        return changed

    def _between(self) -> None:
        """Between two stages of a group."""
        if self.context.report.should_stop():
            raise StageStopped
        if time.monotonic() - self.saved > self.declaration.checkpoint_every:
            self._save()

    def _account(self) -> None:
        """Tell of losses that never took part, and other signs of ill; raise where nothing has trained at all."""
        idle = [name for name, share in self.shares.items() if not float(share)]
        why = "no row was present in all of its inputs, all weights were 0, a memory was not ready, or it is not active"
        if len(idle) == len(self.shares):
            raise ComponentError(f"no loss took part in any of {self.step} steps: {', '.join(idle)}", hint=why)
        if not self.updates.moved:
            raise nothing_depends()
        for name in idle:
            self.context.remark(f"losses.{name} took part in no step: {why}")
        learned = {
            path: Bounds(module.bounds[0], module.bounds[1]) for path, module in self.model.modules.learned_values()
        }
        contrasts = [n.owner.name for n in self.model.graph.working if n.role == "loss" and n.scope == "batch"]
        leading = self.supply.feed.loaders[self.supply.feed.first]
        length = Length(self.step, leading.batch_size, leading.length)
        untrained = self.scope.start is None
        for remark in remarks(self.history, length, untrained=untrained, contrasts=contrasts, bounds=learned):
            self.context.remark(remark)
        for loss, fields in self._plain_sides():
            source = self.supply.source
            source = source.holding(fields) if isinstance(source, Streams) else source
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
        self.refresher.watch(result)
        return result

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.supply.steps

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    def _log(self) -> None:
        """Log the last step, once."""
        result, window = self.result, self.window
        if result is None:
            return
        self.result, self.window = None, Window()
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
            "step": self.step, "epoch": round(self.supply.epoch(), 4), **numbers, **moves, **learned,
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
                "step": self.step, "data": self.supply.state(), "refresh": self.refresher.save(Path(directory)),
                "seconds": self.seconds, "pace": self.pace.state(), "history": self.history,
                "shares": {name: float(share) for name, share in self.shares.items()},
                "moved": self.updates.moved, "scaler": self.updates.scaler.state_dict(),
                "parameters": self.updates.paths(),
            }  # fmt: skip
            checkpoint.write(self.updates.states(), standing)
            self.context.save_partial(Path(directory))
        self.saved = time.monotonic()

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
        self.step, self.seconds_before, self.history = state["step"], state["seconds"], state["history"]
        self.supply.restore(state["data"])
        self.refresher.restore(folder, state["refresh"])
        self.shares, self.updates.moved = state["shares"], state["moved"]
        self.pace = Pace(*state["pace"])
        for line in self.history:
            # A tracker of this run has seen none of the earlier one.
            self.context.report.log(int(line["step"]), line)

    # --- the end ---------------------------------------------------------------------------------------

    def write(self, output: Path) -> None:
        """Write the stage's outputs: the model and the history."""
        self.reserve.release()
        self.refresher.write(output)
        trained = sum(p.numel() for p in self.updates.parameters.values())
        summary: TrainingSummary = {
            "steps": self.step, "epochs": round(self.supply.epoch(), 4), "samples": self.supply.length,
            "batch_size": self.declaration.sizes().batch, "seconds": round(self.seconds, 3),
            "waited_seconds": round(self.supply.waited, 3),
            "parameters": sum(p.numel() for p in self.model.parameters()), "trained_parameters": trained,
            "device": str(self.device), "precision": self.declaration.precision,
            "skipped": self.supply.skipped,
        }  # fmt: skip
        if self.pace.seconds:
            summary["waiting"] = self.pace.measured()["waiting"]
        HistoryArtifact(output).write(self.history, summary)

    def close(self) -> None:
        self.supply.close()
