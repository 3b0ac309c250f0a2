"""Encoders of other stages' models where a node of this stage is read: each becomes a frozen encoder of this stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mmflow.plugin.kinds import Application
from mmflow.plugin.references import Ref
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Owner, Target
from mmflow.spec.components.entry import Entry

SEPARATOR: Final = ":"
"""Between the stage and the encoder in the name of a borrowed one; no entry of a spec may have it in its name."""
_DOT: Final = "/"
"""Stands for the dots in the name of a stage, as they would cut a path."""
_FROZEN: Final = "frozen"
"""The application of weights that says in a spec what a bare reference to another stage's encoder means."""


def borrowed_target(target: Target) -> Target:
    """The same reference as one to an encoder of this stage."""
    stage = (target.stage or "").replace(".", _DOT)
    return replace(target, name=f"{stage}{SEPARATOR}{target.name}", stage=None)


def borrowed_entry(target: Target, reader: Entry) -> Entry:
    """The encoder of this stage that `{use: frozen, weights: fit.image}` would be, told at the entry that reads it."""
    made = registry().get("encoder", _FROZEN)
    assert issubclass(made, Application)
    component = made(weights=Ref(f"{target.stage}.{target.name}"))
    return Entry("encoders", borrowed_target(target).name, reader.path, reader.node, component)


def lender(owner: Owner) -> tuple[str, str] | None:
    """The stage and the encoder behind a borrowed one; None for an entry of the stage's own."""
    stage, found, name = owner.name.partition(SEPARATOR)
    return (stage.replace(_DOT, "."), name) if found else None
