"""The draws behind a random spec, and the components that it has used so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.random_specs.files import Files
from tests.random_specs.world import World

T = TypeVar("T")

SELDOM = 4
"""One in so many times a field that has a default is written."""
STRANGE = 100
"""One in so many times something is written that its reader is known to refuse: `check` has to say so."""
TRIES = 12


class Unfit(Exception):
    """A component for which the spec so far has no inputs, or that refuses those that were drawn."""


@dataclass
class Drawing:
    """The state of one spec that is being composed."""

    random: Random
    files: Files
    uses: set[str] = field(default_factory=set)
    """The components in it, as `kind/name`."""
    world: World = field(default_factory=lambda: World({}))
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Its sections, as they are written."""
    shared: dict[str, list[str]] = field(default_factory=dict)
    """By kind, dotted paths to components of the spec that others may share."""
    wanted: tuple[str, ...] = ()
    """Components that are to stand in it, as `kind/name`; the first above all."""
    odd: bool = False
    """Whether the reference that is being drawn may lead where its reader is known to refuse it."""
    member: str | None = None
    """The source inside others: mostly the same one again, as sources with other fields have few rows in common."""

    def choose(self, choices: Sequence[Any]) -> Any:
        if not choices:
            raise Unfit("nothing to choose from")
        return self.random.choice(list(choices))

    def named(self, kind: str, candidates: Sequence[str]) -> str:
        """One of the components of a kind: mostly one that is wanted, as long as it does not stand in the spec."""
        wanted = [name for name in candidates if f"{kind}/{name}" in self.wishes()]
        return self.choose(wanted if wanted and not self.now_and_then() else candidates)

    def wishes(self) -> tuple[str, ...]:
        """The components that are wanted and do not stand in the spec."""
        return tuple(one for one in self.wanted if one not in self.uses)

    def wishes_for(self, *kinds: str) -> bool:
        return any(one.partition("/")[0] in kinds for one in self.wishes())

    def now_and_then(self, times: int = SELDOM) -> bool:
        return self.random.randrange(times) == 0

    def strange(self) -> bool:
        return self.now_and_then(STRANGE)

    def attempt(self, make: Callable[[], T]) -> T | None:
        """Make something; a few draws may come to nothing, where the spec has nothing that a component could read."""
        for _ in range(TRIES):
            uses = set(self.uses)
            try:
                return make()
            except Unfit:
                self.uses = uses
        return None

    def several(self, label: str, make: Callable[[str], None], many: int) -> None:
        for number in range(many):
            self.attempt(lambda number=number: make(f"{label}{number}"))
