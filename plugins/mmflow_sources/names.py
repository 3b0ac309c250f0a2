"""Names and texts from files, made safe to show and to store."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of the writing direction, and halves of surrogate pairs."""
HALVES = re.compile(r"[\ud800-\udfff]+")


def shown(name: str) -> str:
    """A name as text that may go to a terminal, a page and a file of UTF-8: unsafe characters as `\\x1b`, `\\udce9`.

    Different names stay different but for those that hold such escapes themselves.
    """
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), name)


def valid(text: str) -> str:
    """A text that UTF-8 can encode: pairs of surrogates joined, halves replaced by U+FFFD."""
    return HALVES.sub(lambda found: found[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace"), text)


def decoded(data: bytes) -> str:
    """The text of a UTF-8 file, without byte order mark; raises `ValueError`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text: {error.reason} at byte {error.start}") from None


def hidden(path: str) -> bool:
    """Whether a file, or a folder above it, has a name that begins with a dot."""
    return any(part.startswith(".") and part.strip(".") for part in PurePosixPath(path).parts)
