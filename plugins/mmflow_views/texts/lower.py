"""Lowercase texts."""

from __future__ import annotations

from typing import Any

from mmflow_views.texts.base import TextTransform


class Lower(TextTransform, name="lower"):
    """Lowercase letters only."""

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        return text.lower(), None
