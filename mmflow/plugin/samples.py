"""Samples as sources give them: reading one from an opened source, and the errors about one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Reader, Source


class SampleError(RuntimeError):
    """A sample that cannot be read or transformed; the message names the sample, the source and the file."""


class SkippedSample(SampleError):
    """A sample that its source's policy leaves out (`bad: skip`, `bad: quarantine`), raised by readers.

    `quarantine` is the file that lists such samples, where the policy keeps one.
    """

    def __init__(self, reason: str, quarantine: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.quarantine = reason, quarantine

    def __reduce__(self) -> Any:
        return type(self), (self.reason, self.quarantine)


def read_sample(reader: Reader, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
    """Sample `index`, with `fields` alone where they are named; a reader with `read(index, fields)` reads no others."""
    read = getattr(reader, "read", None)
    return reader[index] if read is None else read(index, fields)


def describe(source: Source) -> str:
    """A source in a message: its name in the registry and, where it has one, its place."""
    source = source.spoken_of()
    place = next((v for f in ("url", "path", "root") if (v := getattr(source, f, None))), "")
    place = ", ".join(place) if isinstance(place, tuple) else str(place)
    return f"source {source.use!r}" + (f" ({place})" if place else "")


def with_random_access(source: Source) -> Source:
    """A source that stands inside another one, which must have random access; raises `ComponentError`."""
    if source.streaming() is not None:
        raise ComponentError(
            f"{describe(source)} is streamed: a source inside a source needs random access", found=source.use,
            hint="leave out its `stream`",
        )  # fmt: skip
    return source
