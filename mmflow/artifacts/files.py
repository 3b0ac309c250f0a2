"""The output type `Files`: a folder of files; the history of a training, and the record that each stage leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from mmflow.redaction import redacted_data

RECORDS = ("history.jsonl", "train.json", "stage.json")
"""Files that tell how a stage worked, with times, beside what it made."""


class TrainingSummary(TypedDict, total=False):
    """How a training went as a whole."""

    steps: int
    epochs: float
    samples: int | None
    batch_size: int
    seconds: float
    waited_seconds: float
    waiting: float
    """Share of the time after the first steps that was waiting for data."""
    parameters: int
    trained_parameters: int
    device: str
    precision: str
    skipped: dict[str, str]
    """Samples that were left out, with the reason."""


class Environment(TypedDict, total=False):
    """Where a stage ran."""

    python: str
    platform: str
    cores: int | None
    device: str
    device_name: str
    versions: dict[str, str]


class AboutStage(TypedDict, total=False):
    """When, where and how long a stage worked; `started` is ISO time in UTC."""

    stage: str
    use: str
    key: str
    seconds: float
    started: str
    environment: Environment
    remarks: list[str]
    """Warnings about the result, a sentence or two each."""


class FilesArtifact:
    """A folder of files of any kind, `files/<name>/`."""

    def __init__(self, output: Path, name: str) -> None:
        self.folder = output / "files" / name

    def create(self) -> Path:
        """The folder, made where it is not there, to write in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def read(self) -> dict[str, Path]:
        """The files by their relative names, sorted."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in files}


class HistoryArtifact:
    """How a training went: `history.jsonl` with one line a logged step, `train.json` with its summary."""

    def __init__(self, output: Path) -> None:
        self._lines, self._summary = output / RECORDS[0], output / RECORDS[1]

    def write(self, lines: Sequence[Mapping[str, float]], summary: TrainingSummary) -> None:
        """Store the logged steps and the summary."""
        self._lines.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._summary.write_text(json.dumps(redacted_data(summary), indent=1))

    def lines(self) -> list[dict[str, float]]:
        """The logged steps; none for a stage that did not train."""
        if not self._lines.exists():
            return []
        return [json.loads(line) for line in self._lines.read_text().splitlines() if line.strip()]

    def summary(self) -> TrainingSummary:
        """The summary; empty for a stage that did not train."""
        return json.loads(self._summary.read_text()) if self._summary.exists() else {}


class StageRecord:
    """When, where and how long a stage worked: `stage.json`, beside its outputs."""

    def __init__(self, output: Path) -> None:
        self._file = output / RECORDS[2]

    def write(self, about: AboutStage) -> None:
        """Store the record."""
        self._file.write_text(json.dumps(redacted_data(about), indent=1))

    def read(self) -> AboutStage:
        """The record; empty where there is none."""
        return json.loads(self._file.read_text()) if self._file.exists() else {}
