"""Standard output and error without values of the environment, whoever writes to them in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TextIO

from mmflow.redaction import redacted


@contextmanager
def without_secrets() -> Iterator[None]:
    """Redact both streams inside the block, tracebacks and messages of other libraries included."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_rewritten(stream) for stream in before)
    try:
        yield
    finally:
        ours, (sys.stdout, sys.stderr) = (sys.stdout, sys.stderr), before
        for stream in ours:
            if isinstance(stream, _Redacting):
                # Left to itself it would close what it stands over. The reader may be gone.
                with suppress(OSError, ValueError):
                    stream.detach()


class _Redacting(TextIOWrapper):
    """A text stream over the same buffer that redacts each piece that is written."""

    def write(self, text: str, /) -> int:
        super().write(redacted(text))
        return len(text)


def _rewritten(stream: TextIO) -> TextIO:
    if not isinstance(stream, TextIOWrapper):
        # A stream that a test has put in place.
        return stream
    stream.flush()
    return _Redacting(
        stream.buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
