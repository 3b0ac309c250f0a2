"""Functions that the tokenizers share."""

from __future__ import annotations

from collections.abc import Mapping


def well_formed(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON can hold and no encoding can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def framed(ids: list[int], special: Mapping[str, int], length: int) -> list[int]:
    return [special["begin"], *ids[: max(0, length - 2)], special["end"]][:length]
