"""Members of a tar file in their order, and its faults."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mmflow_sources.compat import forget_members
from mmflow_sources.left_out import Tally
from mmflow_sources.names import hidden, shown

BLOCK = 512
SEARCHED = 2**20
"""Bytes that are read at a time in search of a further archive behind an end mark."""
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Member:
    """A file of a tar file: that of the sample `id` with this extension; `wrong` says why it may not be read."""

    id: str
    extension: str
    offset: int
    size: int
    wrong: str = ""


class Damaged(Exception):
    """The rest of a tar file cannot be read."""


def members(
    file: Any, name: str, *, dot: Literal["first", "last"] = "first", left_out: Tally | None = None
) -> Iterator[Member]:
    """The files in the open tar file `file`, called `name`, also those behind an end mark (of `cat a.tar b.tar`).

    The extension of a member begins at the first or the last `dot` of its name. Links lead to members before them.
    `left_out` counts hidden members and those that are no files. The file may be read in between. Raises `Damaged`.
    """
    size = file.seek(0, 2)
    known: dict[str, tuple[int, int]] = {}
    tally = Tally() if left_out is None else left_out
    start: int | None = 0
    try:
        while start is not None:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (found := tar.next()) is not None:
                    forget_members(tar)
                    yield from _member(found, name, size, known, dot, tally)
                # Reading stops at the first block that is no header: an empty one is the end, another is damage.
                file.seek(tar.offset)
                if file.read(BLOCK).strip(b"\0"):
                    raise Damaged(f"{name} is damaged at byte {tar.offset}: what follows cannot be read")
                start = _next_archive(file, tar.offset)
    except (tarfile.TarError, EOFError) as error:
        hint = " (compressed shards cannot be read)" if name.endswith(COMPRESSED) else ""
        at = f", from byte {start} on," if start else ""
        raise Damaged(f"{name}{at} is no readable tar file: {error}{hint}") from error


def _member(
    found: tarfile.TarInfo, name: str, size: int, known: dict[str, tuple[int, int]], dot: str, tally: Tally
) -> Iterator[Member]:
    """The member of a header, or none; raises `Damaged` where the file ends in its middle."""
    if found.isdir():
        return
    head, _, base = found.name.rpartition("/")
    stem, _, extension = base.partition(".") if dot == "first" else base.rpartition(".")
    if hidden(found.name):
        tally.add(found.name, "hidden (a name that begins with a dot)", "member")
        return
    if not stem or not extension:
        tally.add(found.name, "a name without extension", "member")
        return
    id = shown(f"{head}/{stem}" if head else stem)
    leaves = found.name.startswith("/") or ".." in found.name.split("/")
    wrong = f"{found.name!r} leaves the archive" if leaves else ""
    offset, length = found.offset_data, found.size
    if found.islnk() or found.issym():
        # A hard link names its target from the root of the archive, a symbolic one from its own folder.
        target = found.linkname if found.islnk() else posixpath.normpath(posixpath.join(head, found.linkname))
        if target not in known:
            tally.add(found.name, "a link to no member before it", "member")
            return
        offset, length = known[target]
    elif found.issparse():
        # Its bytes in the archive are not those of the file.
        wrong, length = wrong or f"{found.name!r} is a sparse file, which is not read", 0
    elif not found.isfile():
        tally.add(found.name, "no file (a device or a pipe)", "member")
        return
    if offset + length > size:
        yield Member(id, extension.lower(), offset, 0, wrong)
        raise Damaged(f"{name} ends in the middle of {found.name!r}")
    known[found.name] = (offset, length)
    yield Member(id, extension.lower(), offset, length, wrong)


def _next_archive(file: Any, end: int) -> int | None:
    """Where a further archive begins behind the end mark at byte `end`; None where only zeros follow."""
    at = end
    file.seek(at)
    while data := file.read(SEARCHED):
        rest = data.lstrip(b"\0")
        if rest:
            return (at + len(data) - len(rest)) // BLOCK * BLOCK
        at += len(data)
    return None
