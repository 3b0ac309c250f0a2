"""The context of a running stage: its declaration, a directory to write in, and results of earlier stages."""

from __future__ import annotations

import logging
import os
import platform
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.artifacts import AboutStage, Environment, StageRecord
from mmflow.data.blanks import made_by_stages
from mmflow.flow.services import RecordedService, service_at
from mmflow.flow.sources import Sources
from mmflow.flow.store import NotStored, RunStore, StoreError
from mmflow.flow.values import StageValues
from mmflow.identity.canonical import Json, key_of
from mmflow.identity.keys import Keys
from mmflow.plugin.component import ComponentError
from mmflow.plugin.failures import inside
from mmflow.plugin.kinds import Evaluator, Reporter, Stage, StageContext

if TYPE_CHECKING:
    from mmflow.flow.inside import StagesInside
    from mmflow.flow.plan import PlannedStage
    from mmflow.spec import Scope, Spec, Target

_SHOWN_VERSIONS = ("mmflow-kit", "torch", "torchvision", "triton", "numpy", "scikit-learn", "prefect", "pydantic")
_CHECKPOINT = "checkpoint"
_log = logging.getLogger("mmflow.store")


class FlowContext(StageValues):
    """The `StageContext` of one stage on a run store."""

    def __init__(
        self,
        stage: PlannedStage,
        *,
        spec: Spec,
        keys: Keys,
        store: RunStore,
        output: Path,
        scratch: Path,
        report: Reporter,
        device: str,
        workers: int,
        forced: bool = False,
        offline: bool = False,
    ) -> None:
        super().__init__(self._sources_of(spec))
        self.name = stage.name
        self.key = stage.key
        self.spec = spec
        self.stage = stage.stage
        self.output, self.scratch = output, scratch
        self.report = report
        self.device = device
        self.workers = workers
        self.keys = keys
        self.store = store
        self._has_checkpoint = False
        self.forced, self._made = forced, set[str]()
        self.remarks: list[str] = []
        self.offline = offline
        self._services: dict[str, RecordedService] = {}
        self._fetched: dict[str, Path] = {}
        declared = spec.scope(stage.stage)
        self.scope: Scope = replace(declared, source=self._sources.of(declared))

    def remark(self, text: str) -> None:
        """Warn about the stage's result; each remark once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def all_remarks(self) -> list[str]:
        """The remarks of the stage, and of those inside it."""
        inside = self.inside.remarks.items() if "inside" in self.__dict__ else ()
        return [*self.remarks, *(f"{name}: {text}" for name, found in inside for text in found)]

    def upstream(self, stage: str) -> Path:
        """The local directory with the outputs of an earlier stage; not to be written to."""
        if stage not in self._fetched:
            self._fetched[stage] = self.store.fetch(self.keys.stage(stage))
        return self._fetched[stage]

    def _context(self) -> StageContext:
        return self

    def _sources_of(self, spec: Spec) -> Sources:
        return Sources(spec, self.upstream)

    @cached_property
    def inside(self) -> StagesInside:
        """The stages inside this one, which run in its process."""
        from mmflow.flow.inside import StagesInside

        return StagesInside(self)

    def service(self, *place: str | int) -> RecordedService:
        """The service in a field of the stage, whose answers are recorded in the run store and replayed."""
        service, name = service_at(self.scope, place)
        if name not in self._services:
            self._services[name] = RecordedService(
                service, name, self.keys.service(service), store=self.store, report=self.report,
                offline=self.offline,
            )  # fmt: skip
        return self._services[name]

    def memo(self, request: Mapping[str, Json], produce: Callable[[], Json]) -> Json:
        """The value recorded for `request` of this very stage; that of `produce()`, recorded now, where there is none.

        A forced stage makes each again, once.
        """
        whole = {"stage": self.key, "request": request}
        key = key_of(whole)
        again = self.forced and key not in self._made
        self._made.add(key)
        return self.store.memo(whole, produce, again=again)

    def memo_files(self, identity: Mapping[str, Any], produce: Callable[[Path], None]) -> Path:
        """The directory stored under `identity`; made by `produce(directory)` where it is not there, or damaged.

        A forced stage makes each again, once.
        """
        key = key_of({"memo": identity})
        try:
            if not self.forced or key in self._made:
                return self.store.fetch(key)
        except NotStored:
            pass
        with self.store.scratch() as folder:
            produce(folder)
            self.store.publish(key, folder, {"memo_of": self.name}, move=True)
            self._made.add(key)
        return self.store.fetch(key)

    def encoder_identity(self, target: Target, data: Target | None = None) -> Mapping[str, Any]:
        """The identity of one encoder's encodings over the rows of `data` (None: the stage's own), for `memo`."""
        return self.keys.encoding(self.stage, target, data)

    def save_partial(self, directory: Path) -> None:
        """Store a checkpoint of this unfinished stage. Where that fails and an older one is there, it is a warning."""
        try:
            self.store.save_partial(self.key, _CHECKPOINT, directory)
        except StoreError as error:
            if not self._has_checkpoint:
                raise
            _log.warning("%s: %s; the one before is kept, and the stage goes on", self.name, error)
        else:
            self._has_checkpoint = True

    def load_partial(self) -> Path | None:
        """The newest checkpoint of an earlier, unfinished try at this very stage."""
        found = self.store.load_partial(self.key, _CHECKPOINT)
        self._has_checkpoint = found is not None
        return found


def run_stage(
    stage: PlannedStage,
    *,
    spec: Spec,
    keys: Keys,
    store: RunStore,
    report: Reporter,
    device: str,
    workers: int,
    forced: bool = False,
    offline: bool = False,
) -> None:
    """Run one stage and publish its outputs under its key, all or nothing."""
    started, began = datetime.now(UTC), time.monotonic()
    meta = {"stage": stage.stage, "use": stage.declaration.use}
    if store.publish_kept(stage.key, meta):
        report.note("stored what an earlier run had to keep on this machine")
        store.drop_partial(stage.key)
        return
    seed_stray_draws(keys.seed(stage.stage) or 0)
    with store.scratch() as folder:
        output, scratch = folder / "output", folder / "scratch"
        output.mkdir()
        scratch.mkdir()
        context = FlowContext(
            stage, spec=spec, keys=keys, store=store, output=output, scratch=scratch, report=report, device=device,
            workers=workers, forced=forced, offline=offline,
        )  # fmt: skip
        if made_by_stages(context.scope):
            _rehearse(spec, context)
        work(stage.declaration, context)
        about: AboutStage = {
            "stage": stage.stage,
            "use": stage.declaration.use,
            "key": stage.key,
            "seconds": round(time.monotonic() - began, 3),
            "started": started.isoformat(),
            "environment": environment(device),
            "remarks": context.all_remarks(),
        }
        StageRecord(output).write(about)
        if about["remarks"]:
            report.markdown("remarks", "\n".join(f"- {remark}" for remark in about["remarks"]))
        store.publish_or_keep(stage.key, output, meta)
    store.drop_partial(stage.key)


def work(declaration: Stage, context: FlowContext) -> None:
    """Do the work of a stage, whose outputs are then in `context.output`."""
    if isinstance(declaration, Evaluator):
        from mmflow.evaluate.harness import run_evaluator

        run_evaluator(declaration, context)
    else:
        with inside(f"stage {context.name}", declaration):
            declaration.run(context)


def _rehearse(spec: Spec, context: FlowContext) -> None:
    """Do with what other stages have made what was done with blank values before the first stage."""
    from mmflow.model.shapes import check_shapes
    from mmflow.spec import SpecError

    if problems := check_shapes(spec, [context.name], context.scope).problems:
        raise SpecError(problems)


def choose_device(wanted: str) -> str:
    """`auto`: the first GPU, else the CPU; otherwise the device of that name, or `ComponentError` if it is not here."""
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ComponentError(f"there is no device {wanted!r}", expected="auto, cpu, cuda, cuda:NUMBER or mps") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ComponentError(
            f"device {wanted!r} cannot be used: {first}", hint="`auto` takes the best one of this machine"
        ) from None
    return str(device)


def environment(device: str) -> Environment:
    """Where a stage ran, for its record: versions, the device, the number of cores."""
    versions: dict[str, str] = {}
    for name in _SHOWN_VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
        "device_name": _device_name(device),
        "versions": versions,
    }


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return platform.processor() or platform.machine()
    import torch

    return torch.cuda.get_device_name(device)


def seed_stray_draws(seed: int) -> None:
    """Draws have addresses of their own; libraries that use global generators are at least repeatable."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
