"""Answers by rules, in place of a language model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from mmflow.plugin import ComponentError, Field, Service, by_content, text_of
from mmflow_services.chat import last_text

Answer = str | tuple[str, ...] | dict[str, Any]
"""A text, one text a draw (the request's number `draw`, from 0), or a whole response."""


class Rule(BaseModel):
    """The answer to a prompt that is `prompt`, or in which the regular expression `when` is found.

    In a text `\\1` and `\\g<name>` stand for the groups of `when`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str | None = None
    when: str | None = None
    answer: Answer

    @field_validator("when")
    @classmethod
    def _pattern(cls, when: str | None) -> str | None:
        try:
            re.compile(when or "")
        except re.error as error:
            raise ValueError(f"{when!r} is no regular expression: {error}") from None
        return when

    @model_validator(mode="after")
    def _one(self) -> Rule:
        if (self.prompt is None) == (self.when is None):
            raise ValueError("give either `prompt` or `when`")
        return self

    def answered(self, text: str, draw: int) -> dict[str, Any] | None:
        """The response to a prompt; None where the rule does not fit it."""
        found = re.search(self.when, text) if self.when is not None else None
        if found is None and self.prompt != text:
            return None
        if isinstance(self.answer, dict):
            return self.answer
        answer = self.answer if isinstance(self.answer, str) else self.answer[draw % len(self.answer)]
        return {"text": found.expand(answer) if found is not None else answer}


class Scripted(Service, name="scripted"):
    """Answers by the first rule that fits the prompt: those of the spec, then those of a file.

    The file has one rule a line, as JSON: `{"prompt": "...", "answer": "..."}`. Stands in for a language model in tests
    and rehearsals, and replays answers that were collected elsewhere.
    """

    example: ClassVar[str] = "{use: service/scripted, rules: [{when: 'color of the (\\w+)', answer: 'the \\1 is red'}]}"

    rules: tuple[Rule, ...] = ()
    file: str | None = by_content(None, description="further rules, one a line as JSON (any fsspec URL)")
    otherwise: str | None = Field(None, description="the answer where no rule fits")

    @model_validator(mode="after")
    def _anything(self) -> Scripted:
        if not self.rules and self.file is None and self.otherwise is None:
            raise ValueError("it has no answer at all: write `rules`, `file` or `otherwise`")
        return self

    def fixed(self) -> tuple[str, ...]:
        """The texts that it may answer, where all are known before anything is asked; else none."""
        texts = [] if self.otherwise is None else [self.otherwise]
        for rule in self.rules:
            if isinstance(rule.answer, dict):
                return ()
            texts += [rule.answer] if isinstance(rule.answer, str) else rule.answer
        return () if self.file is not None or any("\\" in text for text in texts) else tuple(texts)

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        text, draw = last_text(request), int(request.get("draw", 0))
        for rule in self._all_rules():
            if (answer := rule.answered(text, draw)) is not None:
                return answer
        if self.otherwise is None:
            raise ComponentError(f"no rule fits the prompt {text!r}", hint="add a rule, or `otherwise`")
        return {"text": self.otherwise}

    def _all_rules(self) -> Iterator[Rule]:
        yield from self.rules
        if self.file is not None:
            from fsspec.core import url_to_fs

            fs, path = url_to_fs(self.file)
            # The identity of the file's content, so that an edited file is read again.
            yield from _rules_in(self.file, fs.ukey(path))


@lru_cache(maxsize=8)
def _rules_in(url: str, version: str) -> tuple[Rule, ...]:
    try:
        lines = text_of(url).split("\n")
    except (OSError, ValueError) as error:
        raise ComponentError(f"the rules {url} cannot be read: {error}") from error
    return tuple(_rule(line, f"{url}:{number}") for number, line in enumerate(lines, 1) if line.strip())


def _rule(line: str, place: str) -> Rule:
    try:
        return Rule.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise ComponentError(f"{place} is no rule: {said}", expected='{"prompt": ..., "answer": ...}') from None
    except (ValueError, RecursionError) as error:
        raise ComponentError(f"{place} is no JSON: {error}", expected='{"prompt": ..., "answer": ...}') from None
