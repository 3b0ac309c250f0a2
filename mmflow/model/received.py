"""The encodings that a stage will be given, held against their reader before a run: forms, scores, widths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeAlias

from torch import Tensor

from mmflow.model.graph import Graph, Output, face
from mmflow.model.rehearsal import problem_of, said_by
from mmflow.model.rows import pick
from mmflow.plugin.kinds import Evaluator, Score, Stage, StageScope
from mmflow.plugin.references import Encoded, Pooled, reference_fields
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.plugin.values import Argument, Encoding, Tokens
from mmflow.spec.references.forms import brought, form_of, misfit, needed_outputs
from mmflow.spec.text.problems import Problem

Outputs: TypeAlias = Callable[[Target, Mapping[str, str]], Encoding | None]
"""Gives outputs of an encoder, each under the name by which its reader finds it; None where they are not known."""


class Rehearsed(Protocol):
    """A graph that two rows without values have passed through."""

    @property
    def graph(self) -> Graph: ...
    def given(self, output: Output) -> Encoding | None:
        """The rows of one output; None where it could not be traced."""
        ...


def received(scope: StageScope, passes: Mapping[str | None, Rehearsed]) -> dict[Place, Encoding]:
    """The encodings behind a stage's `of`, as far as they are known; `passes` by the stage whose model has them."""
    needs = needed_outputs(scope, STAGE)
    found: dict[Place, Encoding] = {}
    types = reference_fields(type(scope.component(STAGE))).get("of", ())
    for place, target in scope.targets(STAGE).items() if {Encoded, Pooled} & set(types) else ():
        if place[0] == "of" and target.section == "encoders" and target.stage in passes:
            encoding = _received(passes[target.stage], target, brought(target, needs))
            if encoding is not None:
                found[place] = encoding
    return found


def outputs_of(passes: Mapping[str | None, Rehearsed], target: Target, outputs: Mapping[str, str]) -> Encoding | None:
    """Outputs of an encoder under the names by which their reader finds them; None where they are not known."""
    return _received(passes[target.stage], target, outputs) if target.stage in passes else None


def unlike(scope: StageScope, outputs: Outputs) -> bool:
    """Whether a stage's `of` leads to encodings of several widths, as far as these are known."""
    needs = needed_outputs(scope, STAGE)
    widths = set[int]()
    for place, target in scope.targets(STAGE).items():
        known = outputs(target, brought(target, needs)) if place[0] == "of" and target.section == "encoders" else None
        for value in known.outputs.values() if known is not None else ():
            inner = value.values if isinstance(value, Tokens) else value
            widths |= {int(inner.shape[-1])} if isinstance(inner, Tensor) and inner.ndim > 1 else set()
    return len(widths) > 1


def _received(one: Rehearsed, target: Target, outputs: Mapping[str, str]) -> Encoding | None:
    merged: dict[str, Argument] = {}
    axes, present = ("sample",), None
    for name, output in outputs.items():
        owner, inner = face(one.graph, target.owner, output)
        encoding = one.given((owner, inner)) if isinstance(owner, Owner) else None
        if encoding is None:
            return None
        encoding = encoding if target.index is None else pick(encoding, target)
        merged[name], axes, present = encoding.outputs[inner], encoding.axes, encoding.present
    return Encoding(merged, axes, present)


def form_problems(stage: Stage, scope: StageScope, found: Mapping[Place, Encoding]) -> Iterator[Problem]:
    """Outputs whose form only their values tell (a tap), which the stage cannot read."""
    needs = needed_outputs(scope, STAGE)
    for place, encoding in found.items():
        target = scope.targets(STAGE)[place]
        for need, output in brought(target, needs).items():
            form = form_of(encoding.outputs[need], len(encoding.axes) - 1)
            if (wanted := misfit(need, output, form)) is not None:
                path = ("stages", "", *map(str, place[:1]))
                found_form = f"`{target}`, {form} ({shown(encoding[need])} for two rows)"
                yield Problem(f"{stage.use} reads {wanted}", path, found=found_form)


def score_problems(
    stage: Stage,
    scope: StageScope,
    found: Mapping[Place, Encoding],
    untraced: list[str],
    errors: tuple[type[Exception], ...],
) -> Iterator[Problem]:
    """Scores in the stage's fields that cannot compare its encodings, and what the stage itself refuses of them."""
    targets = scope.targets(STAGE)
    places = [place for place in targets if place[0] == "of"]
    for place, score in scope.held(STAGE):
        if not isinstance(score, Score) or places[:1] != list(found)[:1]:
            continue
        first, *others = found
        for other in others:
            one, two = _rows(found[first]), _rows(found[other])
            try:
                built = getattr(score, "build", None)
                (score if built is None else built()).blocks(one, two)
            except errors as error:
                untraced.append(f"{stage.use} ({score.use}): {said_by(error)}")
            except Exception as error:  # a score of a plugin may raise anything
                sizes = " and ".join(f"{targets[at]} {_sizes(found[at])}" for at in (first, other))
                message = f"{stage.use} cannot compare {sizes} by {score.use}: {said_by(error)}"
                yield problem_of(("stages", "", *map(str, place[:1])), message, error)
                return
    if isinstance(stage, Evaluator) and len(found) == len(places) == len(stage.of):
        for field, message, hint in stage.refuses_encodings(*found.values()):
            yield Problem(message, ("stages", "", field), hint=hint)


def _rows(encoding: Encoding) -> Encoding:
    """Members of groups as rows, as evaluators compare them."""
    groups = len(encoding.axes) - 1
    return Encoding(encoding.map(lambda t: t.reshape(-1, *t.shape[1 + groups :])).outputs)


def _sizes(encoding: Encoding) -> str:
    return shown(next(iter(encoding.outputs.values())))


def shown(value: Argument) -> str:
    """The sizes of a value: `[2, 8]`."""
    if isinstance(value, Tokens):
        return f"{list(value.values.shape)} with mask"
    return str(list(value.shape)) if hasattr(value, "shape") else type(value).__name__
