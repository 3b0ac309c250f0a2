"""A Prefect API on the loopback, for users who have none of their own.

One process a store serves all runs that are at work on it, and ends by itself: every run holds a shared lock on a file
for as long as it lives, and the process leaves when it has been free for `linger` seconds. A killed run gives its
lock back as well, so that nothing is left behind. The database stays beside the lock; it begins as a copy of an empty
one that is migrated once for each version of Prefect.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import IO

from mmflow.cache import user_cache
from mmflow.compat.prefect import SERVER_ENVIRONMENT
from mmflow.flow.prefect.settings import may_name_an_api

SLOW = 30.0
"""Seconds within which an API on a loaded machine answers a question."""
START_TIMEOUT = 120.0
"""Seconds to wait for the API; a loaded machine needs many more than the usual three."""

# For an API that serves mmflow only. Measured: each of these costs time at the start or at the end of a run.
_SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_API_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    # Prefect cuts it to whole seconds: a fraction is 0, and a recorder that never sleeps takes a core for itself.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_UI_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    **SERVER_ENVIRONMENT,
}


class ApiFailed(Exception):
    """The embedded API does not start; the message tells why and where its log is."""


class EmbeddedApi:
    """The loopback API of one store. `start` returns at once, `wait` gives the URL, `close` gives it back.

    `linger` is the time in seconds that the process stays after its last user (`MMFLOW_SERVER_LINGER`, else 0), so that
    a run which follows finds it ready.
    """

    def __init__(self, store_url: str, *, cache: Path | None = None, linger: float | None = None):
        digest = hashlib.sha256(store_url.encode()).hexdigest()[:16]
        self.home = (cache or user_cache()).absolute() / "prefect" / version("prefect")
        self.folder = self.home / digest
        self.linger = float(os.environ.get("MMFLOW_SERVER_LINGER", "0")) if linger is None else linger
        self.process: subprocess.Popen[bytes] | None = None
        """The process, where this object has started it and did not find it running."""
        self._lease: IO[str] | None = None
        self._url = ""
        self._error: Exception | None = None
        self._ready = threading.Event()
        self._given_back = False

    @property
    def log(self) -> Path:
        """The log of the process."""
        return self.folder / "server.log"

    def start(self) -> "EmbeddedApi":
        """Find the process or start it, in the background, so that other work can go on meanwhile."""
        threading.Thread(target=self._bring_up, name="mmflow-embedded-api", daemon=True).start()
        return self

    def wait(self) -> str:
        """The URL of the API, once it answers; raises `ApiFailed`."""
        self._ready.wait()
        if self._error is not None:
            raise ApiFailed(str(self._error)) from self._error
        return self._url

    def close(self) -> None:
        """Give the API back; the process ends when no other run uses it and its time to linger is over."""
        self._given_back = True
        if self._ready.is_set():
            self._release()

    def _release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    def _bring_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lease = (self.folder / "lease").open("a")
            _lock(self._lease, fcntl.LOCK_SH, deadline)
            with open(self.folder / "start", "a") as turn:
                _lock(turn, fcntl.LOCK_EX, deadline)
                self._url = running_at(self.folder) or self._spawn(deadline)
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()
            if self._error is not None or self._given_back:
                self._release()

    def _spawn(self, deadline: float) -> str:
        (self.folder / "server.json").unlink(missing_ok=True)
        database = f"sqlite+aiosqlite:///{self.folder / 'prefect.db'}"
        # Nothing of the user's settings: they are for other servers, and a mistake in them would end this one.
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("PREFECT_")}
        own = {"PREFECT_HOME": str(self.folder), "PREFECT_API_DATABASE_CONNECTION_URL": database}
        environment = {**inherited, **_SERVER_SETTINGS, **own}
        command = [sys.executable, "-m", "mmflow.flow.prefect.process", str(self.folder), str(self.linger)]
        with open(self.log, "wb") as log:
            # A session of its own, so that Ctrl-C in the terminal reaches the run and not its API.
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        while time.monotonic() < deadline:
            if url := running_at(self.folder):
                return url
            if self.process.poll() is not None:
                raise ApiFailed(f"the embedded Prefect API ended at once: {self._last_words()} (log: {self.log})")
            time.sleep(0.02)
        self.process.kill()
        raise ApiFailed(f"the embedded Prefect API did not start in {START_TIMEOUT:.0f} s (log: {self.log})")

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def start_early(store_url: str) -> EmbeddedApi | None:
    """Start the embedded API of a store, unless the user seems to have an API: decided without importing Prefect.

    Where it is None, Prefect's own settings decide later.
    """
    return None if may_name_an_api() else EmbeddedApi(store_url).start()


def running_at(folder: Path) -> str | None:
    """URL of the API that serves `folder`, None where there is none that answers."""
    try:
        url = f"http://127.0.0.1:{json.loads((folder / 'server.json').read_text())['port']}/api"
    except (OSError, ValueError, KeyError):
        return None
    # A process that takes the connection is there, and a second one beside it would share its database.
    return url if is_alive(url, timeout=SLOW) else None


def is_alive(url: str, timeout: float = 3.0) -> bool:
    """Whether an API answers its health check within `timeout` seconds; a loopback one is asked directly."""
    proxies = {} if "127.0.0.1" in url else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(f"{url}/health", timeout=timeout) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def _lock(file: IO[str], kind: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has kept {file.name} locked for {START_TIMEOUT:.0f} s") from None
            time.sleep(0.02)
