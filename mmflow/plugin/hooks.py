"""Hook specifications: names of components, files of users, and hooks that observe and cannot change a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from mmflow.plugin.values import Json, RawValue, TensorType

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

    @hookspec(firstresult=True)
    def mmflow_decode(self, modality: str, content: Any, declared: TensorType) -> RawValue:
        """The raw value of a modality that `content` stands for: the bytes of a file, or an object of another library
        (a PIL image). None from a plugin that cannot tell. Raises `ValueError` for broken content.

        Decoded as a source of that plugin decodes it, so that a model sees what it was trained on.
        """

    @hookspec(firstresult=True)
    def mmflow_source_at(self, url: str) -> Mapping[str, Json] | None:
        """The declaration of a source (`{"use": "table", "url": ...}`) for the file or folder at a path or an fsspec
        URL; None from a plugin that reads no such files."""

    @hookspec
    def mmflow_stage_started(self, run: str, stage: str, key: str) -> None:
        """A stage begins to work (a stage that is read from the store does not)."""

    @hookspec
    def mmflow_step_done(self, run: str, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """An optimizer step was logged."""

    @hookspec
    def mmflow_stage_finished(self, run: str, stage: str, key: str, result: Mapping[str, Any]) -> None:
        """A stage's outputs are in the store."""
