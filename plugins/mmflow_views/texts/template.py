"""Texts in a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import Field, TensorType
from mmflow_views.texts.base import TextTransform


class Template(TextTransform, name="template"):
    """Puts the text into one of `texts` at `{}`, the first of them in evaluation. Adds `template`: the number of the
    template."""

    adds: ClassVar[Mapping[str, TensorType]] = {"template": TensorType("label", dtype="int64")}
    example: ClassVar[str] = '{use: template, texts: ["an image of {}", "{}"]}'

    texts: tuple[str, ...] = Field(min_length=1)

    @field_validator("texts")
    @classmethod
    def _with_place(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if text.count("{}") != 1:
                raise ValueError(f"{text!r} must hold {{}} once")
        return texts

    def change(self, text: str, generator: Any) -> tuple[str, Any]:
        place = 0 if generator is None else int(generator.integers(len(self.texts)))
        return self.texts[place].replace("{}", text), place
