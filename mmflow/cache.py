"""Where mmflow keeps copies and notes that it can make again at any time."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The user's cache directory of mmflow (`MMFLOW_CACHE`, else below `XDG_CACHE_HOME`, else `~/.cache`)."""
    if own := os.environ.get("MMFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmflow"
