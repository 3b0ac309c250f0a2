"""The message of a failed check: which component, what is wrong with it, found and expected."""

from __future__ import annotations

from typing import Protocol


class Labeled(Protocol):
    @property
    def label(self) -> str: ...


class Fault(AssertionError):
    """A component does not keep a promise of its kind."""

    def __init__(self, case: Labeled, says: str, *, found: object = "", expected: object = "") -> None:
        parts = [f"{case.label}: {says}"]
        parts += [f"found {found}"] if found != "" else []
        parts += [f"expected {expected}"] if expected != "" else []
        super().__init__("; ".join(parts))
        self.says = says
