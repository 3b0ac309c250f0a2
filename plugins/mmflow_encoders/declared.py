"""Fields, checks and names that the declarations share, in plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Encoder, TensorType

Width = Annotated[int, Field(ge=1, le=65_536)]
Depth = Annotated[int, Field(ge=1, le=1024)]
Heads = Annotated[int, Field(ge=1, le=1024)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, lt=1)]

HEADS = "number of attention heads; must divide the width"
DROPOUT = "of residual branches, hidden layers and attention weights"


class Dropping(Encoder):
    """Base of the encoders with dropout, which draw while they train."""

    dropout: Share = Field(0.0, description=DROPOUT)

    def draws(self) -> bool:
        return self.dropout > 0


class Blocks(Dropping):
    """Base of the encoders that are made of transformer blocks."""

    heads: Heads = Field(4, description=HEADS)
    mlp_ratio: float = Field(
        4.0, gt=0, le=256, description="width of the hidden layer of an MLP over the width of the tokens"
    )


class Tower(Blocks):
    """Base of the encoders that run a sequence through blocks and pool it."""

    width: Width = Field(256, description="of tokens and of the pooled vector")
    depth: Depth = Field(4, description="number of blocks")

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        check_heads(self.width, self.heads)
        return self

    def tower_taps(self, pool: str) -> tuple[str, ...]:
        pooling = ("attention.pool",) if pool == "attention" else ()
        return (*layer_names(self.depth), *map_names(self.depth), *pooling)

    def tower(self, given: TensorType, length: int | None, pool: str, extra: int | None = 0) -> dict[str, TensorType]:
        """Outputs and taps for `length` tokens; `extra` further tokens (a class token) take part in maps alone.

        `extra` is None where the number of tokens that take part is not known.
        """
        tokens = TensorType("tokens", given.axes, (length, self.width), groups=given.groups)
        every = None if length is None or extra is None else length + extra
        maps = dict.fromkeys(map_names(self.depth), map_like(given, self.heads, every, every))
        if pool == "attention":
            maps["attention.pool"] = map_like(given, self.heads, 1, None if extra is None else length)
        layers = dict.fromkeys(layer_names(self.depth), tokens)
        return {"pooled": vector_like(given, self.width), "tokens": tokens, **layers, **maps}


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        fitting = max(n for n in range(1, heads + 1) if width % n == 0)
        raise ValueError(f"width {width} is no multiple of heads {heads}; {fitting} heads would fit")


def width_of(component: str, *inputs: TensorType) -> int:
    """The common width of vectors, token sequences or grids; an error where it is unknown or differs."""
    widths = {given.size[-1] if given.size else None for given in inputs}
    width = widths.pop()
    if widths or width is None:
        found = ", ".join(f"{given.modality} {list(given.size)}" for given in inputs)
        raise ComponentError(f"{component} needs inputs of one known width", found=found)
    return width


def vector_like(given: TensorType, width: int | None) -> TensorType:
    """The type of one vector for each row (and group member) of an input."""
    return TensorType("vector", given.axes, (width,), groups=given.groups)


def tokens_like(given: TensorType, length: int | None, width: int | None) -> TensorType:
    return TensorType("tokens", given.axes, (length, width), groups=given.groups)


def length_of(given: TensorType) -> int | None:
    """Number of tokens of a sequence, places of a grid, or one for a vector; None where unknown."""
    if given.modality == "vector":
        return 1
    if given.modality == "grid" and len(given.size) == 3:
        height, width = given.size[:2]
        return None if height is None or width is None else height * width
    return given.size[0] if len(given.size) == 2 else None


def layer_names(depth: int) -> tuple[str, ...]:
    return tuple(f"layers.{i}" for i in range(1, depth + 1))


def map_names(depth: int, kind: str = "attention") -> tuple[str, ...]:
    return tuple(f"{kind}.{i}" for i in range(1, depth + 1))


def map_like(given: TensorType, heads: int, queries: int | None, keys: int | None) -> TensorType:
    """The type of attention maps [heads, queries, keys]."""
    return TensorType("attention", given.axes, (heads, queries, keys), groups=given.groups)


def tapped(names: tuple[str, ...], output: TensorType) -> Mapping[str, TensorType]:
    return dict.fromkeys(names, output)
