"""Messages: texts and images in an order of their own, with an instruction, as vision-language models read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import model_validator

from mmflow.plugin import Field, Modality, TensorType, Transform

_PLACE = re.compile(r"\{([^{}]*)\}")
_PARTS = ("image", "text")


class Message(Modality, name="message"):
    """Texts and images in order, with an instruction: what a chat template makes one prompt of."""

    form: ClassVar[str] = "{instruction: str, parts: [str or uint8 array [H, W, C], ...]}"
    role: ClassVar[Any] = "raw"
    ragged: ClassVar[bool] = True

    def check(self, value: Any, declared: TensorType) -> None:
        if not isinstance(value, Mapping) or not {"instruction", "parts"} <= value.keys():
            raise ValueError(f"{type(value).__name__}, not {self.form}")

    def absent(self, rows: int, declared: TensorType) -> list[None]:
        return [None] * rows

    def blank(self, declared: TensorType) -> Any:
        return message("", [""])

    def caption(self, value: Any, declared: TensorType) -> str:
        said = [part if isinstance(part, str) else "[image]" for part in value["parts"]]
        return " ".join(part for part in (value["instruction"], *said) if part)


class WriteMessage(Transform, name="message"):
    """Makes one message of the fields of a view, images and texts in order, for `transformers_message`.

    Adds `message`, which an encoder reads as `of: VIEW.message`. `text` says where each field stands
    (`"{image} Question: {question}"`); without one they follow one another as in `of`. A field that a row lacks is left
    out. `instruction` is the system's part of the chat: each side of a comparison may have its own.
    """

    adds: ClassVar[Mapping[str, TensorType]] = {"message": TensorType("message")}
    example: ClassVar[str] = (
        'views: {asked: {of: [image, question], apply: [{use: message, instruction: "Find the answer"}]}}'
    )

    instruction: str = Field("", description="what the model is asked to do with the message")
    text: str = Field("", description="the message with a place in braces for each field; empty: one after the other")

    @model_validator(mode="after")
    def _whole_places(self) -> Self:
        if "{}" in self.text or any(brace in _PLACE.sub("", self.text) for brace in "{}"):
            raise ValueError("a place in `text` is the name of a field in braces: {image}")
        return self

    def added(self, *fields: TensorType) -> Mapping[str, TensorType]:
        for field in fields:
            if field.modality not in _PARTS or len(field.axes) > 1:
                raise ValueError(f"message takes single images and texts, got {field.modality} {list(field.axes[1:])}")
        return super().added(*fields)

    def apply(self, value: Any, generator: Any) -> Any:
        places = _PLACE.findall(self.text)
        if self.text and isinstance(value, Mapping) and (lost := [name for name in value if name not in places]):
            raise ValueError(f"`text` has no place for {lost[0]}: {{{lost[0]}}}")
        named = value if isinstance(value, Mapping) else {"": value}
        parts = list(self._placed(named)) if self.text else list(named.values())
        return value, {"message": message(self.instruction, parts)}

    def _placed(self, named: Mapping[str, Any]) -> Iterator[Any]:
        """The parts of `text` with values in their places."""
        for number, part in enumerate(_PLACE.split(self.text)):
            if number % 2 == 0:
                yield part
            elif part in named:
                yield named[part]
            elif list(named) == [""]:
                yield named[""]


def message(instruction: str, parts: Sequence[Any]) -> dict[str, Any]:
    """A value of the modality: neighboring texts become one, empty ones are left out."""
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif not isinstance(part, str) or part:
            joined.append(part)
    return {"instruction": instruction, "parts": joined}
