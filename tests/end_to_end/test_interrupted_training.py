"""A training run with loader workers is ended by SIGTERM and goes on later as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.process

SPEC = """
mmflow: 1
name: interrupted
data:
  train: {use: shapes, size: 256, pixels: 16}
vars:
  tower: &tower {width: 32, depth: 1, heads: 2, head: {use: linear, dim: 16}}
encoders:
  image: {<<: *tower, use: vit, of: image, size: 16, patch: 8, dropout: 0.1}
  text: {<<: *tower, use: text_transformer, of: caption, length: 16}
losses:
  align: {use: infonce, of: [image, text]}
train: {data: train, epochs: EPOCHS, batch_size: 32, log_every: 1, workers: 2, optimizer: {use: adamw, lr: 1e-3}}
"""


class Run:
    """`mmflow run` in a process of its own, its lines collected as they come."""

    def __init__(self, spec: Path, store: Path, *options: str) -> None:
        code = "from mmflow.cli import main; main()"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "run", str(spec), "--store", str(store), "--device", "cpu", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, text: str, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            assert self.process.poll() is None, "\n".join(self.lines)
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.05)

    def end(self, seconds: float = 240) -> int:
        code = self.process.wait(seconds)
        self.reader.join(10)
        return code


def model(store: Path) -> dict[str, torch.Tensor]:
    (found,) = store.rglob("model.safetensors")
    return load_file(found)


@pytest.mark.parametrize("engine", ["prefect", "local"])
def test_sigterm_writes_a_checkpoint_and_the_next_run_goes_on(tmp_path: Path, engine: str) -> None:
    options = ("--local",) if engine == "local" else ()
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace("EPOCHS", "25"))
    first = Run(spec, tmp_path / "store", *options)
    first.wait_for("/200")
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == 143, "\n".join(first.lines)
    assert any("goes on from there" in line for line in first.lines), first.lines
    (checkpoint,) = (tmp_path / "store").rglob("trainer.json")
    reached = json.loads(checkpoint.read_text())["step"]
    assert 0 < reached < 200

    second = Run(spec, tmp_path / "store", *options)
    assert second.end() == 0, "\n".join(second.lines)
    (said,) = [line for line in second.lines if "resumed" in line]
    assert said.startswith(f"note: train: resumed at step {reached} of 200 from ")
    assert str(checkpoint.parent) in said
    report = Path(next(line for line in second.lines if line.startswith("report: ")).removeprefix("report: "))
    assert f"resumed at step {reached} of 200 from" in report.read_text()
    (history,) = (tmp_path / "store").rglob("history.jsonl")
    steps = [json.loads(line)["step"] for line in history.read_text().splitlines()]
    assert steps == list(range(1, 201))

    if engine == "local":
        whole = Run(spec, tmp_path / "whole", "--local", "--workers", "0", "--set", "train.workers=0")
        assert whole.end() == 0, "\n".join(whole.lines)
        one, two = model(tmp_path / "store"), model(tmp_path / "whole")
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_second_interrupt_ends_clean(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace("EPOCHS", "250"))
    run = Run(spec, tmp_path / "store", "--local")
    run.wait_for("/2000")
    run.process.send_signal(signal.SIGINT)
    run.wait_for("the run was interrupted by SIGINT")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, "\n".join(run.lines)
    assert not any("Traceback" in line for line in run.lines), "\n".join(run.lines)
