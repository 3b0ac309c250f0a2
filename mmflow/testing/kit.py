"""Which checks a component gets: those of every declaration, and those of its kind on a case of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mmflow.plugin import Application, Component, Encoder, Evaluator, Loss, Memory, Score, Source, Stage, Transform
from mmflow.testing.case import Case, Untestable, example_of, loss_case
from mmflow.testing.checks import data, declarations, encoders, evaluators, losses, memories, scores, stages

ModelCase: TypeAlias = "Case | encoders.EncoderCase | scores.ScoreCase | memories.MemoryCase"
AnyCase: TypeAlias = "ModelCase | data.DataCase | evaluators.EvaluatorCase | stages.StageCase"


@dataclass(frozen=True)
class Check:
    """One promise of one component. Calling it raises a `Fault` where the promise is not kept."""

    name: str
    """The component and the promise: `loss/infonce: micro_batches`."""
    says: str
    """The promise in a sentence."""
    run: Callable[[], None]

    def __call__(self) -> None:
        self.run()


@dataclass(frozen=True)
class Skipped:
    """A component whose kind has checks that need more than its declaration: what its author has to give."""

    name: str
    reason: str


def checks_of(names: Iterable[str], cases: Iterable[AnyCase] = ()) -> Iterator[Check | Skipped]:
    """All checks of the components `names` (`loss/infonce`).

    `cases` give inputs, for components for which the kit cannot make them, or further ones: one component may have
    several.
    """
    given: dict[str, list[AnyCase]] = {}
    for case in cases:
        given.setdefault(f"{case.component.kind}/{case.component.use}", []).append(case)
    for name in dict.fromkeys((*names, *given)):
        kind, _, use = name.partition("/")
        declared = declarations.DeclarationCase(kind, use)
        yield from (_check(name, declared, each) for each in declarations.CHECKS)
        try:
            own = given.get(name) or [case for case in [_made(declared.made)] if case is not None]
        except Untestable as reason:
            yield Skipped(name, str(reason))
            continue
        for number, case in enumerate(own):
            label = name if len(own) == 1 else f"{name} {number}"
            yield from (_check(label, case, each) for each in _checks_for(case))


def _check(label: str, case: object, check: Callable[..., None]) -> Check:
    says = (check.__doc__ or "").strip().partition("\n")[0]
    return Check(f"{label}: {check.__name__.removeprefix('check_')}", says, lambda: check(case))


def _made(made: type[Component]) -> AnyCase | None:
    """The case that the kit makes by itself; None for kinds that have no checks beside those of the declaration."""
    if issubclass(made, Loss):
        return loss_case(made)
    if issubclass(made, Application):
        return None
    if issubclass(made, Encoder):
        return encoders.encoder_case(example_of(made))
    if issubclass(made, Score):
        score = example_of(made)
        return scores.ScoreCase(score) if isinstance(score, Score) else None
    if issubclass(made, Memory):
        memory = example_of(made)
        return memories.MemoryCase(memory) if isinstance(memory, Memory) else None
    if issubclass(made, Source):
        return data.source_case(made)
    if issubclass(made, Transform):
        return data.transform_case(made)
    if issubclass(made, Evaluator):
        return evaluators.evaluator_case(made)
    if issubclass(made, Stage):
        raise Untestable(f"stage/{made.use}: give a StageCase with a spec that has the stage")
    if made.kind in ("sampler", "tokenizer"):
        return data.DataCase(example_of(made))
    return None


def _checks_for(case: AnyCase) -> tuple[Callable[..., None], ...]:
    if isinstance(case, Case):
        return losses.CHECKS
    if isinstance(case, encoders.EncoderCase):
        return encoders.CHECKS
    if isinstance(case, scores.ScoreCase):
        return scores.CHECKS
    if isinstance(case, memories.MemoryCase):
        return memories.CHECKS
    if isinstance(case, evaluators.EvaluatorCase):
        return evaluators.CHECKS
    if isinstance(case, stages.StageCase):
        return stages.CHECKS
    by_kind = {
        "source": data.SOURCE_CHECKS,
        "transform": data.TRANSFORM_CHECKS,
        "sampler": data.SAMPLER_CHECKS,
        "tokenizer": data.TOKENIZER_CHECKS,
    }
    return by_kind[case.component.kind]
