"""Whether the adapters that an encoder declares can be put where they are wanted, as far as declarations tell."""

from __future__ import annotations

from importlib.util import find_spec

from mmflow.plugin.kinds import Application, Encoder
from mmflow.plugin.targets import Owner
from mmflow.spec.components.entry import Entry
from mmflow.spec.components.validate import DISTRIBUTION
from mmflow.spec.references.resolver import Resolver
from mmflow.spec.text.problems import Path


def check_adapters(resolver: Resolver, entry: Entry, owner: Owner, made: Encoder) -> None:
    """Report `lora` of an encoder or its projections where nothing would train, or nothing can have adapters."""
    behind = resolver.structure(owner)
    parts: list[tuple[Path, Encoder | None, Encoder | None]] = [
        ((), made, behind.encoder if behind is not None else None),
        (("head",), made.head, made.head),
        (("tokens",), made.tokens, made.tokens),
    ]
    for above, part, structure in parts:
        if part is None or part.lora is None:
            continue
        place = (*above, "lora")
        if find_spec("peft") is None:
            hint = f"pip install '{DISTRIBUTION}[lora]'"
            problem = entry.problem("lora needs peft, which is not installed", place, key=True, hint=hint)
        elif part.freeze is True:
            message = "`freeze: true` leaves nothing to train for `lora`"
            hint = "leave it out: with `lora` the encoder's own weights stay as they are"
            problem = entry.problem(message, (*above, "freeze"), hint=hint)
        elif structure is not None and not structure.has_weights:
            message = f"{structure.use} has no weights that `lora` could stand beside"
            problem = entry.problem(message, place, key=True, hint="leave `lora` out")
        elif isinstance(part, Application) and _adapted_below(resolver, owner) not in (None, part.lora):
            message = f"{part.weights} has adapters of its own"
            hint = "leave `lora` out: a copy has those, too"
            problem = entry.problem(message, place, key=True, hint=hint)
        else:
            continue
        resolver.report(entry, place, problem)


def _adapted_below(resolver: Resolver, owner: Owner) -> object:
    """The adapters of the encoder whose structure an application takes."""
    links = list(resolver.applied(owner))
    below = links[1].wiring.structure(links[1].owner) if len(links) > 1 else None
    return below.encoder.lora if below is not None else None
