"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SecretStr

from mmflow.plugin import Metric, TrackedRun, Tracker, Tracking, secret
from mmflow_trackers.naming import metric_name, series

if TYPE_CHECKING:
    from wandb import Run


class WeightsAndBiases(Tracker, name="wandb"):
    """Logs to a project of Weights & Biases; `mode: offline` writes to `folder`, for `wandb sync`.

    Curves are drawn over the steps of their stage; metrics are in the summary; the spec is the run's config and a file.
    Nothing of the machine, the command line, the console or the code is sent.
    """

    extra: ClassVar[str] = "track"
    requires: ClassVar[tuple[str, ...]] = ("wandb",)
    example: ClassVar[str] = "track: {board: {use: wandb, project: shapes, key: $env.WANDB_API_KEY}}"

    project: str = "mmflow"
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"
    folder: str = "runs"
    key: SecretStr | None = secret(None, description="by default the one that wandb itself finds")

    def begin(self, run: TrackedRun) -> Tracking:
        import wandb

        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, disable_job_creation=True,
            x_disable_meta=True, x_disable_machine_info=True, x_save_requirements=False,
            api_key=None if self.key is None else self.key.get_secret_value(),
        )  # fmt: skip
        opened = wandb.init(
            project=self.project, entity=self.entity, name=run.name, mode=self.mode, dir=folder,
            config=dict(run.settings), notes=run.id, settings=settings, reinit="create_new",
        )  # fmt: skip
        for stage in run.stages:
            opened.define_metric(series(stage, "step"), hidden=True)
            opened.define_metric(series(stage, "*"), step_metric=series(stage, "step"))
        text = Path(opened.dir) / "spec.yaml"
        text.write_text(run.spec, encoding="utf-8")
        opened.save(str(text), base_path=str(text.parent), policy="now")
        return _Run(opened)


class _Run(Tracking):
    def __init__(self, run: Run) -> None:
        self._run = run

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({series(stage, name): value for name, value in {**numbers, "step": step}.items()})

    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        self._run.summary.update({metric_name(stage, metric): metric.value for metric in metrics})

    def figure(self, stage: str, title: str, data: Mapping[str, Any], page: str) -> None:
        import wandb

        self._run.log({series(stage, title): wandb.Html(page, inject=False)})

    def link(self, title: str, url: str) -> None:
        self._run.summary.update({title: url})

    def end(self, status: str) -> None:
        self._run.summary.update({"status": status})
        self._run.finish(exit_code=int(status != "completed"))
