"""Patterns that name parts of a path, `{label}/{speaker}_{take}`, matched without going back."""

from __future__ import annotations

import re
from collections.abc import Mapping


class PathPattern:
    """A pattern whose parts hold at least one character and no slash, each as few as possible.

    Raises `ValueError` where `pattern` names no parts. Time grows with the length of pattern and path alone: the first
    place where the text after a part stands is right, since what a later one would match follows the first one, too.
    """

    def __init__(self, pattern: str) -> None:
        pieces = re.split(r"\{(\w+)\}", pattern)
        self.names, self.texts = pieces[1::2], pieces[::2]
        if not self.names or any("{" in text or "}" in text for text in self.texts):
            raise ValueError(f"{pattern!r} names no parts: write {{NAME}} where a part of the path stands")
        wrong = next((n for n in self.names if not n.isidentifier() or n == "id" or self.names.count(n) > 1), None)
        if wrong is not None:
            raise ValueError(f"{pattern!r}: {wrong!r} is no name of a field, or stands there twice")

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parts of a whole path by name; None where it is unlike the pattern."""
        first, *between, last = self.texts
        if not path.startswith(first):
            return None
        found: list[str] = []
        at = len(first)
        for text in between:
            # Without a text between two parts, the first of them has one character.
            end = path.find(text, at + 1)
            if end < 0 or "/" in path[at:end]:
                return None
            found.append(path[at:end])
            at = end + len(text)
        end = len(path) - len(last)
        if end <= at or not path.endswith(last) or "/" in path[at:end]:
            return None
        return dict(zip(self.names, [*found, path[at:end]], strict=True))
