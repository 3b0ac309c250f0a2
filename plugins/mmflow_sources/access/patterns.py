"""Several files under one name: `{000..012}`, `{a,b}` and `*` in URLs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from math import prod
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_sources.access.files import Folder, split_url

MOST_FILES = 1_000_000
"""Files that braces may stand for."""
MOST_WITHIN = 8
"""Braces within one another."""
MOST_SIGNS = 100_000_000
"""Of the names of all files that one pattern stands for."""
BRACES = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}|\{([^{}]*,[^{}]*)\}")


def expanded(folder_at: Callable[[str], Folder], patterns: Sequence[str], expected: str) -> list[str]:
    """The URLs that patterns stand for, in order; raises `ComponentError` where there is none.

    `folder_at` opens the folder at a URL.
    """
    found: list[str] = []
    for pattern in patterns:
        for url in expand_braces(pattern):
            found.extend(_globbed(folder_at, url) if is_pattern(url) else [url])
        if len(found) > MOST_FILES:
            raise _too_many(patterns[0], len(found))
    if not found:
        raise ComponentError(f"no file at {patterns[0]}", found=patterns[0], expected=expected)
    return found


def by_folder(folder_at: Callable[[str], Folder], urls: Sequence[str]) -> list[tuple[Folder, list[str]]]:
    """The folders of files, each with the names of its files."""
    found: dict[str, list[str]] = {}
    for url in urls:
        parent, name = split_url(url)
        found.setdefault(parent, []).append(name)
    return [(folder_at(parent), names) for parent, names in found.items()]


def fingerprint_of(folder_at: Callable[[str], Folder], urls: Sequence[str]) -> list[Any]:
    """Fingerprints of files, folder by folder."""
    return [folder.fingerprint(names) for folder, names in by_folder(folder_at, urls)]


def expand_braces(pattern: str) -> list[str]:
    """`a{00..02}{x,y}` as the names that it stands for, in order; raises `ComponentError` where they are too many."""
    deepest = _deepest(pattern)
    if deepest > MOST_WITHIN:
        expected = f"at most {MOST_WITHIN} within one another"
        raise ComponentError(f"{pattern[:200]} has {deepest} braces within one another", expected=expected)
    names = [pattern]
    # Of braces within braces the inner ones are filled in first.
    while any(map(BRACES.search, names)):
        names = [*islice((inner for name in names for inner in _filled(name)), MOST_FILES + 1)]
        if len(names) > MOST_FILES:
            raise _too_many(pattern, len(names))
    return names


def _deepest(pattern: str) -> int:
    """How many pairs of braces stand within one another at most."""
    deepest, within = 0, list[int]()
    for sign in pattern:
        if sign == "{":
            within.append(0)
        elif sign == "}" and within:
            depth = within.pop() + 1
            deepest = max(deepest, depth)
            if within:
                within[-1] = max(within[-1], depth)
    return deepest


def _filled(pattern: str) -> list[str]:
    """A name with the innermost braces filled in, all at once."""
    texts: list[str] = []
    ranges: list[tuple[int, int, int]] = []
    choices: list[list[str]] = []
    at = 0
    for match in BRACES.finditer(pattern):
        texts.append(pattern[at : match.start()])
        at = match.end()
        low, high, listed = match.groups()
        if listed is not None:
            choices.append(listed.split(","))
            ranges.append((0, len(choices[-1]) - 1, -1))
        else:
            width = len(low) if low.startswith("0") or len(low) == len(high) else 0
            choices.append([])
            ranges.append((int(low), int(high), width))
    count = prod(max(0, high - low + 1) for low, high, _ in ranges)
    longest = sum(map(len, texts)) + len(pattern[at:]) + sum(max(map(len, one), default=18) for one in choices)
    if count > MOST_FILES or (count > 1 and count * longest > MOST_SIGNS):
        raise _too_many(pattern, count)
    names = [""]
    for text, (low, high, width), listed in zip(texts, ranges, choices, strict=True):
        middle = listed if width < 0 else [str(number).zfill(width) for number in range(low, high + 1)]
        names = [name + text + part for name in names for part in middle]
    return [name + pattern[at:] for name in names]


def _too_many(pattern: str, count: int) -> ComponentError:
    return ComponentError(
        f"{pattern[:200]} stands for {count:,} files", found=f"{count:,} files", expected=f"at most {MOST_FILES:,}"
    )


def is_pattern(url: str) -> bool:
    web = url.startswith(("http://", "https://"))
    return "*" in (url.partition("?")[0] if web else url) or ("?" in url and not web)


def _globbed(folder_at: Callable[[str], Folder], url: str) -> list[str]:
    # The folders of a pattern, level by level, from the first one whose name is one.
    fixed, levels = split_url(url)[0], [split_url(url)[1]]
    while is_pattern(fixed.partition("::")[0]):
        parent, name = split_url(fixed)
        if parent == fixed:
            break
        fixed, levels = parent, [name, *levels]
    try:
        names = [""]
        for depth, level in enumerate(levels):
            last = depth == len(levels) - 1
            names = [
                f"{name}/{found}" if name else found
                for name in names
                for found in _matching(folder_at(_below(fixed, name)), level, folders=not last)
            ]
    except ComponentError:
        raise
    except (OSError, ValueError) as error:
        raise ComponentError(f"{url} cannot be listed: {error}", found=url) from error
    return [_below(fixed, name) for name in names]


def _below(folder: str, name: str) -> str:
    head, link, rest = folder.partition("::")
    return f"{head.rstrip('/') or head}/{name}{link}{rest}" if name else folder


def _matching(folder: Folder, pattern: str, *, folders: bool) -> list[str]:
    """Names in a folder that match a pattern of `*`, `?` and `[...]`, sorted: files, or folders."""
    try:
        found = [name for name, is_folder in folder.entries() if is_folder == folders]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in found if (fnmatchcase(name, pattern) if is_pattern(pattern) else name == pattern)]
