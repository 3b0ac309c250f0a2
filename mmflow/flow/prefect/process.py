"""The process of the embedded Prefect API: `python -m mmflow.flow.prefect.process FOLDER LINGER`, see `server`."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import sys
import time
from pathlib import Path

from mmflow.compat.prefect import migrate_database, server_app

_WATCH_EVERY = 0.1


def main(folder: Path, linger: float) -> None:
    """Serve until the lease in `folder` has been free for `linger` seconds."""
    if provide_database(folder):
        # Prefect keeps the first database that it has met in a process: the API needs a process of its own.
        os.execv(sys.executable, [sys.executable, "-m", "mmflow.flow.prefect.process", str(folder), str(linger)])
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(server_app(), log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    asyncio.run(_serve(server, listener, folder, linger))


async def _serve(server, listener: socket.socket, folder: Path, linger: float) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        if serving.done():
            raise SystemExit(1)
        await asyncio.sleep(0.01)
    about = {"pid": os.getpid(), "port": listener.getsockname()[1]}
    temporary = folder / "server.json.tmp"
    temporary.write_text(json.dumps(about))
    os.replace(temporary, folder / "server.json")
    with open(folder / "lease", "a") as lease:
        alone_since: float | None = None
        while not serving.done():
            if not _take(lease):
                alone_since = None
            else:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since >= linger:
                    # Kept until the end, so that a run that begins now waits for a new process.
                    break
                fcntl.flock(lease, fcntl.LOCK_UN)
            await asyncio.sleep(_WATCH_EVERY)
        (folder / "server.json").unlink(missing_ok=True)
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def _take(lease) -> bool:
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def provide_database(folder: Path) -> None:
    """Put an empty migrated database into `folder`, unless one is there, from the template of this Prefect version.

    A file that is no such database is set aside. Where there is no template, the settings of this process must name
    `prefect.db` in `folder`: Prefect holds on to the first database that it has seen, so that none but this one may be
    migrated here.
    """
    database, template, unfinished = folder / "prefect.db", folder.parent / "template.db", folder / "migrating"
    if unfinished.exists():
        database.unlink(missing_ok=True)
    if _usable(database):
        return
    if _usable(template):
        copy = folder / "copy.db"
        shutil.copyfile(template, copy)
        os.replace(copy, database)
        return
    unfinished.touch()
    migrate_database()
    compact = folder / "template.db"
    compact.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(compact),))
    os.replace(compact, template)
    unfinished.unlink()


def _usable(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError:
        os.replace(database, database.with_suffix(".damaged"))
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
