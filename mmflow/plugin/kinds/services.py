"""The kind of what answers from outside: services, asked by stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from mmflow.plugin.component import Component
from mmflow.plugin.marks import outside_identity
from mmflow.plugin.values import Json


class Service(Component, kind="service"):
    """Something outside that answers (a language model, a judge, a detector): `ask(request) -> response`, both JSON.

    Stages ask through their context, which records each answer in the run store under the service's fields in identity
    and the request, and gives a recorded answer instead of asking again. Where it is (endpoint) and how it is reached
    (key, time-out) are fields outside identity. A chat service takes `prompt` or `messages` and answers `text`. `ask`
    may be called from several threads.
    """

    revision: ClassVar[int] = 1
    """Raise it where the code (or a default) has changed in such a way that recorded answers hold no more."""

    def ask(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """The answer to one request; raises `ComponentError` where there is none."""
        raise NotImplementedError


class RemoteService(Service):
    """A service behind a network. Its `ask` tries once: `ServiceBusy` says that the same request may be answered later,
    and the core asks again, waits in between, and keeps to the rate."""

    retries: int = outside_identity(5, ge=0, le=100, description="further tries of a request that was not answered")
    per_minute: float | None = outside_identity(None, gt=0, description="requests at most, further tries included")


class ServiceBusy(Exception):
    """A service that does not answer now and may do so later: too many requests, trouble on its side, a time-out."""

    def __init__(self, message: str, *, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds that the service asked to be left alone."""


class Answering(Protocol):
    """A service as a stage gets it."""

    def ask(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """The recorded answer to a request, else the answer that the service gives now, recorded at once.

        Raises `ComponentError` where there is no answer: the service refuses, stays silent after all tries, or the run
        is offline and nothing is recorded.
        """
        ...
