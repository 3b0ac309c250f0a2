"""Plain scalars by the core schema of YAML 1.2 (section 10.3): `on`, `yes` and dates are text, `1e-3` is a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from mmflow.spec.text.document import Scalar

_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final[Mapping[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def core_scalar(text: str) -> Scalar:
    """The value of a plain scalar under the core schema of YAML 1.2; ValueError for a number that no float holds."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > 400:
            raise ValueError("a whole number of more than 400 digits")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError(
                f"the number {text if len(text) <= 40 else text[:40] + '...'} is larger than a float can be"
            )
        return value
    infinite = _INFINITE.fullmatch(text)
    if infinite:
        return math.nan if infinite.group(1) is None else float(infinite.group(1) + "inf")
    return text
