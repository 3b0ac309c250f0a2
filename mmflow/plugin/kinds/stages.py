"""Kinds that do the work of a run and follow it: stages, evaluators, services, trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from mmflow.plugin.component import Component, outside_identity
from mmflow.plugin.kinds.data import Source
from mmflow.plugin.references import Data, Encoded, Model, Ref, Refs
from mmflow.plugin.values import EvaluationResult


class Reporter(Protocol):
    """What a stage tells the world while it works; no call raises, blocks for long or changes a result."""

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """`done` of `total` units of work (steps, batches), with current values to show beside."""
        ...

    def table(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A small table, such as metrics; rows have equal keys."""
        ...

    def markdown(self, key: str, text: str) -> None:
        """A text in Markdown."""
        ...

    def link(self, key: str, url: str, text: str | None = None) -> None:
        """A path or URL worth opening, such as the report."""
        ...

    def should_stop(self) -> bool:
        """Whether to stop; asked between steps. A stage that is to stop saves its checkpoint, raises `StageStopped`."""
        ...


class StageStopped(Exception):
    """Raised by a stage that was asked to stop, after it has saved what it wants to go on from."""


class StageContext(Protocol):
    """What a running stage gets from the flow."""

    name: str
    spec: Any
    """The whole `mmflow.spec.Spec`."""
    scope: Any
    """The stage's `mmflow.spec.Scope`: its declaration, nodes, data and resolved references."""
    output: Path
    """A local directory; what is written there is published whole when `run` returns."""
    report: Reporter
    device: str
    workers: int

    def upstream(self, stage: str) -> Path:
        """The local directory with the outputs of a stage that this one reads."""
        ...

    def memo(self, identity: Mapping[str, Any], produce: Callable[[Path], None]) -> Path:
        """The directory stored under `identity`; made by `produce(directory)` where it is not there."""
        ...

    def encoder_identity(self, target: Any, data: str | None = None) -> Mapping[str, Any]:
        """What the encodings of one encoder depend on, data included (the entry `data`; the stage's own where
        None), for `memo`."""
        ...

    def save_partial(self, directory: Path) -> None:
        """Store the files of `directory` as a checkpoint of this stage, to go on from where it is stopped or killed."""
        ...

    def load_partial(self) -> Path | None:
        """The newest checkpoint of an earlier, unfinished try at this very stage."""
        ...


class Stage(Component, kind="stage"):
    """A node of the plan: a plain function of its declaration and inputs. `outputs` maps names to types
    (`Model`, `Data`, `Column`, `Static`, `Files`, `Metrics`); the first is the main one."""

    gives: ClassVar[Mapping[str, str]] = {}

    def given(self) -> Mapping[str, str]:
        """The outputs of this declaration, where its fields name them."""
        return self.gives

    def refuses(self, source: Source) -> Iterator[tuple[str, str, str]]:
        """Why the stage cannot read its data: the field of the stage at fault, the reason, and the fix."""
        return iter(())

    def run(self, context: StageContext) -> None:
        """Write the outputs under `context.output`."""
        raise NotImplementedError


class Evaluator(Stage):
    """A stage that measures. Write `evaluate` with `of` in order, each an `Encoding` over all rows of `data`,
    and other fields by name (references to fields as tensors or lists, `score` built); on request `ids`
    (list of str) and `model` (an object with `encode`, to encode further values). Returns `EvaluationResult`.
    The flow embeds the data, or finds the encodings in the store, and calls it."""

    method: ClassVar[str] = "evaluate"
    gives: ClassVar[Mapping[str, str]] = {"metrics": "Metrics"}

    data: Ref[Data]
    of: Refs[Encoded] = ()
    model: Ref[Model] | None = None
    batch_size: int = outside_identity(256, ge=1)

    def evaluate(self, *args: Any, **kwargs: Any) -> EvaluationResult:
        raise NotImplementedError


class Service(Component, kind="service"):
    """Something outside that answers (a language model, a judge): `ask(request) -> response`."""

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        raise NotImplementedError


class Tracker(Component, kind="tracker"):
    """Receives logged metrics (an experiment tracker). It observes and is no part of any key."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        raise NotImplementedError
