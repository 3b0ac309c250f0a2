"""The requests that services for texts agree on: `prompt` or `messages`, and perhaps `system`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmflow.plugin import ComponentError

Message = dict[str, Any]
"""`role` (system, user, assistant) and `content`."""


def messages_of(request: Mapping[str, Any], system: str | None = None) -> list[Message]:
    """The messages of a request; `system` is the first of them where the request names none of its own."""
    prompt, given = request.get("prompt"), request.get("messages")
    if (prompt is None) == (given is None):
        raise ComponentError("a request to a chat needs `prompt` or `messages`", found=", ".join(request))
    system = request.get("system", system)
    first: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    return [*first, *(({"role": "user", "content": prompt},) if given is None else given)]


def last_text(request: Mapping[str, Any]) -> str:
    """The text that asks for an answer: the prompt, or the content of the last message."""
    return str(messages_of(request)[-1]["content"])
