"""Servers on loopback: a web server that gives parts of files, and one that misbehaves on request."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Web(http.server.SimpleHTTPRequestHandler):
    """Serves files and listings as the standard library does, and parts of files."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def send_head(self) -> Any:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            return super().send_head()
        size = path.stat().st_size
        first, last = int(asked[1]), min(int(asked[2]), size - 1)
        file = path.open("rb")
        file.seek(first)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.left = last - first + 1
        return file

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(source.read(self.__dict__.pop("left", -1)))

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a server for a folder, with the handler given or `Web`; all end with the module."""
    pytest.importorskip("aiohttp")
    begun: list[tuple[Server, threading.Thread]] = []

    def start(folder: Path, handler: type[http.server.SimpleHTTPRequestHandler] = Web) -> Server:
        server = Server(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        begun.append((server, thread))
        return server

    yield start
    for server, thread in begun:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def web_handler() -> type[Web]:
    return Web
