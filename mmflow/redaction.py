"""Values of the environment are replaced by `$env.NAME` in everything that is printed or stored.

The language calls `hide` with each value that a spec takes from the environment; the terminal, the report, records of
runs, stored results and messages to Prefect pass their texts through `redacted`. Values of fewer than four characters
are no secret and stay; those of fewer than eight are replaced where they stand as a word.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_SHORTEST, _ANYWHERE = 4, 8
_names: dict[str, str] = {}
"""Hidden text -> the name of the variable."""


def hide(name: str, value: str) -> None:
    """Replace `value`, in every form that it takes in messages, by `$env.<name>` from now on in this process."""
    for form in _forms(value):
        if len(form) >= _SHORTEST:
            _names.setdefault(form, name)
    _pattern.cache_clear()


def forget() -> None:
    """Hide nothing any more: for a process that goes on with another user's spec, such as one that runs tests."""
    _names.clear()
    _pattern.cache_clear()


def redacted(text: str) -> str:
    """`text` without values of the environment."""
    if not _names:
        return text
    return _pattern().sub(lambda match: f"$env.{_names[match.group()]}", text)


def redacted_data(value: T) -> T:
    """Plain data with every text in it redacted; numbers stay as they are."""
    return _redacted(value) if _names else value


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted(k) if isinstance(k, str) else k: _redacted(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(item) for item in value]
    return value


@cache
def _pattern() -> re.Pattern[str]:
    forms = sorted(_names, key=len, reverse=True)
    long = [re.escape(form) for form in forms if len(form) >= _ANYWHERE]
    short = [rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])" for form in forms if len(form) < _ANYWHERE]
    return re.compile("|".join([*long, *short]))


def _forms(value: str) -> Iterator[str]:
    """The value itself, its secret parts where it is a URL, and how URLs, HTML, JSON and Python write each."""
    import html
    import json
    from urllib.parse import quote, quote_plus

    for part in dict.fromkeys([value, value.strip(), *_parts(value)]):
        yield part
        yield from (quote(part), quote(part, safe=""), quote_plus(part))
        yield from (html.escape(part), html.escape(part, quote=False))
        # As markupsafe writes quotation marks.
        yield html.escape(part, quote=False).replace("'", "&#39;").replace('"', "&#34;")
        yield from (json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], repr(part)[1:-1])


def _parts(value: str) -> Iterator[str]:
    from urllib.parse import parse_qsl, unquote, urlsplit

    if "/" in value:
        yield value.rstrip("/")
    if "://" not in value:
        if "/" in value:
            yield os.path.normpath(value)
        return
    try:
        url = urlsplit(value)
        found = [url.password, *(text for _, text in parse_qsl(url.query))]
    except ValueError:
        return
    for text in found:
        if text and len(text) >= _ANYWHERE:
            yield from (text, unquote(text))
