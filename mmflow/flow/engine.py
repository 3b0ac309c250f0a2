"""Runs an ordered list of stages, through Prefect or without it."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from mmflow.flow.execution import Execution
from mmflow.flow.jobs import Outcome, StageJob, Watcher
from mmflow.flow.store import RunStore, new_run_id
from mmflow.plugin.kinds import Reporter

if TYPE_CHECKING:
    from mmflow.flow.prefect.server import EmbeddedApi


def run_jobs(
    jobs: Sequence[StageJob],
    *,
    store: RunStore,
    run_name: str,
    engine: Literal["prefect", "local"] = "prefect",
    run_id: str | None = None,
    force: bool | Collection[str] = False,
    watchers: Iterable[Watcher] = (),
    finish: Callable[[Outcome, Reporter], None] | None = None,
    api: "EmbeddedApi | None" = None,
) -> Outcome:
    """Run `jobs` in order and return how it went; raises only for a list of jobs that makes no sense.

    A job whose key is stored is `cached`, unless `force` is true or names it. `finish` is called once, after the last
    stage of a run that was not stopped, with the outcome so far: the place to write a report. `api` is an embedded
    Prefect API that the caller has begun to start (`prefect.api.find_api`); it is closed at the end. Exit codes:
    0, 1 (a stage failed, or the run was cancelled), 2 (the engine cannot start), 130 (SIGINT), 143 (SIGTERM). To be
    called in the main thread, where signals arrive.
    """
    _check_jobs(jobs)
    run_id = run_id or new_run_id(run_name)
    execution = Execution(jobs, store, run_name, run_id, force, watchers, finish)
    if engine == "local":
        with execution.opened("local"):
            execution.prepare()
            for job in execution.jobs:
                execution.run(job)
            execution.finish()
    else:
        from mmflow.flow.prefect.engine import run_with_prefect

        with execution.opened("prefect"):
            run_with_prefect(execution, api)
    return execution.outcome


def _check_jobs(jobs: Sequence[StageJob]) -> None:
    seen: set[str] = set()
    for job in jobs:
        if job.name in seen:
            raise ValueError(f"two stages are named {job.name}")
        for name in job.after:
            if name not in seen:
                raise ValueError(f"stage {job.name} reads {name}, which is not a stage before it")
        seen.add(job.name)
