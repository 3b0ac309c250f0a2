"""Room on a disk, taken before the first step for what is written after the last one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mmflow.plugin.component import ComponentError

_MORE = 1 << 20
"""Bytes beside the model: history, record, manifest."""


class Reserve:
    """A file of the size of a model, in the folder where the model is to be written; `release` makes it room again."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / ".reserve"
        # Elsewhere than on Linux a full disk shows when the model is written.
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size + _MORE)
        except OSError as error:
            self.release()
            raise ComponentError(
                f"there is no room in {folder} for a model of {size / 1e6:,.1f} MB: {error.strerror}",
                hint="make room, or name another store with --store",
            ) from error

    def release(self) -> None:
        """Give the room back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
