"""Runs the stages as one Prefect flow run with a task for each stage.

The flow is async and the tasks are synchronous and inline: a stage works in the main thread, where signals reach it,
and no heartbeat thread is waited for at the end. Answers of the API decide nothing: the outcome is
read from the run store, and an API that goes away costs the run some seconds at its end.
"""

import asyncio
import contextlib
import logging
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from mmflow.compat.prefect import drain_events, drop_unsent_events, silence_threads
from mmflow.flow.execution import EngineUnavailable, Execution
from mmflow.flow.jobs import StageJob, Watcher
from mmflow.flow.prefect.api import api_settings, find_api
from mmflow.flow.prefect.link import ApiLink
from mmflow.flow.prefect.log import run_log
from mmflow.flow.prefect.server import EmbeddedApi, is_alive
from mmflow.flow.prefect.settings import WITHOUT
from mmflow.flow.stopping import Terminated
from mmflow.plugin.failures import told

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State
    from prefect.settings import Settings

_END_TIMEOUT = 60.0
"""Seconds that Prefect gets to report the end of the flow run to an API that answers; then it is left alone."""
_LOOK_EVERY = 5.0
_DRAIN_TIMEOUT = 5.0
_LOST_TIMEOUT = 2.0


def run_with_prefect(execution: Execution, api: EmbeddedApi | None) -> None:
    """Run all stages of `execution`; raises `EngineUnavailable` where no API can be had before the first stage."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise EngineUnavailable(
            "an event loop is already running here, as in a notebook: use the local engine (--local)"
        )
    with contextlib.ExitStack() as stack:
        try:
            found = api or find_api(execution.store.url)
            execution.waiting("waiting for the Prefect API")
            settings, own = stack.enter_context(api_settings(found))
            import prefect.main  # noqa: F401  (sets the levels of its loggers)
        except EngineUnavailable:
            raise
        except Exception as error:
            raise EngineUnavailable(f"Prefect cannot start: {told(error)}; {WITHOUT}") from error
        _PrefectRun(execution, settings, own).run()


_LOGGERS = ("prefect", "prefect.engine", "prefect.flow_runs", "prefect.task_runs")
_SILENT = logging.CRITICAL + 1


def _quieten(level: int) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level)


def _accepted(name: str) -> str:
    """A name of a spec or stage without the characters that Prefect refuses or fills in."""
    return re.sub(r"[/%&<>{}]+", "-", name) or "run"


class _PrefectRun:
    def __init__(self, execution: Execution, settings: "Settings", own: bool):
        self.execution = execution
        self.settings = settings
        self.own = own
        self.url = settings.api.url
        self.begun = False
        self.over: asyncio.Event
        self.states: dict[str, State] = {}
        self.link = ApiLink(execution.run_name, execution.stop.cancel, self._lost)
        self.lost_told = False
        self._losing = threading.Lock()

    def run(self) -> None:
        execution = self.execution
        levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        if self.own:
            _quieten(_SILENT)
            silence_threads()
        try:
            asyncio.run(self._supervise())
            # Where Prefect has failed between two stages, the rest is done without it.
            for job in execution.jobs:
                if job.name not in execution.outcome.stages:
                    execution.run(job)
            execution.finish()
        finally:
            self._drain()
            if not self.lost_told:
                # Otherwise Prefect's threads would go on to complain, until the process ends.
                for name, level in levels.items():
                    logging.getLogger(name).setLevel(level)

    async def _supervise(self) -> None:
        """Wait for the flow run; after its last stage no longer than the API answers, and than `_END_TIMEOUT`."""
        self.over = asyncio.Event()
        flow_run = asyncio.create_task(self._call_flow())
        over = asyncio.create_task(self.over.wait())
        await asyncio.wait({flow_run, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        deadline = time.monotonic() + _END_TIMEOUT
        while not flow_run.done() and not self.lost_told and time.monotonic() < deadline:
            await asyncio.wait({flow_run}, timeout=_LOOK_EVERY)
            if not flow_run.done() and not await asyncio.to_thread(is_alive, self.url or "", _LOOK_EVERY):
                break
        await asyncio.wait({flow_run}, timeout=_LOST_TIMEOUT)
        while not flow_run.done():
            # Prefect answers a cancellation by telling the API: each time it is cut off there, too.
            self._lost("no answer")
            flow_run.cancel()
            await asyncio.wait({flow_run}, timeout=1.0)
        self._judge(flow_run)

    def _judge(self, flow_run: "asyncio.Task[None]") -> None:
        from prefect.exceptions import TerminationSignal

        error = None if flow_run.cancelled() else flow_run.exception()
        if error is None or isinstance(error, TerminationSignal | Terminated):
            return
        if not self.begun:
            raise EngineUnavailable(
                f"the Prefect API at {self.url} refused the flow run: {type(error).__name__}: {error}; {WITHOUT}"
            ) from error
        self._lost(f"{type(error).__name__}")

    async def _call_flow(self) -> None:
        from prefect import flow

        async def stages() -> "State":
            return await self._flow()

        decorate = flow(
            name=_accepted(self.execution.run_name),
            flow_run_name=self.execution.outcome.run_id,
            persist_result=False,
            retries=0,
            validate_parameters=False,
        )
        # Typed as if it were not async.
        run: Any = decorate(stages)
        await run(return_state=True)

    async def _flow(self) -> "State":
        from prefect.context import FlowRunContext, SyncClientContext
        from prefect.exceptions import TerminationSignal

        execution, link = self.execution, self.link
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        self.begun = True
        watchers: list[Watcher] = [link]
        link.open(context.flow_run.id)
        link.opened(execution.outcome.run_id, execution.run_name, execution.jobs)
        try:
            with execution.stop.listening(), contextlib.ExitStack() as stack:
                # Otherwise every task makes a client of its own, and loads the certificates for it.
                stack.enter_context(SyncClientContext.get_or_create())
                if self.settings.logging.to_api.enabled:
                    watchers.append(stack.enter_context(run_log(context.flow_run, context.flow)))
                execution.watchers += watchers
                execution.prepare()
                for job in execution.jobs:
                    self._stage(job)
                execution.finish()
        finally:
            execution.watchers[:] = [watcher for watcher in execution.watchers if watcher not in watchers]
            if not link.close():
                self._lost("no answer")
                # Nothing is to be gained from trying again; the client of the flow run looks here before each try.
                self.settings.client.max_retries = 0
            self.over.set()
        if execution.stop.reason in ("SIGTERM", "SIGINT") and execution.unfinished():
            raise TerminationSignal(signal=getattr(signal, execution.stop.reason))
        return self._final_state()

    def _stage(self, job: StageJob) -> None:
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect.exceptions import TerminationSignal

        if self.execution.stop.reason or self.link.lost:
            self.execution.run(job)
            return
        # No tags: for each of them a task asks the API whether it may start.
        decorate = task(
            name=_accepted(job.name),
            task_run_name=_accepted(job.name),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=0,
        )
        upstream = [self.states[name] for name in job.after if name in self.states and self.states[name].is_completed()]
        try:
            self.states[job.name] = decorate(self._task)(job, wait_for=upstream, return_state=True)
        except TerminationSignal:
            # The stage has ended as it was told to; the flow run ends with the same signal.
            return
        except Exception as error:
            self._lost(f"{type(error).__name__}: {error}")
        if job.name not in self.execution.outcome.stages:
            self.execution.run(job)

    def _task(self, job: StageJob) -> "State":
        from prefect.context import TaskRunContext
        from prefect.exceptions import TerminationSignal
        from prefect.states import Cancelled, Completed, Failed

        context = TaskRunContext.get()
        assert context is not None
        self.link.begin_stage(job.name, context.task_run.id)
        state = self.execution.run(job)
        if state == "done":
            return Completed(message=f"stored under {self.execution.keys[job.name]}")
        if state == "cached":
            return Completed(name="Cached", message=f"was stored under {self.execution.keys[job.name]}")
        if state == "unneeded":
            return Completed(name="Unneeded", message="a repetition has ended before this iteration")
        if state == "failed":
            return Failed(message=self.execution.outcome.notes[-1])
        if state == "skipped":
            return Cancelled(name="Skipped", message="a stage that it reads has no result")
        if self.execution.stop.reason != "cancelled":
            raise TerminationSignal(signal=getattr(signal, self.execution.stop.reason or "SIGTERM"))
        return Cancelled(message="was asked to stop; start the run again to go on")

    def _final_state(self) -> "State":
        from prefect.states import Cancelled, Completed, Failed

        states = self.execution.outcome.stages
        if self.execution.stop.reason == "cancelled" and self.execution.unfinished():
            return Cancelled(message="cancelled; finished stages are stored, start the run again to go on")
        failed = [name for name, state in states.items() if state == "failed"]
        if failed or self.execution.outcome.exit_code:
            return Failed(message="; ".join(self.execution.outcome.notes))
        cached = sum(state == "cached" for state in states.values())
        return Completed(message=f"{len(states)} stages, {cached} of them stored before")

    def _lost(self, why: str) -> None:
        # The thread of the link and the main thread may both find out.
        with self._losing:
            if self.lost_told:
                return
            self.lost_told = True
        _quieten(_SILENT)
        silence_threads()
        self.execution.note(
            f"the Prefect API at {self.url} has stopped answering ({why}); the run goes on without it, "
            "and its results are stored"
        )

    def _drain(self) -> None:
        """Let Prefect's threads send their events; events for an API that is gone are dropped: the exit would wait."""
        if self.lost_told:
            drop_unsent_events()
        drain_events(_LOST_TIMEOUT if self.lost_told else _DRAIN_TIMEOUT)
