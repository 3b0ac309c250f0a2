"""The log of a flow run in the Prefect API."""

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmflow.flow.jobs import TableRows, Watcher

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State


class _RunLog(Watcher):
    """States of stages, notes and metrics, in the log of the flow run."""

    def __init__(self, flow_run: "FlowRun", flow: "Flow[..., State] | None"):
        from prefect.logging.loggers import flow_run_logger

        self._log = flow_run_logger(flow_run, flow)

    def stage(self, name: str, state: str, detail: str = "") -> None:
        self._log.info("stage %s: %s%s", name, state, f" ({detail})" if detail else "", extra=_TO_API_ONLY)

    def note(self, text: str, *, warning: bool = False) -> None:
        self._log.log(logging.WARNING if warning else logging.INFO, text, extra=_TO_API_ONLY)

    def traceback(self, name: str, text: str) -> None:
        self._log.error("stage %s failed\n%s", name, text, extra=_TO_API_ONLY)

    def table(self, name: str, key: str, rows: TableRows) -> None:
        for row in rows:
            shown = ", ".join(f"{column}={value}" for column, value in row.items())
            self._log.info("%s %s: %s", name, key, shown, extra=_TO_API_ONLY)


_TO_API_ONLY = {"mmflow_to_api_only": True}


@contextlib.contextmanager
def run_log(flow_run: "FlowRun", flow: "Flow[..., State] | None") -> Iterator[_RunLog]:
    """The log of the flow run in the API, which inside the block also takes the lines of the `mmflow` loggers."""
    from prefect.context import FlowRunContext
    from prefect.logging.handlers import APILogHandler

    def to_console(record: logging.LogRecord) -> bool:
        # The terminal has its own watcher.
        return not hasattr(record, "mmflow_to_api_only")

    def in_run(record: logging.LogRecord) -> bool:
        # A thread that is not the stage's belongs to no run in the eyes of Prefect, which would complain.
        return FlowRunContext.get() is not None

    ours = logging.getLogger("mmflow")
    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect", "")]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    consoles = [handler for handler in handlers if not isinstance(handler, APILogHandler)]
    to_api = APILogHandler()
    to_api.addFilter(in_run)
    ours.addHandler(to_api)
    for handler in consoles:
        handler.addFilter(to_console)
    try:
        yield _RunLog(flow_run, flow)
    finally:
        ours.removeHandler(to_api)
        for handler in consoles:
            handler.removeFilter(to_console)
