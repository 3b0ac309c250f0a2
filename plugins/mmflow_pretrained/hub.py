"""The commit that a name on the hub stands for, so that a key says which weights were meant."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from mmflow.plugin import ComponentError
from mmflow_pretrained.folders import first_line

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATIENCE = 10.0
"""Seconds that the hub gets for an answer."""


@lru_cache(maxsize=64)
def commit_of(repository: str, revision: str | None) -> str:
    """The commit behind a branch or tag of a repository: the hub's answer, else that of the local cache.

    Raises `ComponentError` where neither knows.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants

    said = "the environment says HF_HUB_OFFLINE"
    if not constants.HF_HUB_OFFLINE:
        try:
            found = HfApi().model_info(repository, revision=revision, timeout=_PATIENCE).sha
            if found is not None:
                return found
        except Exception as error:  # no network, no such repository, no permission: each library version has its own
            said = first_line(error)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    cached = folder / "refs" / (revision or "main")
    if cached.is_file():
        return cached.read_text().strip()
    at = f" at {revision}" if revision else ""
    raise ComponentError(
        f"the hub does not say what {repository}{at} is ({said}), and there is no copy of it here",
        hint="run once with a network, name a folder, or give the model as `config` with weights drawn at random",
    )
