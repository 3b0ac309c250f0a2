"""Specs from text, and stages run by the real trainer on the real run store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from mmflow.spec import Spec, load_spec


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Spec]:
    """Write a spec and load it."""

    def write(text: str, *overrides: str, name: str = "spec.yaml") -> Spec:
        path = tmp_path / name
        path.write_text(dedent(text))
        return load_spec(str(path), overrides)

    return write


class Context:
    """A stage's context in a directory, for tests of the trainer alone; `stop_after` asks it to stop at that step."""

    def __init__(
        self, spec: Spec, folder: Path, stage: str = "train", *, workers: int = 0, stop_after: int = 10**9
    ) -> None:
        self.spec, self.scope, self.name, self.folder = spec, spec.scope(stage), stage, folder
        self.output = folder / stage
        self.output.mkdir(parents=True, exist_ok=True)
        self.device, self.workers, self.report, self.stop_after = "cpu", workers, self, stop_after
        self.asked = 0
        self.notes: list[str] = []

    def note(self, text: str) -> None: ...

    def remark(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, done: int, total: int, **metrics: float) -> None: ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked > self.stop_after

    def upstream(self, stage: str) -> Path:
        return self.folder / stage

    def save_partial(self, directory: Path) -> None:
        import shutil

        shutil.copytree(directory, self.folder / "partial", dirs_exist_ok=True)

    def load_partial(self) -> Path | None:
        found = self.folder / "partial"
        return found if found.exists() else None

    def run(self) -> Path:
        declaration: Any = self.scope.declaration
        declaration.run(self)
        return self.output


@pytest.fixture
def context() -> type[Context]:
    return Context
