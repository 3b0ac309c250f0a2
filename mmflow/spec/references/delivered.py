"""What an entry needs of the encoders that it reads: their outputs, and the forms of those that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmflow.plugin.component import Component, with_article
from mmflow.plugin.kinds import Encoder, Evaluator, Loss, Memory, Score
from mmflow.plugin.numbers import BatchValue
from mmflow.plugin.references import reference_fields
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.spec.components.classes import field_of
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.fitting import scores_that_need
from mmflow.spec.references.forms import (
    FORMS,
    TOKENS,
    VECTOR,
    brought,
    declared_form,
    is_sequence,
    misfit,
    needed_outputs,
)
from mmflow.spec.references.resolver import Resolver, as_written
from mmflow.spec.text.problems import Path

_MEASURED = ("vector", "logits", "series", "number", "unknown")
"""Modalities of fields that may be measured as they are."""


def check_needs(resolver: Resolver, entry: Entry, owner: Owner, made: Component) -> None:
    """Report the outputs that an entry or its score needs and that the encoders in `of` do not give."""
    readers: list[tuple[Path, Component]] = [((), made)] if made.needs else []
    readers += [(place, held) for place, held in resolver.held(owner) if isinstance(held, Score)]
    if isinstance(made, Evaluator) and not readers:
        readers = [((), made)]
    for path, reader in readers:
        needs = reader.needs or needed_outputs(resolver, owner)
        for place, target in resolver.targets(owner).items():
            if place[0] != "of" or target.section != "encoders" or target.output is not None:
                continue
            known, behind = resolver.outputs_of(target.owner), resolver.structure(target.owner)
            if known is None or behind is None:
                continue
            abilities = {*known, *behind.encoder.provides, *behind.encoder.taps()}
            absent = [need for need in needs if need not in abilities]
            if absent:
                problem = entry.problem(
                    f"{reader.kind} {reader.use} needs {' and '.join(absent)} of {target.name}",
                    path,
                    found=f"{behind.encoder.use}, which gives {', '.join(known)}",
                    hint=_who_gives(resolver, absent[0]),
                )
                resolver.report(entry, path, problem)
                break


def check_forms(resolver: Resolver, entry: Entry, made: Evaluator, targets: Mapping[Place, Target]) -> None:
    """Whether the outputs that an evaluator's inputs name can be read in the place of those that it needs."""
    needs = needed_outputs(resolver, STAGE)
    score = next((held for _, held in resolver.held(STAGE) if isinstance(held, Score)), None)
    reader = f"{made.use} (score {score.use})" if score is not None else made.use
    for place, target in targets.items():
        if place[0] == "of" and target.section in ("fields", "views"):
            _check_vectors(resolver, entry, place, target, reader, needs)
        if place[0] != "of" or target.section != "encoders" or target.output is None:
            continue
        (need, output), *_ = brought(target, needs).items()
        declared = resolver.type_of(target)
        form = declared_form(declared) if declared is not None else None
        if len(needs) > 1:
            message, hint = f"{reader} reads {' and '.join(needs)} of an encoder", f"write {target.name}"
        elif (wanted := misfit(need, output, form)) is not None:
            message, hint = f"{reader} reads {wanted}", _other_forms(resolver, target, wanted, form, score)
        else:
            continue
        found = f"`{made.of[int(place[-1])]}`, {form or 'one output'}"
        problem = entry.problem(message, as_written(entry, place), found=found, hint=hint)
        resolver.report(entry, place, problem)


def _check_vectors(
    resolver: Resolver, entry: Entry, place: Place, target: Target, reader: str, needs: Sequence[str]
) -> None:
    """Of the data, an evaluator measures vectors that are there already, each by itself."""
    declared = resolver.type_of(target)
    if declared is None:
        return
    if declared.modality in _MEASURED:
        form = TOKENS if is_sequence(declared) else VECTOR
        unlike = [need for need in needs if FORMS.get(need) != form]
        if unlike:
            wanted = FORMS.get(unlike[0], f"the output {unlike[0]}")
            found = f"`{target}`, a field of {declared.modality}" + (
                "" if form == VECTOR else " without one length for all rows"
            )
            problem = entry.problem(f"{reader} reads {wanted}", as_written(entry, place), found=found,
                                    hint="encode it first")  # fmt: skip
            resolver.report(entry, place, problem)
        return
    near = [n for n, t in (resolver.fields or {}).items() if t.modality == "vector"]
    encoders = [name for name in resolver.seen.entries["encoders"] if name != target.name]
    hint = f"encode it first; there are {', '.join((encoders + near)[:6])}" if encoders or near else "encode it first"
    found, expected = f"`{target.name}`, a field of {declared.modality}", "an encoder, or a field with vectors"
    resolver.report(
        entry, place, entry.problem("", as_written(entry, place), found=found, expected=expected, hint=hint)
    )


def _other_forms(resolver: Resolver, target: Target, wanted: str, form: str | None, score: Score | None) -> str | None:
    """References to the same encoder that give the form that is wanted, and scores that read the form that is there."""
    known = resolver.outputs_of(target.owner) if target.stage is None else None
    fitting = [name for name, declared in (known or {}).items() if declared_form(declared) == wanted]
    names = [target.name if name == "pooled" else f"{target.name}.{name}" for name in fitting]
    ways = [f"write {' or '.join(names[:4])}"] if names else []
    needs = [need for need, one in FORMS.items() if one == form]
    scores = [name for need in needs for name in scores_that_need(need)] if score is not None else []
    ways += [f"`score: {scores[0]}` reads {form}"] if scores else []
    return "; ".join(ways) or None


def _who_gives(resolver: Resolver, need: str) -> str | None:
    encoders = resolver.seen.entries["encoders"]
    names = [name for name in encoders if need in (resolver.outputs_of(Owner("encoders", name)) or ())]
    return f"{', '.join(names[:4])} {'gives' if len(names) == 1 else 'give'} it" if names else None


def check_inside(
    resolver: Resolver, entry: Entry, made: Encoder | Loss | Memory, targets: Mapping[Place, Target]
) -> bool:
    """Whether no component inside a node names values of a step: its owner alone is given some, and hands them on."""
    for place, target in targets.items():
        field = field_of(type(made), str(place[0])) or ""
        own = len(place) < 2 or field in reference_fields(type(made)) or place[-1] == "weights"
        if own or target.field or target.section in ("parts", "losses", "data"):
            continue
        if isinstance(getattr(made, field, None), BatchValue):
            continue
        message = f"a component inside {with_article(made.kind)} cannot be given `{target}`"
        hint = f"name it in a field of {made.use} itself, which hands it on"
        resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
        return False
    return True
