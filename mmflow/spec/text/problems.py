"""The mistakes in a spec, their places, and how to fix them: one `Problem` each, all of them in one `SpecError`."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self, TypedDict

from mmflow.plugin.references import Written

Path = tuple[str | int, ...]

_LONGEST_PART = 100
_LONGEST_BODY = 1500
_COMPARED = 300
"""Names at most that a mistyped one is compared with."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text, counted from 1. Line 0 means the whole of it (an override on the command line)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Place:
    """A second place that had a part in a problem, and which: `used at spec.yaml:7:12`."""

    relation: str
    mark: Mark

    def __str__(self) -> str:
        return f"{self.relation} {self.mark}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `found` and `expected` are phrases ready for print; `hint` is the sentence that fixes it."""

    message: str
    path: Path = ()
    mark: Mark | None = None
    also: tuple[Place, ...] = ()
    found: str | None = None
    expected: str | None = None
    hint: str | None = None
    note: bool = False
    """True for advice: the spec can be used as it is."""

    def __str__(self) -> str:
        says = [self.message] if self.message else []
        wants = [f"found {self.found}"] if self.found is not None else []
        wants += [f"expected {self.expected}"] if self.expected is not None else []
        says += [", ".join(wants)] if wants else []
        body = ": ".join(says)
        if len(body) > _LONGEST_BODY:
            body = f"{body[:_LONGEST_BODY]}..."
        if self.hint:
            body = f"{body}; {self.hint}" if body else self.hint
        if self.also:
            body = f"{body} ({', '.join(str(place) for place in self.also)})"
        where = [str(self.mark)] if self.mark else []
        where += [dotted(self.path)] if self.path else []
        return one_line(": ".join([*where, body]))


class Words(TypedDict, total=False):
    """The words of a problem beside its message, as functions pass them on."""

    found: str | None
    expected: str | None
    hint: str | None


class Parts(Words, total=False):
    """The optional parts of a problem, as functions pass them on."""

    also: tuple[Place, ...]
    note: bool


class SpecError(Exception):
    """A spec that cannot be used, with everything that is wrong with it, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = list(dict.fromkeys(problems))
        files = list(dict.fromkeys(problem.mark.file if problem.mark else "" for problem in unique))

        def order(problem: Problem) -> tuple[int, int, int]:
            mark = problem.mark or Mark("")
            return files.index(mark.file), mark.line, mark.column

        self.problems: tuple[Problem, ...] = tuple(sorted(unique, key=order))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems(list[Problem]):
    """Problems as they are found. At `MOST` errors no further ones are looked for: raises `SpecError`."""

    MOST = 100

    def __init__(self) -> None:
        super().__init__()
        self._errors = 0

    def append(self, problem: Problem) -> None:
        super().append(problem)
        self._errors += not problem.note
        if self._errors >= self.MOST:
            raise SpecError([found for found in self if not found.note])

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.append(problem)

    def __iadd__(self, problems: Iterable[Problem]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.extend(problems)
        return self


def dotted(path: Iterable[str | int]) -> str:
    """A path as the language writes it: `losses.align.temperature`, `data.train.apply.0`."""
    return ".".join(part if len(part) <= _LONGEST_PART else f"{part[:_LONGEST_PART]}..." for part in map(str, path))


def one_line(text: str) -> str:
    """The text with control characters and lone surrogates written as escapes, so that it prints anywhere."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def shown(value: Written, limit: int = 60) -> str:
    """A value as the language writes it, cut to about `limit` characters, for use in a message."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, str):
        text = json.dumps(value[: limit + 1], ensure_ascii=False)
        return text if len(value) <= limit else text[: limit - 2] + '..."'
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}: ..." for key in list(value)[:4])
        return f"a mapping {{{inside}{', ...' if len(value) > 4 else ''}}}" if value else "an empty mapping"
    if isinstance(value, Sequence):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a whole number of more than 256 bits"
    return str(value)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a mistyped name most likely meant, or None where none is close."""
    known = {candidate.casefold(): candidate for candidate in islice(candidates, _COMPARED) if len(candidate) <= 120}
    folded = name[:80].casefold()
    close = difflib.get_close_matches(folded, list(known), n=1, cutoff=0.6)
    if not close and len(folded) > 2:
        close = [candidate for candidate in known if candidate.startswith(folded)][:1]
    return known[close[0]] if close else None


def did_you_mean(name: str, candidates: Iterable[str], otherwise: str | None = None, most: int = 12) -> str | None:
    """The hint for an unknown name: the nearest one, else the list of what there is, else `otherwise`."""
    names = list(candidates)
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near}?"
    if names and len(names) <= most:
        return f"there is {', '.join(names)}" if len(names) == 1 else f"there are {', '.join(names)}"
    return otherwise
