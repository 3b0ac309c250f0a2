"""Plugins that watch a run: calls their lifecycle hooks, which cannot change a result; a failing one stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mmflow.flow.jobs import StageJob, Watcher
from mmflow.identity.canonical import Json
from mmflow.plugin.registry import registry


class Observers(Watcher):
    """Calls `mmflow_stage_started`, `mmflow_step_done` and `mmflow_stage_finished` of every installed plugin.

    A hook that raises is reported once, to `notify`, and that plugin is not called again in this run.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._run = ""
        self._silenced: set[str] = set()

    def opened(self, run_id: str, run_name: str, jobs: Sequence[StageJob]) -> None:
        self._run = run_id

    def progress(self, name: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        self._call("mmflow_step_done", stage=name, step=done, metrics=metrics)

    def stage_started(self, stage: str, key: str) -> None:
        self._call("mmflow_stage_started", stage=stage, key=key)

    def stage_finished(self, stage: str, key: str, result: Mapping[str, Json]) -> None:
        self._call("mmflow_stage_finished", stage=stage, key=key, result=result)

    def _call(self, hook: str, **arguments: Json) -> None:
        given = {"run": self._run, **arguments}
        for implementation in getattr(registry().plugins.hook, hook).get_hookimpls():
            if implementation.plugin_name in self._silenced:
                continue
            try:
                implementation.function(**{name: given[name] for name in implementation.argnames})
            except Exception as error:
                self._silenced.add(implementation.plugin_name)
                self._notify(
                    f"plugin {implementation.plugin_name} failed in {hook} and is not called again in this run: "
                    f"{type(error).__name__}: {error}"
                )
