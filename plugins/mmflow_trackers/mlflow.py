"""MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Field, Metric, TrackedRun, Tracker, Tracking
from mmflow_trackers.naming import file_name, metric_name, series

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STATUS = {"completed": "FINISHED", "failed": "FAILED"}
_AT_ONCE = 100
"""Parameters at most in one request."""
_LONGEST_KEY, _LONGEST_VALUE = 250, 6000


class MLflow(Tracker, name="mlflow"):
    """Logs to an experiment of MLflow, on a server or in a database file.

    Curves and metrics are metrics, values of the spec are parameters; the spec and figures are artifacts
    (`spec.yaml`, `figures/*.html`). How to sign in on a server is read from MLflow's own variables.
    """

    extra: ClassVar[str] = "track"
    requires: ClassVar[tuple[str, ...]] = ("mlflow",)
    example: ClassVar[str] = "track: {board: {use: mlflow, uri: $env.MLFLOW_TRACKING_URI}}"

    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = Field(None, description="by default the name of the spec")
    artifacts: str | None = Field(None, description="where files of a new experiment go; by default as MLflow has it")

    def begin(self, run: TrackedRun) -> Tracking:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=self.uri)
        name = self.experiment or run.name
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name, self.artifacts) if known is None else known.experiment_id
        opened = client.create_run(experiment, run_name=run.name, tags={"mmflow.run": run.id}).info.run_id
        values = [Param(_name(key), str(value)[:_LONGEST_VALUE]) for key, value in run.settings.items()]
        for start in range(0, len(values), _AT_ONCE):
            client.log_batch(opened, params=values[start : start + _AT_ONCE])
        client.log_text(opened, run.spec, "spec.yaml")
        return _Run(client, opened)


class _Run(Tracking):
    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client, self._run = client, run

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        self._send({series(stage, name): value for name, value in numbers.items() if name != "step"}, step)

    def measured(self, stage: str, metrics: Sequence[Metric]) -> None:
        self._send({metric_name(stage, metric): metric.value for metric in metrics}, 0)

    def _send(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric as Sent

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Sent(_name(n), float(v), now, step) for n, v in values.items()])

    def figure(self, stage: str, title: str, data: Mapping[str, Any], page: str) -> None:
        self._client.log_text(self._run, page, f"figures/{file_name(stage, title)}")

    def link(self, title: str, url: str) -> None:
        self._client.set_tag(self._run, f"mmflow.{_name(title)}", url)

    def end(self, status: str) -> None:
        self._client.set_terminated(self._run, _STATUS.get(status, "KILLED"))


def _name(text: str) -> str:
    """A name of the characters that MLflow takes: `R@1` as `R_at_1`, `image → text` as `image to text`."""
    said = text.replace("@", "_at_").replace("→", "to")
    return re.sub(r"[^\w\-. :/]", "_", said, flags=re.ASCII)[:_LONGEST_KEY]
