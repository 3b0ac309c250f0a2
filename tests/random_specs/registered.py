"""The components that random specs are made of: all that are installed, but for those named here with the reason."""

from __future__ import annotations

from functools import cache

from mmflow.plugin import Component
from mmflow.plugin.registry import registry

LEFT_OUT: dict[str, str] = {"service/http_chat": "asks a server on the network"}
"""`kind/name` -> why no random spec can use it."""

OUTSIDE = ("modality",)
"""Kinds that a spec does not write by itself: modalities are told by the sources."""


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names of the components of a kind, those left out that lack an installed library."""
    found = [name for name in registry().names(kind) if f"{kind}/{name}" not in LEFT_OUT]
    return tuple(name for name in found if not component(kind, name).missing_modules())


@cache
def component(kind: str, name: str) -> type[Component]:
    return registry().get(kind, name)


def counted() -> dict[str, str]:
    """Every component that must stand in random specs, as `kind/name`, and those that need not, with the reason."""
    found: dict[str, str] = {}
    for one in registry().registrations():
        label = f"{one.kind}/{one.name}"
        if one.kind not in OUTSIDE:
            missing = registry().get(one.kind, one.name).missing_modules()
            found[label] = LEFT_OUT.get(label, "") or (f"needs {', '.join(missing)}" if missing else "")
    return found
