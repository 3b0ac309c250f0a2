"""The private parts of Prefect that mmflow touches are there in this version, and do what is expected of them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from mmflow.compat.prefect import VERSIONS

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        version("prefect") not in SpecifierSet(VERSIONS), reason=f"mmflow.compat.prefect is written for {VERSIONS}"
    ),
]


def prefect(program: str, home: Path, **environment: str) -> str:
    """What a fresh process prints, with a Prefect home of its own and no API."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    clean |= {"PREFECT_HOME": str(home), **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=clean, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_declared_bounds_are_those_of_the_project():
    import tomllib

    root = Path(__file__).parents[2]
    lines = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    (declared,) = [line.removeprefix("prefect") for line in lines if line.startswith("prefect")]
    assert SpecifierSet(declared) == SpecifierSet(VERSIONS)


def test_a_database_is_migrated_and_served(tmp_path: Path):
    database = tmp_path / "prefect.db"
    program = (
        "import sqlite3\n"
        "from starlette.testclient import TestClient\n"
        "from mmflow.compat.prefect import migrate_database, server_app\n"
        "migrate_database()\n"
        f"tables = sqlite3.connect({str(database)!r})\n"
        "print(len(tables.execute('SELECT version_num FROM alembic_version').fetchall()))\n"
        "with TestClient(server_app()) as client: print(client.get('/api/health').json())\n"
    )
    url = f"sqlite+aiosqlite:///{database}"
    settings = {"PREFECT_API_DATABASE_CONNECTION_URL": url, "PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}
    assert prefect(program, tmp_path, **settings).splitlines()[-2:] == ["1", "True"]


def test_events_that_nobody_takes_are_dropped(tmp_path: Path):
    program = (
        "import time\n"
        "from prefect.events import emit_event\n"
        "from prefect.events.worker import EventsWorker\n"
        "from mmflow.compat.prefect import drain_events, drop_unsent_events\n"
        "for number in range(5): emit_event('test', resource={'prefect.resource.id': f'a.{number}'})\n"
        "(worker,) = EventsWorker._instances.values()\n"
        "began = time.monotonic()\n"
        "drop_unsent_events()\n"
        "print(worker._queue.qsize())\n"
        "drain_events(0.5)\n"
        "print(time.monotonic() - began < 20)\n"
    )
    # Nothing listens there, as after a server has been killed.
    assert prefect(program, tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api").splitlines() == ["0", "True"]


THREAD = """
import threading
import prefect.main
from prefect._internal._logging import logger
from mmflow.compat.prefect import silence_threads

def complain():
    logger.getChild("concurrency").error("a complaint of a thread")

for silent in (False, True):
    if silent:
        silence_threads()
    thread = threading.Thread(target=complain)
    thread.start()
    thread.join()
    print("end")
"""


def test_threads_are_silenced_in_debug_mode_too(tmp_path: Path):
    for mode in ({}, {"PREFECT_DEBUG_MODE": "1"}):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        clean |= {"PREFECT_HOME": str(tmp_path), **mode}
        done = subprocess.run([sys.executable, "-c", THREAD], capture_output=True, text=True, env=clean, check=True)
        assert done.stderr.count("a complaint of a thread") == 1


def test_clients_connect_directly_inside_the_block_alone(tmp_path: Path):
    program = (
        "from prefect.client.orchestration import get_client\n"
        "from mmflow.compat.prefect import direct_clients\n"
        "def trusts(): return [get_client(sync_client=s)._client._trust_env for s in (False, True)]\n"
        "with direct_clients(): print(trusts())\n"
        "print(trusts())\n"
    )
    said = prefect(program, tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api").splitlines()
    assert said == ["[False, False]", "[True, True]"]
