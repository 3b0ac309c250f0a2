"""Chat completions over HTTP, as many servers of language models offer them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SecretStr, field_validator

from mmflow.plugin import ComponentError, Field, RemoteService, ServiceBusy, outside_identity, secret
from mmflow_services.chat import messages_of

if TYPE_CHECKING:
    import httpx

_LATER = frozenset({408, 409, 425, 429})
"""Statuses that say: not now. Those from 500 on say it as well."""
_SHOWN = 300
_OWN = ("model", "messages", "stream")


class HttpChat(RemoteService, name="http_chat"):
    """A language model behind `POST <endpoint>/chat/completions` (the interface of OpenAI and compatible servers).

    Takes `prompt` or `messages`, and answers `text`, `finish` (why it ended) and `usage` (tokens), as far as the server
    tells. Too many requests, time-outs and trouble of the server are tried again; a refusal is not. Endpoint, key,
    time-out, tries and rate are outside identity: recorded answers are those of `model` with these fields.
    """

    extra: ClassVar[str] = "services"
    requires: ClassVar[tuple[str, ...]] = ("httpx",)
    example: ClassVar[str] = (
        "{use: service/http_chat, model: NAME, endpoint: $env.CHAT_URL, key: $env.CHAT_KEY, temperature: 0}"
    )

    model: str = Field(min_length=1)
    temperature: float | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    system: str | None = Field(None, description="the first message, where a request has none of its own")
    options: dict[str, Any] = Field({}, description="further fields of each request, such as response_format")
    endpoint: str = outside_identity(description="the URL before /chat/completions")
    key: SecretStr | None = secret(None, description="sent as a bearer token")
    timeout: float = outside_identity(60.0, gt=0, description="seconds that an answer may take")

    @field_validator("endpoint")
    @classmethod
    def _url(cls, endpoint: str) -> str:
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError("not a URL that begins with http:// or https://")
        return endpoint.rstrip("/")

    @field_validator("options")
    @classmethod
    def _others(cls, options: dict[str, Any]) -> dict[str, Any]:
        own = [name for name in (*_OWN, "temperature", "max_tokens") if name in options]
        if own:
            raise ValueError(f"`{own[0]}` is said by a field of its own, or always the same")
        return options

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        import httpx

        body = {"model": self.model, "messages": messages_of(request, self.system), **self.options}
        body |= {} if self.temperature is None else {"temperature": self.temperature}
        body |= {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key.get_secret_value()}"}
        host = httpx.URL(self.endpoint).host
        try:
            reply = _client().post(
                f"{self.endpoint}/chat/completions", json=body, headers=headers, timeout=self.timeout
            )
        except httpx.TimeoutException:
            raise ServiceBusy(f"{host} did not answer within {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise ServiceBusy(f"{host} cannot be reached: {error or type(error).__name__}") from None
        if reply.status_code in _LATER or reply.status_code >= 500:
            raise ServiceBusy(f"{host} answered {_status(reply)}", wait=_asked_to_wait(reply))
        if not reply.is_success:
            hint = "look at `key`" if reply.status_code in (401, 403) else "look at `model`, `endpoint` and `options`"
            raise ComponentError(f"{host} refused the request: {_status(reply)}", hint=hint)
        return _answer(reply, host)


@cache
def _client() -> httpx.Client:
    """One client for the process, which keeps its connections; threads may share it."""
    import httpx

    return httpx.Client()


def _answer(reply: httpx.Response, host: str) -> Mapping[str, Any]:
    try:
        said = reply.json()
        choice = said["choices"][0]
        answer = {"text": choice["message"]["content"] or "", "finish": choice.get("finish_reason")}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise ComponentError(
            f"{host} answered something else than a chat completion: {_short(reply.text)}", hint="look at `endpoint`"
        ) from None
    usage = said.get("usage")
    return answer | ({"usage": usage} if isinstance(usage, dict) else {})


def _status(reply: httpx.Response) -> str:
    """The status, and what the server says about it."""
    try:
        said = reply.json()["error"]
        said = said["message"] if isinstance(said, dict) else said
    except (ValueError, KeyError, TypeError):
        said = reply.text
    return f"{reply.status_code} {reply.reason_phrase}{f': {_short(str(said))}' if said else ''}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."


def _asked_to_wait(reply: httpx.Response) -> float | None:
    """Seconds in the header Retry-After, which holds a number or a date."""
    asked = reply.headers.get("retry-after", "").strip()
    if not asked:
        return None
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
