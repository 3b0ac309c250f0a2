"""Plain data as one text and one hash: equal data, equal key."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from mmflow.plugin.component import Shared
from mmflow.plugin.references import Ref, Written
from mmflow.plugin.values import Json


def key_of(mapping: Mapping[str, Json]) -> str:
    """sha256 (64 hexadecimal digits) of `mapping` as canonical JSON: sorted keys, no spaces, UTF-8.

    Raises `TypeError` for values that JSON cannot hold exactly: other types, keys that are not strings, NaN and
    infinities.
    """
    text = json.dumps(plain(mapping, ""), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def plain(value: Any, path: str) -> Any:
    """`value` as JSON gives it back; raises `TypeError`, with the path of the value, where JSON cannot hold it."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path or 'the mapping'} has the key {key!r}, which is not a string")
        return {str(key): plain(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{path} is {value}, which JSON cannot hold")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}, which JSON cannot hold")


def exact(value: Written) -> Json:
    """`value` as JSON holds it exactly; infinities and NaN, which it cannot hold, by name."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, (Ref, Shared)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): exact(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(v) for v in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return exact(to_jsonable_python(value))
