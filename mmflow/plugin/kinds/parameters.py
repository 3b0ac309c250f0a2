"""What holds for the parameters of an encoder: which of them train, in which set they stay, adapters beside them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mmflow.plugin.component import Component
from mmflow.plugin.references import Written, listed

if TYPE_CHECKING:
    from torch import Tensor


def _listed(raw: Written) -> Written:
    if raw is None:
        return ()
    return raw if isinstance(raw, list | tuple) else (raw,)


class Freeze(BaseModel):
    """Parameters of an encoder that do not train: all but those that match `except`.

    Names are those inside the encoder, projections included (`blocks.11.*`, `head`, `tokens`): a pattern as for file
    names, or the beginning of a path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    but: tuple[str, ...] = Field((), alias="except")

    def excepts(self, name: str) -> bool:
        """Whether a parameter trains though the encoder is frozen."""
        return any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for pattern in self.but)


class Constraint(Component, kind="constraint"):
    """A set in which weights stay: they are put back there at the start, and after each step of an optimizer that moved
    them. Write `project`, the nearest point of the set or another one."""

    shared: ClassVar[bool] = False
    least_axes: ClassVar[int] = 0
    """Parameters with fewer axes (biases, scales) are left alone."""

    match: str = Field(
        "*", description="which parameters stay there: names inside the component, as a pattern or the beginning of one"
    )

    def holds_for(self, name: str, axes: int) -> bool:
        """Whether a parameter of so many axes stays there, by its name inside the component."""
        return axes >= self.least_axes and (fnmatchcase(name, self.match) or name.startswith(f"{self.match}."))

    def project(self, weights: Tensor) -> Tensor:
        """The values that stand for `weights`, of the same shape and dtype. Without gradient."""
        raise NotImplementedError


Constraints = Annotated[
    tuple[Constraint, ...], BeforeValidator(_listed, json_schema_input_type=Constraint | tuple[Constraint, ...])
]
"""One constraint, or a list that is gone through in order."""


class Lora(BaseModel):
    """Low-rank adapters beside layers of an encoder (Hu et al., 2022): these train, and the encoder itself does not.

    A layer W x becomes W x + alpha / rank * B A drop(x). Names in `targets` are those of layers inside the encoder: a
    pattern as for file names, or the beginning of a path; `*` alone means all linear layers and attentions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(ge=1)
    alpha: float | None = Field(None, gt=0, description="the rank by default: a factor of 1")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Annotated[
        tuple[str, ...],
        BeforeValidator(listed, json_schema_input_type=str | tuple[str, ...]),
        Field(min_length=1),
    ] = ("*",)
