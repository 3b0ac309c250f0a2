"""A service of one's own: something outside that answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Service


class CLASS(Service, name="NAME"):
    """Answers with the prompt backwards.

    Say here who answers. Answers are recorded in the run store, and each request is asked once.
    """

    example: ClassVar[str] = "{use: ask, data: train, service: {use: NAME}, prompt: caption}"

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to one request; a chat service takes `prompt` and answers `text`."""
        prompt = request.get("prompt")
        if not isinstance(prompt, str):
            raise ComponentError("NAME answers requests with a `prompt`", found=str(sorted(request)))
        return {"text": prompt[::-1]}
