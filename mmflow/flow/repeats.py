"""Where repetitions with `until` end: told by the stored metrics of their iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmflow.artifacts import MetricsArtifact
from mmflow.flow.jobs import NotNeeded
from mmflow.flow.store import NotStored, RunStore
from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import Metric

if TYPE_CHECKING:
    from mmflow.flow.plan import PlannedStage
    from mmflow.identity.keys import Keys
    from mmflow.spec import Repetition, Spec


def key_after(stage: PlannedStage, spec: Spec, keys: Keys, store: RunStore) -> str:
    """The key of a stage that awaits repetitions, once those have ended; raises `NotNeeded` for a later iteration."""
    iteration = spec.iterations.get(stage.name)
    for repeat in stage.awaits:
        if iteration is not None and iteration.repeat == repeat:
            end = end_of(spec.repeats[repeat], keys, store, iteration.index)
            if end is not None:
                raise NotNeeded(ended_with(repeat, end))
        else:
            end = end_of(spec.repeats[repeat], keys, store)
            assert end is not None, f"{stage.name} was to be run before {repeat} has ended"
            keys.ended(repeat, end)
    return keys.stage(stage.name)


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
        if best is None or _improves(found, best):
            best, waited = found, 0
        else:
            waited += 1
        if waited >= repetition.until.patience or index + 1 == repetition.times:
            return index
    return None


def _improves(found: Metric, best: Metric) -> bool:
    return found.value < best.value if found.better == "lower" else found.value > best.value


def _judged(repetition: Repetition, index: int, keys: Keys, store: RunStore) -> Metric | None:
    stage, name = repetition.judged
    full = repetition.stage(index, stage)
    try:
        metrics = MetricsArtifact(store.fetch(keys.stage(full))).metrics()
    except NotStored:
        return None
    found = next((metric for metric in metrics if metric.name == name), None)
    until = f"until.metric of {repetition.name}"
    if found is None:
        names = ", ".join(metric.name for metric in metrics)
        raise ComponentError(
            f"{until}: {full} has measured no `{name}`", expected=f"one of {names}", hint=f"write {stage}.NAME"
        )
    if not found.better:
        raise ComponentError(f"{until}: neither more nor less of `{name}` is better", hint="name another metric")
    return found
