"""Expected errors, one clear message each on stderr, with the exit code that belongs to them."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile

import typer

LONGEST = 1500
"""Characters of a message: more would push the others off the screen."""
_TOLD = (
    ("mmflow.flow.store.errors", "StoreError"),
    ("mmflow.flow.execution", "EngineUnavailable"),
    ("mmflow.plugin.samples", "SampleError"),
)
"""Errors that say themselves what is wrong, by module and name."""
BUG = 1
BAD_INPUT = 2
INTERRUPTED = 130


@contextmanager
def reported() -> Iterator[None]:
    """Around a command: prints one message an error and exits; the traceback of an unexpected one is kept in a file."""
    try:
        yield
    except KeyboardInterrupt:
        # A second one while this one is told of would end in a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader (`| head`) has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except typer.Exit:
        raise
    except Exception as error:
        messages = _messages(error)
        if not messages:
            typer.echo(f"error: {_unexpected(error)}", err=True)
            raise typer.Exit(BUG) from None
        for message in messages:
            typer.echo(f"error: {_shortened(message)}", err=True)
        raise typer.Exit(BAD_INPUT) from None


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} ... ({len(message)} characters)"


def _messages(error: Exception) -> list[str]:
    """The messages of an expected error; none for any other."""
    from mmflow.plugin.component import ComponentError

    if isinstance(error, ComponentError):
        parts = [str(error), f"expected {error.expected}" if error.expected else "", error.hint]
        return ["; ".join(part for part in parts if part)]
    if _is(error, "mmflow.spec.text.problems", "SpecError"):
        return str(error).splitlines()
    if any(_is(error, *known) for known in _TOLD):
        return [str(error)]
    if isinstance(error, OSError) and error.filename is not None:
        return [f"{error.filename}: {error.strerror}"]
    return []


def _unexpected(error: Exception) -> str:
    from mmflow.plugin.failures import told
    from mmflow.redaction import redacted

    with NamedTemporaryFile("w", prefix="mmflow-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(redacted("".join(traceback.format_exception(error))))
    return f"{redacted(told(error))} (not expected; traceback: {file.name})"


def _is(error: Exception, module: str, name: str) -> bool:
    """Whether `error` is of that class; a class that was not imported cannot have been raised."""
    return module in sys.modules and isinstance(error, getattr(sys.modules[module], name))
