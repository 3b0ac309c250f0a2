"""Members of a tar file in their order, and its faults."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmflow_sources.compat import forget_members


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


def members(file: Any, name: str) -> Iterator[Member]:
    """The files in the open tar file `file`, called `name`; raises `Damaged`. The file may be read in between."""
    size = file.seek(0, 2)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (found := tar.next()) is not None:
                forget_members(tar)
                head, _, base = found.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if not found.isfile() or not stem:
                    continue
                id = f"{head}/{stem}" if head else stem
                leaves = found.name.startswith("/") or ".." in found.name.split("/")
                wrong = f"{found.name!r} leaves the archive" if leaves else ""
                if found.offset_data + found.size > size:
                    yield Member(id, extension.lower(), found.offset_data, 0, wrong)
                    raise Damaged(f"{name} ends in the middle of {found.name!r}")
                yield Member(id, extension.lower(), found.offset_data, found.size, wrong)
            # Reading stops at the first block that is no header: an empty one is the end, another is damage.
            file.seek(tar.offset)
            if file.read(512).strip(b"\0"):
                raise Damaged(f"{name} is damaged at byte {tar.offset}: what follows cannot be read")
    except (tarfile.TarError, EOFError) as error:
        hint = " (compressed shards cannot be read)" if name.endswith((".gz", ".tgz", ".bz2", ".xz", ".zst")) else ""
        raise Damaged(f"{name} is no readable tar file: {error}{hint}") from error
