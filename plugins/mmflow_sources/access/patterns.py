"""Several files under one name: `{000..012}`, `{a,b}` and `*` in URLs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_sources.access.files import split_url
from mmflow_sources.base import FileSource


def expanded(source: FileSource, patterns: Sequence[str], expected: str) -> list[str]:
    """The URLs that patterns stand for, in order; raises `ComponentError` where there is none."""
    found: list[str] = []
    for pattern in patterns:
        for url in expand_braces(pattern):
            found.extend(_globbed(source, url) if is_pattern(url) else [url])
    if not found:
        raise ComponentError(f"no file at {patterns[0]}", found=patterns[0], expected=expected)
    return found


def fingerprint_of(source: FileSource, urls: Sequence[str]) -> list[Any]:
    """Fingerprints of files, folder by folder."""
    by_folder: dict[str, list[str]] = {}
    for url in urls:
        parent, name = split_url(url)
        by_folder.setdefault(parent, []).append(name)
    return [source.folder(parent).fingerprint(names) for parent, names in by_folder.items()]


def expand_braces(pattern: str) -> list[str]:
    """`a{00..02}{x,y}` as the names that it stands for, in order."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    low, high, choices = match.groups()
    if choices is not None:
        middle = choices.split(",")
    else:
        width = len(low) if low.startswith("0") or len(low) == len(high) else 0
        middle = [str(number).zfill(width) for number in range(int(low), int(high) + 1)]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [name for part in middle for name in expand_braces(head + part + tail)]


def is_pattern(url: str) -> bool:
    web = url.startswith(("http://", "https://"))
    return "*" in (url.partition("?")[0] if web else url) or ("?" in url and not web)


def _globbed(source: FileSource, url: str) -> list[str]:
    parent, name = split_url(url)
    try:
        found = source.folder(parent).glob(name)
    except ComponentError:
        raise
    except (OSError, ValueError) as error:
        raise ComponentError(f"{url} cannot be listed: {error}", found=url) from error
    head, chain, rest = parent.partition("::")
    return [f"{head}/{name}{chain}{rest}" for name in found]
