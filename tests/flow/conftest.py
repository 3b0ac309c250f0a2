"""Runs in child processes, real Prefect servers, and what they have recorded."""

import json
import os
import queue
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from mmflow.flow.prefect.process import provide_database
from mmflow.flow.prefect.server import is_alive

DEADLINE = 120.0


def _wait_for(condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.05)
    return found


class ChildRun:
    """`child_run.py` at work; `until` reads what it says."""

    def __init__(self, store: Path, engine: str, environment: dict[str, str], folder: Path | None, **options: Any):
        command = [
            sys.executable,
            str(Path(__file__).with_name("child_run.py")),
            str(store),
            engine,
            json.dumps(options),
        ]
        self.errors = store.parent / f"stderr-{time.monotonic_ns()}"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder
            )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self._queue: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.decode())
        self._queue.put("")

    def until(self, **fields: Any) -> dict[str, Any]:
        while True:
            line = self._queue.get(timeout=DEADLINE)
            assert line, f"the run ended without saying {fields}: {self.lines[-3:]}\n{self.errors.read_text()[-3000:]}"
            self.lines.append(json.loads(line))
            if fields.items() <= self.lines[-1].items():
                return self.lines[-1]

    def end(self) -> dict[str, Any]:
        """The outcome, once the process has ended, with `returncode` and `stderr`."""
        outcome = self.until(event="outcome")
        return outcome | {"returncode": self.process.wait(DEADLINE), "stderr": self.errors.read_text()}


@pytest.fixture(scope="session")
def wait_for():
    """Waits until a condition holds: `wait_for(condition, what, timeout=...)` returns what it gave."""
    return _wait_for


@pytest.fixture(scope="session")
def query():
    """Rows of an SQLite database: `query(path, sql)`."""
    return _query


@pytest.fixture(scope="session")
def mmflow_cache(tmp_path_factory) -> Path:
    """A user's cache of the session; the first embedded API puts its template database there."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start_run(tmp_path, mmflow_cache) -> Iterator[Callable[..., ChildRun]]:
    """Starts a run in a child process, with the store `tmp_path / "store"`, in a `folder` and with `variables`."""
    children: list[ChildRun] = []

    def start(
        engine: str, api_url: str | None = None, cache: Path = mmflow_cache, folder: Path | None = None,
        variables: Mapping[str, str] = MappingProxyType({}), **options,
    ) -> ChildRun:  # fmt: skip
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        clean |= {"MMFLOW_CACHE": str(cache), "PREFECT_HOME": str(mmflow_cache / "home")}
        clean |= {"PREFECT_API_URL": api_url} if api_url else {}
        clean |= {"OMP_NUM_THREADS": "1", **variables}
        children.append(ChildRun(tmp_path / "store", engine, clean, folder, **options))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.process.wait()


class PrefectServer:
    """`prefect server start` on a free port with its own home and an empty migrated database."""

    def __init__(self, home: Path):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.url = f"{self.address}/api"
        self.database = home / "prefect.db"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = clean | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.database}",
            "PREFECT_API_DATABASE_MIGRATE_ON_START": "false" if self.database.exists() else "true",
            "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "static"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        self.log = home / "server.log"
        with self.log.open("wb") as log:
            # A group of its own, as the command starts processes of its own.
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(lambda: self.process.poll() is not None or is_alive(self.url), "the Prefect server answers")
            assert self.process.poll() is None, self.log.read_text()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def query(self, sql: str) -> list[tuple]:
        return _query(self.database, sql)


def _query(database: Path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.fixture(scope="session")
def start_prefect_server(tmp_path_factory, mmflow_cache) -> Iterator[Callable[[], PrefectServer]]:
    """Starts Prefect servers, and ends them with the session."""
    servers: list[PrefectServer] = []

    def start() -> PrefectServer:
        import prefect

        home = mmflow_cache / "prefect" / prefect.__version__ / f"server-{len(servers)}"
        home.mkdir(parents=True)
        if (home.parent / "template.db").exists():
            provide_database(home)
        servers.append(PrefectServer(home))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
