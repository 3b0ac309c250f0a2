"""Where repetitions with `until` end: told by the stored metrics of their iterations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

from mmflow.artifacts import MetricsArtifact
from mmflow.flow.jobs import NotNeeded
from mmflow.flow.store import NotStored, RunStore
from mmflow.identity.keys import Keys, Undecided
from mmflow.plugin.references import words
from mmflow.plugin.values import Metric

if TYPE_CHECKING:
    from mmflow.spec import Repetition, Spec


T = TypeVar("T")


def key_after(stage: str, awaits: Iterable[str], spec: Spec, keys: Keys, store: RunStore) -> str:
    """The key of a stage that awaits repetitions, once those have ended; raises `NotNeeded` for a later iteration."""
    iteration = spec.iterations.get(stage)
    for repeat in awaits:
        if iteration is not None and iteration.repeat == repeat:
            end = end_of(spec.repeats[repeat], keys, store, iteration.index)
            if end is not None:
                raise NotNeeded(ended_with(repeat, end))
        else:
            end = end_of(spec.repeats[repeat], keys, store)
            assert end is not None, f"{stage} was to be run before {repeat} has ended"
            keys.ended(repeat, end)
    return keys.stage(stage)


def ended_with(repeat: str, index: int) -> str:
    """Why later iterations are not needed."""
    return f"{repeat} ended with iteration {index}"


def end_of(repetition: Repetition, keys: Keys, store: RunStore, before: int | None = None) -> int | None:
    """The iteration that ends a repetition, told by those before `before`; None where they do not end it.

    An iteration ends it that is the `patience`-th in a row with a metric no better than the best one before, or the
    last of `at_most`. Raises `ComponentError` where a stored result has no such metric.
    """
    assert repetition.until is not None
    best: Metric | None = None
    waited = 0
    for index in range(repetition.times if before is None else before):
        found = _judged(repetition, index, keys, store)
        if found is None:
            return None
        if best is None or found.improves_on(best):
            best, waited = found, 0
        else:
            waited += 1
        if waited >= repetition.until.patience or index + 1 == repetition.times:
            return index
    return None


def _judged(repetition: Repetition, index: int, keys: Keys, store: RunStore) -> Metric | None:
    stage, name = repetition.judged
    full = repetition.stage(index, stage)
    try:
        measured = MetricsArtifact(store.fetch(keys.stage(full)))
    except NotStored:
        return None
    return measured.judged(name, asked=f"until.metric of {repetition.name}", stage=full, written=stage)


class Ends:
    """Repetitions whose metrics decide where they end, as far as the store tells."""

    def __init__(self, spec: Spec, keys: Keys, store: RunStore | None, forced: Collection[str]) -> None:
        self.spec, self.keys, self.store, self.forced = spec, keys, store, forced
        self.open = {name: one for name, one in spec.repeats.items() if one.until is not None}
        self.known: dict[str, int] = {}

    def iterations(self, repeat: str) -> list[str]:
        return [name for name, iteration in self.spec.iterations.items() if iteration.repeat == repeat]

    def awaited(self, name: str, inputs: Collection[str]) -> list[str]:
        """The repetitions of which a stage is a later iteration, or reads the last one."""
        iteration = self.spec.iterations.get(name)
        inside = [iteration.repeat] if iteration is not None and iteration.index else []
        read = [words(stage)[0] for stage in inputs if stage not in self.spec.stages]
        return [repeat for repeat in (*inside, *read) if repeat in self.open]

    def before(self, name: str, inputs: Collection[str]) -> tuple[str, ...]:
        """The stages that must be done before a stage can begin."""
        found = dict.fromkeys(stage for stage in inputs if stage in self.spec.stages)
        iteration = self.spec.iterations.get(name)
        for repeat in self.awaited(name, inputs):
            repetition, inside = self.open[repeat], iteration is not None and iteration.repeat == repeat
            count = iteration.index if inside and iteration is not None else repetition.times
            found |= dict.fromkeys(repetition.stage(index, repetition.judged[0]) for index in range(count))
            ends = repetition.open_ends()
            read = [words(stage)[-1] for stage in inputs if stage in ends]
            found |= dict.fromkeys(
                repetition.stage(index, stage) for stage in read for index in range(repetition.times)
            )
        return tuple(stage for stage in self.spec.stages if stage in found)

    def end(self, repeat: str) -> int | None:
        """The last iteration of a repetition, where stored metrics tell."""
        if repeat not in self.known and self.store is not None:
            store, repetition = self.store, self.open[repeat]
            judges = [repetition.stage(index, repetition.judged[0]) for index in range(repetition.times)]
            fresh = next((index for index, judge in enumerate(judges) if judge in self.forced), None)
            found = self.asked(lambda: end_of(repetition, self.keys, store, fresh))
            if found is not None:
                self.known[repeat] = found
                self.keys.ended(repeat, found)
        return self.known.get(repeat)

    def asked(self, question: Callable[[], T]) -> T | None:
        """The answer to a question about keys; None where it depends on a repetition that has not ended."""
        while True:
            try:
                return question()
            except Undecided as undecided:
                if self.end(undecided.repeat) is None:
                    return None

    def key(self, name: str) -> str:
        """The key of a stage; empty where it is not known yet."""
        return self.asked(lambda: self.keys.stage(name)) or ""

    def unneeded(self, name: str) -> str:
        iteration = self.spec.iterations.get(name)
        if iteration is None or iteration.repeat not in self.open:
            return ""
        end = self.end(iteration.repeat)
        return ended_with(iteration.repeat, end) if end is not None and iteration.index > end else ""
