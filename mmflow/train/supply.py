"""The data of a training, read with what stages inside have given by then, and where its batches stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mmflow.data import Batch, Feed, Loader, requests_of
from mmflow.model.model import Model
from mmflow.plugin.addresses import address
from mmflow.plugin.kinds import Source, StageScope
from mmflow.plugin.numbers import Clock
from mmflow.plugin.streams import Streams
from mmflow.plugin.targets import STAGE, Place, Target
from mmflow.train.settings import Training


class Supply:
    """Batches of `source`, until `load` reads it again. Numbers of batches are those of its first stream."""

    def __init__(self, declaration: Training, scope: StageScope, source: Source, *, workers: int, pin: bool) -> None:
        self.declaration, self.scope, self.source = declaration, scope, source
        self.workers, self.pin = workers, pin
        self.steps = declaration.steps or 0
        """Of the whole training; 0 while nobody knows."""
        self.length: int | None = None
        """Samples of all streams, where that is known."""
        self._feed: Feed | None = None
        self._cursors: Mapping[str, list[int]] = {}
        self._epoch = 0.0
        """Where the batches stand, while there are none."""
        self._waited = 0.0
        self._skipped: dict[str, str] = {}

    @property
    def loaded(self) -> bool:
        """Whether the data is read."""
        return self._feed is not None

    @property
    def feed(self) -> Feed:
        assert self._feed is not None
        return self._feed

    def load(self, source: Source, model: Model, step: int, *, changed: bool) -> None:
        """Read `source` for the steps from `step` on; `changed`: it is another than it was."""
        self.close()
        self.source = source
        model.read_from(source)
        self._feed = feed = Feed(self._loaders(model))
        feed.restore(self._cursors)
        self.length = feed.length
        epochs, cursor = self.declaration.epochs, feed.cursor
        if epochs is not None and not self._length_moves():
            self.steps = feed.steps(epochs)
        elif epochs is not None and (changed or not self.steps):
            left = epochs - cursor.epoch
            self.steps = step - cursor.done + (feed.steps(left, cursor.epoch) if left > 0 else 0)

    def _loaders(self, model: Model, *, before: bool = False) -> dict[str, Loader]:
        """A loader for each stream, which share the worker processes; for data without streams one, without a name.
        `before` the first step there are no such processes, and draws are others than those of the steps."""
        drawn = self.declaration.drawn()
        seed = address(self.scope.seed, "before") if before else self.scope.seed
        share = max(1, self.workers // len(drawn)) if self.workers and not before else 0
        targets = self.scope.targets(STAGE)
        loaders: dict[str, Loader] = {}
        for name, batches in drawn.items():
            source = self.source.of[name] if isinstance(self.source, Streams) else self.source
            requests = model.requests()
            requests = requests_of(name, requests, self.scope.views, source) if name else requests
            own = self._sampler_of(name)
            sampled = {str(p[-1]): _field_of(name, t) for p, t in targets.items() if p[:-1] == own}
            loaders[name] = Loader(
                source, self.scope.views, requests, sampler=batches.sampler, batch_size=batches.size,
                # Streams of one entry draw apart.
                seed=address(seed, "stream", name) if name else seed, workers=share, sampled=sampled, pin=self.pin,
            )  # fmt: skip
        return loaders

    def _sampler_of(self, stream: str) -> Place:
        """The field with the sampler of a stream."""
        own = stream and self.declaration.streams()[stream].sampler is not None
        return ("data", stream, "sampler") if own else ("sampler",)

    def _length_moves(self) -> bool:
        """Whether a column that stages inside give again and again says how many batches an epoch has."""
        inside = {full for group in self.scope.groups.values() for full in group.stages.values()}
        own = self._sampler_of(next(iter(self.declaration.drawn())))
        sampled = [target for place, target in self.scope.targets(STAGE).items() if place[:-1] == own]
        joined = [self.scope.joined.get(target.as_field.name, target) for target in sampled]
        return any(target.section == "stages" and target.name in inside for target in joined)

    # --- batches ---------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Batch]:
        """Batches without end from where they stand."""
        return self.feed.batches()

    def batches_before(self, model: Model) -> Iterator[Batch]:
        """Batches without end for what comes before the first step, which move nothing."""
        feed = Feed(self._loaders(model, before=True))
        try:
            yield from feed.batches()
        finally:
            feed.close()

    def step_done(self) -> None:
        """The batch that was given last is done with."""
        self.feed.step_done()

    @property
    def whole_epochs(self) -> int:
        """Epochs that are over, as far as it is known before the next batch is drawn."""
        return self.feed.cursor.epoch

    def epoch(self) -> float:
        """Epochs that are done; of data whose length nobody knows, whole ones."""
        return self._epoch if self._feed is None else self._feed.epoch()

    def clock(self, step: int) -> Clock:
        """Where the training stands before a step."""
        count = self.feed.count()
        # Epochs of a stage that is as long as its `steps`, by the length of the current one.
        return Clock(step, self.steps, self.epoch(), self.declaration.epochs or (self.steps / count if count else 1.0))

    # --- the whole run ---------------------------------------------------------------------------------

    @property
    def waited(self) -> float:
        """Seconds that the training has waited for batches."""
        return self._waited + (self._feed.waited if self._feed is not None else 0.0)

    @property
    def skipped(self) -> dict[str, str]:
        """Samples that were left out, with the reason."""
        return {**self._skipped, **(self._feed.skipped if self._feed is not None else {})}

    def state(self) -> dict[str, Any]:
        """All that a later run needs to go on from here, as plain data."""
        cursors = self._cursors if self._feed is None else self._feed.state()
        return {
            "cursors": cursors, "epoch": self.epoch(), "steps": self.steps, "waited": self.waited,
            "skipped": self.skipped,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self._cursors, self._epoch = state["cursors"], state["epoch"]
        self.steps, self._waited = state["steps"], state["waited"]
        self._skipped = dict(state.get("skipped", {}))

    def close(self) -> None:
        """Let go of the data."""
        if self._feed is not None:
            feed = self._feed
            self._cursors, self._epoch = feed.state(), feed.epoch()
            self._waited, self._skipped, self._feed = self.waited, self.skipped, None
            with suppress(Exception):
                feed.close()


def _field_of(stream: str, target: Target) -> Target:
    """The field of a stream's data that a sampler's reference leads to; a value of a stage joins each stream apart."""
    field = target.as_field
    return replace(field, name=f"{stream}.{field.name}") if stream and target.section == "stages" else field
