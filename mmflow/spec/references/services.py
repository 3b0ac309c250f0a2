"""Who may ask a service: stages, whose answers are recorded."""

from __future__ import annotations

from mmflow.plugin.component import with_article
from mmflow.plugin.kinds import Encoder, Loss, Memory, Service
from mmflow.plugin.targets import Owner
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.resolver import Resolver


def check_services(resolver: Resolver, entry: Entry, owner: Owner, made: Encoder | Loss | Memory) -> None:
    """Report services in the fields of entries that run inside a step."""
    for place, held in resolver.held(owner):
        if isinstance(held, Service):
            hint = "ask it in a stage, whose column the data takes up by `fields`"
            message = f"a service answers stages, not {with_article(made.kind)}"
            resolver.report(entry, place, entry.problem(message, place, hint=hint))
