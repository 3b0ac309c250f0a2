"""The stages inside a stage (`refresh`): they run in its process, with the context that any stage has."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from mmflow.flow.context import FlowContext
from mmflow.flow.plan import PlannedStage
from mmflow.flow.sources import Sources, no_data
from mmflow.identity.canonical import Json, key_of
from mmflow.plugin.component import ComponentError
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import Evaluator, Reporter, Source, Stage
from mmflow.plugin.targets import Place

if TYPE_CHECKING:
    from mmflow.spec import Spec


class StagesInside:
    """Runs the stages inside a stage (`mmflow.plugin.kinds.InnerStages`)."""

    def __init__(self, outer: FlowContext) -> None:
        self._outer = outer
        self._time = ""
        self._kept = outer.scratch / "kept"
        self.remarks: dict[str, list[str]] = {}
        """Those of each stage from the last time that it ran: what holds at the end."""

    def run(
        self, stage: str, output: Path, results: Mapping[str, Path], *, numbers: Mapping[Place, Json], time: str
    ) -> None:
        if time != self._time:
            shutil.rmtree(self._kept, ignore_errors=True)
            self._time = time
        with TemporaryDirectory(dir=self._outer.scratch) as scratch:
            context = InnerContext(self._outer, stage, output, Path(scratch), results, numbers, time, self._kept)
            context.inside = StagesInside(context)
            seed_stray_draws(context.scope.seed)
            work(context.scope.declaration, context)
            self.remarks[context.name.removeprefix(f"{self._outer.name}.")] = context.remarks

    def all_remarks(self) -> list[str]:
        """The remarks of the stages, each with the name of its stage."""
        return [f"{name}: {text}" for name, found in self.remarks.items() for text in found]

    def source(self, results: Mapping[str, Path]) -> Source:
        found = Sources(self._outer.spec, self._outer.upstream, results).of(self._outer.spec.scope(self._outer.stage))
        if found is None:
            raise no_data(self._outer.name)
        return found


class InnerContext(FlowContext):
    """The `StageContext` of a stage inside another.

    Of what it makes the run store holds answers of services and single results (`memo`), each of one time; encodings
    last as long as the time does, as the model is another the next time. It has no checkpoints: stopped, it begins
    again.
    """

    def __init__(
        self, outer: FlowContext, stage: str, output: Path, scratch: Path, results: Mapping[str, Path],
        numbers: Mapping[Place, Json], time: str, kept: Path,
    ) -> None:  # fmt: skip
        self._outer, self._results, self._kept = outer, results, kept
        scope = outer.spec.scope(stage)
        name = f"{outer.name}{stage.removeprefix(outer.stage).partition('@')[0]}"
        key = key_of({"around": outer.key, "inside": name.removeprefix(outer.name), "time": time})
        declaration = with_numbers(scope.declaration, numbers, name)
        super().__init__(
            PlannedStage(name, declaration, key, (), False, (), stage=stage),
            spec=outer.spec, keys=outer.keys, store=outer.store, output=output, scratch=scratch,
            report=_Within(outer.report), device=outer.device, workers=outer.workers, forced=outer.forced,
            offline=outer.offline,
        )  # fmt: skip
        self.scope = replace(self.scope, declaration=declaration)

    def upstream(self, stage: str) -> Path:
        return self._results[stage] if stage in self._results else self._outer.upstream(stage)

    def _sources_of(self, spec: Spec) -> Sources:
        return Sources(spec, self.upstream, self._results)

    def memo_files(self, identity: Mapping[str, Any], produce: Callable[[Path], None]) -> Path:
        folder = self._kept / key_of({"memo": identity})
        if not folder.exists():
            self._kept.mkdir(exist_ok=True)
            with TemporaryDirectory(dir=self._kept) as making:
                made = Path(making, "made")
                made.mkdir()
                produce(made)
                made.rename(folder)
        return folder

    def save_partial(self, directory: Path) -> None:
        del directory

    def load_partial(self) -> Path | None:
        return None


class _Within:
    """The `Reporter` of a stage inside another, whose progress and results are told by the stage around."""

    def __init__(self, outer: Reporter) -> None:
        self._outer = outer

    def progress(self, done: int, total: int, **metrics: float) -> None:
        del done, total, metrics

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        del step, numbers

    def table(self, key: str, rows: Sequence[Mapping[str, Json]]) -> None:
        del key, rows

    def markdown(self, key: str, text: str) -> None:
        del key, text

    def link(self, key: str, url: str, text: str | None = None) -> None:
        del key, url, text

    def note(self, text: str) -> None:
        self._outer.note(text)

    def should_stop(self) -> bool:
        return self._outer.should_stop()


def with_numbers(declaration: Stage, numbers: Mapping[Place, Json], stage: str) -> Stage:
    """A declaration with other numbers at some places; raises `ComponentError` for one that may not stand there."""
    for place, number in numbers.items():
        try:
            declaration = _with(declaration, place, number)
        except ValidationError as error:
            said = ".".join(map(str, place))
            why = error.errors(include_url=False)[0]["msg"]
            raise ComponentError(f"stage {stage}: `{said}` cannot be {number}: {why}", found=str(number)) from None
    return declaration


def _with(value: Any, place: Place, number: Json) -> Any:
    """`value` with another number at a place below it, validated as a spec's fields are."""
    if not place:
        single = isinstance(number, list) and len(number) == 1 and not isinstance(value, list | tuple)
        return number[0] if single and isinstance(number, list) else number
    first, *further = place
    if isinstance(value, BaseModel):
        fields = {info.alias or name: getattr(value, name) for name, info in type(value).model_fields.items()}
        return type(value).model_validate({**fields, str(first): _with(fields[str(first)], (*further,), number)})
    if isinstance(value, Mapping):
        return {**value, first: _with(value[first], (*further,), number)}
    return tuple(_with(item, (*further,), number) if i == first else item for i, item in enumerate(value))


def work(declaration: Stage, context: FlowContext) -> None:
    """Do the work of a stage, whose outputs are then in `context.output`."""
    if isinstance(declaration, Evaluator):
        from mmflow.evaluate.harness import run_evaluator

        run_evaluator(declaration, context)
    else:
        with inside(f"stage {context.name}", declaration):
            declaration.run(context)


def seed_stray_draws(seed: int) -> None:
    """Draws have addresses of their own; libraries that use global generators are at least repeatable."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
