"""Private parts of Prefect: its server inside a process of ours, and the threads that send events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

VERSIONS = ">=3.8,<4"
"""The versions for which this module is written."""

SERVER_ENVIRONMENT = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""The environment variables with which a process serves the API for nobody but mmflow."""


def server_app() -> FastAPI:
    """The API as an ASGI application of this process."""
    from prefect.server.api.server import create_app

    return create_app(final=True, ephemeral=True)


def migrate_database() -> None:
    """Create the tables of the database that the settings name."""
    from prefect.server.database import provide_database_interface

    async def create() -> None:
        interface = provide_database_interface()
        await interface.create_db()
        await (await interface.engine()).dispose()

    asyncio.run(create())


@contextlib.contextmanager
def direct_clients() -> Iterator[None]:
    """Let HTTP clients of Prefect that are made inside the block connect directly, whatever proxies are set."""
    from prefect.client import orchestration

    names = ("PrefectHttpxAsyncClient", "PrefectHttpxSyncClient")
    before = {name: getattr(orchestration, name) for name in names}
    for name, client in before.items():
        setattr(orchestration, name, partial(client, trust_env=False))
    try:
        yield
    finally:
        for name, client in before.items():
            setattr(orchestration, name, client)


def introduce_telemetry() -> None:
    """Let Prefect say what it says at its first import, which has been made without a word."""
    from prefect._internal import analytics

    analytics._telemetry_initialized = False
    analytics.initialize_analytics()


def silence_threads() -> None:
    """Keep Prefect's own threads from complaining: of their loggers none but the handler has a level that counts."""
    for handler in logging.getLogger("prefect._internal").handlers:
        handler.setLevel(logging.CRITICAL + 1)


def drop_unsent_events() -> None:
    """Forget the events that are waiting to be sent: nobody will take them, and the exit would wait for it."""
    from prefect.events.worker import EventsWorker

    for service in list(EventsWorker._instances.values()):
        with contextlib.suppress(Exception):
            while True:
                service._queue.get_nowait()


def drain_events(timeout: float) -> None:
    """Give Prefect's threads `timeout` seconds to send the events that they hold."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=timeout, at_exit=False)
