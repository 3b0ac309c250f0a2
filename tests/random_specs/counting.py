"""Counts over many random specs: how many are refused, accepted and failed, and how often each component took part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.random_specs.composition import RandomSpec
from tests.random_specs.registered import counted
from tests.random_specs.running import Outcome

LEAST = 0.6
"""Share of the specs that must be accepted: a check that refuses everything proves nothing."""
OFTEN = 3
"""Accepted specs in which each component must stand."""


@dataclass
class Tally:
    """What became of the specs so far."""

    states: Counter[str] = field(default_factory=Counter)
    components: Counter[str] = field(default_factory=Counter)
    """Accepted specs by the components in them, as `kind/name`."""
    failures: list[str] = field(default_factory=list)
    """The texts of specs that failed, with what was said."""

    def add(self, spec: RandomSpec, outcome: Outcome) -> None:
        self.states[outcome.state] += 1
        if outcome.state == "accepted":
            self.components.update(spec.uses)
        if outcome.state == "failed":
            self.failures.append(f"{spec.text}\n{outcome.said}")

    @property
    def accepted(self) -> float:
        """The share of the specs that were accepted and ran to their end."""
        return self.states["accepted"] / max(1, self.states.total())

    def lacking(self) -> dict[str, int]:
        """Components that stood in fewer accepted specs than they must."""
        wanted = [name for name, reason in counted().items() if not reason]
        return {name: self.components[name] for name in wanted if self.components[name] < OFTEN}

    def __str__(self) -> str:
        states = ", ".join(f"{self.states[state]} {state}" for state in ("accepted", "refused", "failed"))
        left_out = {name: reason for name, reason in counted().items() if reason}
        lines = [f"random specs: {states} of {self.states.total()} ({self.accepted:.0%} accepted)"]
        lines += [f"  {name} in {count}" for name, count in sorted(self.components.items())]
        return "\n".join([*lines, *(f"  {name} left out: {reason}" for name, reason in left_out.items())])
