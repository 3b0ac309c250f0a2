"""The context of a running stage: its declaration, a directory to write in, and results of earlier stages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmflow.flow.services import RecordedService, service_at
from mmflow.flow.sources import Sources
from mmflow.flow.store import NotStored, RunStore, StoreError
from mmflow.flow.values import StageValues
from mmflow.identity.canonical import Json, key_of
from mmflow.identity.keys import Keys
from mmflow.plugin.kinds import InnerStages, Reporter, StageContext

if TYPE_CHECKING:
    from mmflow.flow.plan import PlannedStage
    from mmflow.spec import Scope, Spec, Target

_CHECKPOINT = "checkpoint"
_log = logging.getLogger("mmflow.store")


class FlowContext(StageValues):
    """The `StageContext` of one stage on a run store."""

    inside: InnerStages
    """The stages inside this one, which run in its process; given by the one who runs it."""

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

    def upstream(self, stage: str) -> Path:
        """The local directory with the outputs of an earlier stage; not to be written to."""
        if stage not in self._fetched:
            self._fetched[stage] = self.store.fetch(self.keys.stage(stage))
        return self._fetched[stage]

    def _context(self) -> StageContext:
        return self

    def _sources_of(self, spec: Spec) -> Sources:
        return Sources(spec, self.upstream)

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
