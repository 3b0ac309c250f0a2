"""Hook specifications. `mmflow_components` gives names; the rest observe and cannot change a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("mmflow")
hookimpl = pluggy.HookimplMarker("mmflow")


class Specifications:
    """Every hook that mmflow calls, all optional."""

    @hookspec
    def mmflow_components(self) -> Mapping[str, str]:  # type: ignore[empty-body]
        """Names with import paths: `{"loss/infonce": "my_plugin.losses:InfoNCE"}`. Must not import them.

        A name that stands for another one is an alias, an old name that specs may still use:
        `{"loss/info_nce": "loss/infonce"}`.
        """

    @hookspec
    def mmflow_stage_started(self, run: str, stage: str, key: str) -> None:
        """A stage begins to work (a stage that is read from the store does not)."""

    @hookspec
    def mmflow_step_done(self, run: str, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """An optimizer step was logged."""

    @hookspec
    def mmflow_stage_finished(self, run: str, stage: str, key: str, result: Mapping[str, Any]) -> None:
        """A stage's outputs are in the store."""
