"""Values that a module gives beside its result: `emit` inside `forward`, collected by the core around each call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmflow.plugin.component import ComponentError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Emitted:
    """What one call has emitted: values by name, each [N], summed over the blocks that emitted them."""

    source: str
    """The entry that runs, for messages."""
    declared: Sequence[str]
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, rows: Tensor) -> None:
        """Add one value a row; raises `ComponentError` for a name that is not declared, or another shape."""
        if name not in self.declared:
            known = ", ".join(self.declared)
            raise ComponentError(
                f"{self.source} emits {name!r}, which its declaration does not name", found=name,
                expected=known or "nothing, as only an encoder and its head can emit",
                hint=f"let `emits` of its component return ({name!r},)" if "encoders." in self.source else "",
            )  # fmt: skip
        before = self.values.get(name)
        if rows.ndim != 1 or (before is not None and before.shape != rows.shape):
            raise ComponentError(
                f"{self.source} emits {name!r} of the shape {list(rows.shape)}",
                expected="one value a row [N]" if before is None else f"one value a row {list(before.shape)}",
            )
        self.values[name] = rows if before is None else before + rows

    def beside(self, outputs: Mapping[str, object], rows: int) -> dict[str, object]:
        """The outputs with all declared values; raises `ComponentError` where one is missing or not one a row."""
        for name in self.declared:
            if name not in self.values:
                raise ComponentError(f"{self.source} declares that it emits {name!r}, and has not done so")
            if len(self.values[name]) != rows:
                raise ComponentError(
                    f"{self.source} emits {name!r} for {len(self.values[name])} rows",
                    expected=f"one value for each of {rows}",
                )
        return {**outputs, **self.values}


_current: ContextVar[Emitted | None] = ContextVar("emitted", default=None)


def emit(name: str, rows: Tensor) -> None:
    """Inside the `forward` of an encoder's module, or of one within it: give `rows` [N], one value a row, beside the
    result.

    The values of several calls (one a block) are added up. The component declares the name in `emits`; the output
    `<encoder>.<name>` is then read like any other, by `{use: emitted, of: <encoder>.<name>}` for a loss. Nothing reads
    it by itself, and outside of mmflow nothing happens.
    """
    current = _current.get()
    if current is not None:
        current.add(name, rows)


@contextmanager
def emitting(source: str, declared: Sequence[str]) -> Iterator[Emitted]:
    """Around one call of a module: collect what it emits."""
    found = Emitted(source, declared)
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)
