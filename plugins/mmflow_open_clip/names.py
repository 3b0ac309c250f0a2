"""Names that open_clip knows."""

from __future__ import annotations

from mmflow.plugin import ComponentError


def known_to_open_clip(name: str) -> None:
    """Raises `ComponentError` where open_clip has no model of that name."""
    import difflib

    import open_clip

    if name not in open_clip.list_models():
        near = ", ".join(difflib.get_close_matches(name, open_clip.list_models(), 3))
        raise ComponentError(f"open_clip has no model {name!r}", hint=f"did you mean {near}?" if near else "")
