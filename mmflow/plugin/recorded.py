"""The source `recorded`: the declared fields of data that are elsewhere, as a run or an exported model notes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from mmflow.plugin.kinds import Source
from mmflow.plugin.values import Json, RawValue, Sample, TensorType


def _read(raw: Json) -> Json:
    return json.loads(raw) if isinstance(raw, str) else raw


class Recorded(Source, name="recorded"):
    """The declared fields of data that are not at hand: it has no rows.

    An exported model names the data that it was trained on in this way, so that it can be loaded anywhere.
    """

    example: ClassVar[str] = "{use: recorded, types: {image: {modality: image, size: [32, 32, 3], dtype: uint8}}}"

    types: Annotated[dict[str, TensorType], BeforeValidator(_read, json_schema_input_type=str | dict[str, TensorType])]
    """As a mapping, or as its JSON: a text, where classes have thousands of names."""

    def fields(self) -> Mapping[str, TensorType]:
        return self.types

    def open(self) -> GivenReader:
        return GivenReader([])


class GivenReader:
    """A `Reader` of samples at hand; their ids are their numbers."""

    in_process = True

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def static(self) -> Mapping[str, RawValue]:
        return {}


def plain_types(types: Mapping[str, TensorType]) -> dict[str, Json]:
    """Declared types as plain data, each with what differs from the default."""
    return {
        name: {
            one.name: list(value) if isinstance(value, tuple) else value
            for one in fields(declared)
            if (value := getattr(declared, one.name)) != one.default
        }
        for name, declared in types.items()
    }


def recorded(types: Json) -> dict[str, Json]:
    """The entry of a spec that stands for data with such fields; `types` are as `plain_types` gives them."""
    # A dollar sign is two in the language.
    return {"use": Recorded.use, "types": json.dumps(types).replace("$", "$$")}
