"""Configurations of open_clip models: of a folder, of the hub, or of a name that the library lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmflow_pretrained.folders import folder_of, is_local
from mmflow_pretrained.reading import reading

from mmflow.plugin import ComponentError

FILE = "open_clip_config.json"
HUB = "hf-hub:"


def configuration_of(hub: str, pretrained: str | None = None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The model's configuration and that of its preprocessing; raises `ComponentError` for an unknown name."""
    folder = folder_of(hub, FILE) if is_local(hub) else None
    with reading("open_clip", "configuration", hub):
        import json
        from pathlib import Path

        import open_clip

        if folder is not None or hub.startswith(HUB):
            path = folder / FILE if folder is not None else _downloaded(hub.removeprefix(HUB))
            stored = json.loads(Path(path).read_text())
            return stored["model_cfg"], stored.get("preprocess_cfg", {})
        if hub not in open_clip.list_models():
            raise _unknown(hub, open_clip.list_models())
        preprocessing = open_clip.get_pretrained_cfg(hub, pretrained) if pretrained is not None else {}
        if pretrained is not None and not preprocessing:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(hub)[:4])
            raise ComponentError(
                f"open_clip has no weights {pretrained!r} of {hub}", hint=f"it has {tags}" if tags else ""
            )
        return open_clip.get_model_config(hub) or {}, preprocessing


def _downloaded(repository: str) -> str:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(repository, FILE)


def _unknown(name: str, known: list[str]) -> ComponentError:
    import difflib

    near = ", ".join(difflib.get_close_matches(name, known, 3))
    return ComponentError(f"open_clip has no model {name!r}", hint=f"did you mean {near}?" if near else "")
