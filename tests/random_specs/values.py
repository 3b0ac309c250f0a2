"""Strategies for what may be written in a field, made from its annotation, bounds and default."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmflow.plugin import Component
from mmflow.plugin.numbers import Bounds, ByClock
from mmflow.plugin.references import Ref

T = TypeVar("T")

SMALL: dict[str, tuple[Any, ...]] = {
    "width": (8, 16), "decoder_width": (8, 16), "hidden": (8, 16), "dim": (4, 8, 24), "dims": (8, 16),
    "depth": (1, 2), "decoder_depth": (1,), "aggregate_depth": (1,), "heads": (1, 2), "decoder_heads": (1, 2),
    "size": (16, 24), "patch": (4, 8), "length": (12, 16), "vocabulary": (64, 300), "mlp_ratio": (1.0, 2.0),
    "count": (2, 3), "bands": (None,), "mels": (8, 16), "frames": (8, 12), "pixels": (16, 24), "rate": (4000, 8000),
    "batch_size": (8, 12), "registers": (0, 2), "window": (64, 128), "hop": (32, 64), "episodes": (3, 5),
    "iterations": (1, 2), "queries": (1, 2), "draws": (2,), "ways": (2,), "way": (2,), "shots": (1, 2),
    "seconds": (0.5,), "clusters": (3,), "query": (1, 2), "shot": (1,), "differing": (0, 1), "std": (0.5, 1.0),
    "sigma": (0.5, 1.0), "area": (0.1, 0.2),
    "authors": (16, 24), "papers": (30,), "venues": (4,), "features": (8,), "lr": (1e-3, 1e-2), "tokens": (400, 900),
    "temperature": (0.1, 0.5), "eps": (1e-8, 1e-6), "ratio": (0.25, 0.5), "max_pixels": (10**6,), "max_text": (10**4,),
    "max_bytes": (10**7,), "max_seconds": (60.0,), "retry_for": (0.0,), "timeout": (5.0,), "max_ratio": (100.0,),
    "weight_decay": (0.0, 0.01), "frame": (8,), "k": (1, 2), "group": (2, 4), "positions": (4, 8),
}  # fmt: skip
"""Numbers by the name of their field, where one from just above the lower bound would be slow, or fit nothing else."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a number, and the least and most members of a list."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    """Whether `low` itself is out of bounds."""
    below: bool = False
    least: int = 0
    most: int = 3
    by_clock: bool = False
    """Whether it is a number that moves by the clock alone."""

    def hold(self, number: float) -> bool:
        low, high = self.low, self.high
        return (low is None or number > low or (number == low and not self.above)) and (
            high is None or number < high or (number == high and not self.below)
        )


def limits(metadata: Sequence[Any], known: Limits = Limits()) -> Limits:
    """The limits that the metadata of an annotation state."""
    values = dict(vars(known))
    for one in metadata:
        if isinstance(one, FieldInfo):
            values = vars(limits(one.metadata, Limits(**values)))
        elif isinstance(one, Bounds):
            for name, limit in (("low", one.ge), ("low", one.gt), ("high", one.le), ("high", one.lt)):
                values[name] = limit if limit is not None else values[name]
            values["above"], values["below"] = one.gt is not None, one.lt is not None
        elif isinstance(one, ByClock):
            values["by_clock"] = True
        elif isinstance(one, BaseMetadata):
            match one:
                case Ge(ge):
                    values["low"], values["above"] = ge, False
                case Gt(gt):
                    values["low"], values["above"] = gt, True
                case Le(le):
                    values["high"], values["below"] = le, False
                case Lt(lt):
                    values["high"], values["below"] = lt, True
                case MinLen(least):
                    values["least"], values["most"] = least, max(least, 3)
                case MaxLen(most):
                    values["most"] = min(most, max(values["least"], 3))
    return Limits(**values)


@dataclass
class Values:
    """Draws values of fields; `choose` draws one of several, `held` a component of a kind for a field of another."""

    choose: Callable[[Sequence[Any]], Any]
    held: Callable[[type[Component], Limits], Any]

    def of(self, name: str, annotation: Any, known: Limits) -> Any:
        """A value for a field called `name`; raises `Unwritable` where only a person knows one."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self.of(name, arguments[0], limits(annotation.__metadata__, known))
        if origin is Literal:
            # Of sizes, the smallest.
            whole = all(isinstance(one, int) and not isinstance(one, bool) for one in arguments)
            return self.choose(arguments[:1] if whole else arguments)
        if origin in (Union, types.UnionType):
            return self._one_of(name, arguments, known)
        if origin is tuple:
            return self._listed(name, arguments, known)
        if annotation is bool or getattr(annotation, "__name__", "") == "StrictBool":
            return self.choose((False, True))
        if annotation is int:
            return self._number(name, known, whole=True)
        if annotation is float:
            return self._number(name, known, whole=False)
        if isinstance(annotation, type) and issubclass(annotation, Component):
            return self.held(annotation, known)
        raise Unwritable(f"{name}: {annotation}")

    def _one_of(self, name: str, arguments: tuple[Any, ...], known: Limits) -> Any:
        found = [one for one in arguments if one is not type(None)]
        found = [one for one in found if get_origin(one) is not Ref and one is not str] or found
        simple = [one for one in found if not (isinstance(one, type) and issubclass(one, BaseModel))]
        return self.of(name, self.choose(simple or found), known)

    def _listed(self, name: str, arguments: tuple[Any, ...], known: Limits) -> list[Any]:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            many = self.choose(range(max(1, known.least), max(1, known.least, min(2, known.most)) + 1))
            found = [self.of(name, arguments[0], Limits()) for _ in range(many)]
            return list(dict.fromkeys(found)) if all(isinstance(one, str | int | float) for one in found) else found
        found = [self.of(name, one, Limits()) for one in arguments]
        return sorted(found) if all(isinstance(one, int | float) for one in found) else found

    def _number(self, name: str, known: Limits, *, whole: bool) -> Any:
        small = [
            one for one in SMALL.get(name, ()) if one is None or (known.hold(one) and (not whole or one == int(one)))
        ]
        if small:
            return self.choose(small)
        if whole:
            low = 0 if known.low is None or known.low < 0 else int(known.low) + known.above
            choices = [one for one in range(low, low + 3) if known.hold(one)]
            return self.choose(choices or [low])
        low = 0.0 if known.low is None or known.low < 0 else float(known.low)
        choices = [one for one in (low, low + 0.1, low + 0.25, low + 0.5, low + 1.0, low + 2.0) if known.hold(one)]
        return self.choose([round(one, 3) for one in choices])


class Unwritable(Exception):
    """A field whose value no declaration tells: it stays at its default, or `known.py` gives one."""
