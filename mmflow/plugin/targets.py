"""Where references lead: owners of references, places of fields, and targets.

These are the forms in which resolved references travel between the rooms. Their texts (`encoders.image`) are written
where names leave the program: in parameters of checkpoints, in keys, in messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

Place = tuple[str | int, ...]
"""A field inside an entry: `("of", 0)`, `("labels",)`, `("sampler", "by")`."""


class Owner(NamedTuple):
    """An entry of a spec, as its references and its weights name it: `encoders.image`, `losses.align`.

    `section` is one of `fields`, `views`, `encoders`, `memories`, `losses`, `parts`, `stages`, `data`, `sampler`, or
    `stage` for the stage itself; `part` is `head` or `tokens` for the projections of an encoder.
    """

    section: str
    name: str
    part: str = ""

    @property
    def whole(self) -> Owner:
        """The entry that a part belongs to."""
        return self._replace(part="")

    def __str__(self) -> str:
        return ".".join(filter(None, self))


INIT: Final = "init"
"""The model before any training, where a stage is named."""

STAGE = Owner("stage", "")
"""The stage itself, whose fields hold references as those of an entry do."""


@dataclass(frozen=True)
class Target:
    """A resolved reference.

    `section` is one of `fields`, `views`, `encoders`, `memories`, `losses`, `parts`, `stages`, `data`, `sampler`;
    `name` is the entry's name there. `index` picks one member of the first group axis (`image.1`), `output` an output,
    a tap, a column or an added field by its name (`tokens`, `layers.6`, `key`, `box`); None is the main one. `field`
    is the path of a field inside a component (`("temperature",)`). `stage` is set where the entry belongs to another
    stage's model (`fit.image`).
    """

    section: str
    name: str
    index: int | None = None
    output: str | None = None
    detach: bool = False
    after: bool = False
    stage: str | None = None
    field: tuple[str, ...] = ()

    @property
    def owner(self) -> Owner:
        """The entry that the reference leads to."""
        return Owner(self.section, self.name)

    @property
    def as_field(self) -> Target:
        """Of a stage's output: the field that it becomes in data that it joins."""
        if self.section != "stages":
            return self
        return replace(self, section="fields", name=f"{self.name}.{self.output}", output=None)

    def __str__(self) -> str:
        """The reference as a spec could write it, without its section and stage."""
        index = () if self.index is None else (str(self.index),)
        return ".".join((self.name, *index, *((self.output,) if self.output else ()), *self.field))
