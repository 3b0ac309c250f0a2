"""Where a reference leads: the one form in which resolved references travel between the rooms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A resolved reference.

    `section` is one of `fields`, `views`, `encoders`, `memories`, `losses`, `parts`, `stages`, `data`,
    `sampler`; `name` the entry's name there. `index` picks one member of the first group axis (`image.1`),
    `output` an output, tap, column, added field or `Value` field (`tokens`, `layers.6`, `key`, `box`,
    `temperature`); None is the main one. `stage` is set where the entry belongs to another stage's model
    (`fit.image`).
    """

    section: str
    name: str
    index: int | None = None
    output: str | None = None
    detach: bool = False
    after: bool = False
    stage: str | None = None

    @property
    def owner(self) -> str:
        """The entry, as `Scope.targets` and `Scope.reach` name it: `encoders.image`."""
        return f"{self.section}.{self.name}"
