"""The stage `ask`: a question about each row, put to a service."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import isnan
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mmflow.plugin import (
    STAGE,
    Answering,
    ComponentError,
    DataStage,
    RawField,
    RawValue,
    Refs,
    Service,
    StageContext,
    StageInputs,
    TensorType,
    outside_identity,
)
from mmflow_services.scripted import Scripted

_PLACE = re.compile(r"\{([^{}]*)\}")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

Answer = str | float | int | None


class Ask(DataStage, name="ask"):
    """Ask a service about each row of `data`: `prompt` with the values of `of` at their names in braces.

    Gives the column `answer`, a value by id: the text (`read: text`), the first number in it (`read: number`), or the
    place among `choices` of the only one that it names, as a whole word. With `draws` above 1 the value is a list, and
    each request says its number (`draw`). A row without a value in one of `of`, and an answer that cannot be read, are
    absent. Labels stand in the prompt by the names of their classes. Answers are recorded one by one.
    """

    gives: ClassVar[Mapping[str, str]] = {"answer": "Column"}
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("text", "label", "number", "id")}
    example: ClassVar[str] = (
        "{use: ask, data: train, of: [caption], service: parts.writer, prompt: 'Name the object: {caption}'}"
    )

    of: Refs[RawField] = Field(min_length=1)
    service: Service
    prompt: str = Field(min_length=1, description="with a place in braces for each of `of`; {{ and }} are braces")
    system: str | None = None
    read: Literal["text", "number"] = "text"
    choices: tuple[str, ...] = ()
    draws: int = Field(1, ge=1, le=1000, description="answers a row")
    at_once: int = outside_identity(4, ge=1, le=64, description="requests under way at one time")

    @field_validator("choices")
    @classmethod
    def _apart(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        if choices and (len(choices) < 2 or len({choice.casefold() for choice in choices}) < len(choices)):
            raise ValueError("not two or more words, all different")
        return choices

    @model_validator(mode="after")
    def _places(self) -> Ask:
        names, known = list(_places_in(self.prompt)), [str(reference) for reference in self.of]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"the prompt has {{{unknown[0]}}}, and `of` names {', '.join(known)}")
        if unused := [name for name in known if name not in names]:
            raise ValueError(f"the prompt has no place {{{unused[0]}}} for `{unused[0]}`")
        if self.choices and self.read != "text":
            raise ValueError("`choices` are read from the text: leave out `read`")
        fixed = self.service.fixed() if isinstance(self.service, Scripted) else ()
        if self.choices and fixed and all(self._read(text) is None for text in fixed):
            said = ", ".join(map(repr, dict.fromkeys(fixed)))
            raise ValueError(f"no answer of the service names one of the choices {', '.join(self.choices)}: {said}")
        return self

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        for place, reference in enumerate(self.of):
            axes = given.of("of", place).axes[1:]
            if axes:
                raise ComponentError(
                    f"`{reference}` is a group of the axis {axes[0]}", hint=f"name one member: {reference}.0"
                )
        answer = TensorType("number" if self.read == "number" else "text")
        if self.choices:
            answer = TensorType("label", dtype="int64", names=self.choices)
        several = {"axes": ("sample", "draw"), "groups": (self.draws,)} if self.draws > 1 else {}
        return {"answer": answer.with_(**several)}

    def run(self, context: StageContext) -> None:
        service = context.service("service")
        targets, rows = context.scope.targets(STAGE), context.rows("of")
        columns = {
            str(reference): (context.scope.type_of(targets["of", place]), rows["of", place])
            for place, reference in enumerate(self.of)
        }
        texts = [
            self._text({name: _said(column[row], declared) for name, (declared, column) in columns.items()})
            for row in range(len(rows.ids))
        ]
        answers = self._answers(service, texts, context)
        unread = sum(text is not None and None in answer for text, answer in zip(texts, answers, strict=True))
        if unread:
            context.remark(f"{unread} of {len(texts)} rows have an answer that cannot be read")
        values = [None if None in answer else answer if self.draws > 1 else answer[0] for answer in answers]
        context.write_column("answer", rows.ids, values)

    def _text(self, values: Mapping[str, str | None]) -> str | None:
        """The prompt of a row; None where a value is absent."""
        if any(value is None for value in values.values()):
            return None
        return _filled(self.prompt, values)

    def _answers(self, service: Answering, texts: list[str | None], context: StageContext) -> list[list[Answer]]:
        """The answers to each prompt in order, `draws` of them; one None where there is no prompt."""
        pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="mmflow-ask")
        try:
            asked = [
                None if text is None else [pool.submit(self._ask, service, text, draw) for draw in range(self.draws)]
                for text in texts
            ]
            answers: list[list[Answer]] = []
            for futures in asked:
                answers.append([None] if futures is None else [future.result() for future in futures])
                context.report.progress(len(answers), len(texts))
            return answers
        finally:
            # Those under way are recorded; nobody waits for them where the stage has failed or is stopped.
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, service: Answering, text: str, draw: int) -> Answer:
        request: dict[str, str | int] = {"prompt": text}
        request |= {} if self.system is None else {"system": self.system}
        request |= {} if self.draws == 1 else {"draw": draw}
        answer = service.ask(request).get("text")
        if not isinstance(answer, str):
            raise ComponentError("the service gave no text", hint="`ask` needs a service that answers `text`")
        return self._read(answer)

    def _read(self, answer: str) -> Answer:
        if self.choices:
            named = [n for n, choice in enumerate(self.choices) if _names(answer, choice)]
            return named[0] if len(named) == 1 else None
        if self.read == "number":
            found = _NUMBER.search(answer)
            return None if found is None else float(found.group())
        return answer


def _names(answer: str, choice: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", answer, re.IGNORECASE) is not None


def _places_in(prompt: str) -> Iterator[str]:
    yield from dict.fromkeys(_PLACE.findall(prompt.replace("{{", "").replace("}}", "")))


def _filled(prompt: str, values: Mapping[str, str | None]) -> str:
    """The prompt with its places filled in; texts of the data are never read as places."""
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\})", prompt)
    literal = {"{{": "{", "}}": "}"}
    return "".join(
        literal[part] if part in literal else str(values[part[1:-1]]) if _PLACE.fullmatch(part) else part
        for part in parts
    )


def _said(value: RawValue, declared: TensorType) -> str | None:
    """One value of a column as text; None where it is absent."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    # The absent among numbers: -1 of labels, NaN of others.
    number = value.item()
    if declared.modality == "label":
        return None if number < 0 else declared.names[number] if number < len(declared.names) else str(number)
    return None if isnan(number) else f"{number:.6g}"
