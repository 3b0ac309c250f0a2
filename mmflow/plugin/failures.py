"""One message for whatever a component, a library or a file raises: where, what, and what to do."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from mmflow.plugin.component import Component, ComponentError
from mmflow.plugin.targets import Owner

_LONGEST = 1500
"""Characters of an error in a message; the whole of it is in the record of the run."""
_MEMORY = "lower batch_size, or set micro_batch_size"


@contextmanager
def inside(owner: Owner | str, component: Component) -> Iterator[None]:
    """Around the work of one entry: an error that leaves it knows the entry and its class. The innermost one counts."""
    try:
        yield
    except Exception as error:
        if not _notes(error):
            made = type(component)
            error.add_note(f"in {owner} ({component.kind} {component.use}, {made.__module__}.{made.__name__})")
        raise


@contextmanager
def building(owner: Owner, component: Component) -> Iterator[None]:
    """Around the building of one entry: whatever it raises becomes a `ComponentError` of that entry."""
    try:
        with inside(owner, component):
            yield
    except ComponentError as error:
        error.owner = error.owner or tuple(part for part in owner if part)
        raise
    except Exception as error:
        raised = ComponentError(told(error))
        raised.owner = tuple(part for part in owner if part)
        raise raised from error


def told(error: BaseException) -> str:
    """The message of an error: what it says, and for one that mmflow does not raise itself its place in the code."""
    notes = _notes(error)
    text = str(error).strip()
    if isinstance(error, ComponentError):
        wants = [f"expected {error.expected}" if error.expected else "", error.hint]
        text = "; ".join(part for part in (text, *wants) if part)
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, ValidationError):
        said = error.errors(include_url=False, include_input=False)
        text = "; ".join(f"{error.title}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in said[:4])
    elif not type(error).__module__.startswith("mmflow."):
        text = text.partition("\n")[0] or "an error without a message"
        text = f"there is no {text}" if isinstance(error, KeyError) else text
        text = f"{text[:_LONGEST]} ({_code_place(error)})"
        if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
            text = f"{text}; {_MEMORY}"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    where = notes[0].removeprefix("in ") if notes else ""
    return f"{where}: {text}" if where and where.partition(" ")[0] not in text else text


def _code_place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    at = f", {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


def _notes(error: BaseException) -> list[str]:
    return [note for note in getattr(error, "__notes__", ()) if note.startswith("in ")]
