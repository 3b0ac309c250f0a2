"""Every expected mistake is one message and exit code 2, without a traceback; results are where they should be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mmflow.cli.errors import reported
from mmflow.plugin import SampleError

pytestmark = pytest.mark.process

SPEC = """
mmflow: 1
name: small
data:
  train: {use: shapes, split: train, size: 96, pixels: 16}
  test: {use: shapes, split: test, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
train: {data: train, epochs: 1, batch_size: 32, optimizer: {use: adamw, lr: 1e-3}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
  geometry: {use: geometry, data: test, of: [image, text]}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return path


MISTAKES = {
    "a spec that is not there": (["run", "nowhere.yaml"], "nowhere.yaml"),
    "a component that is not there": (["run", "small.yaml", "--set", "losses.align.use=infonec"], "infonce"),
    "a wrong number": (["check", "small.yaml", "--set", "train.epochs=many"], "train.epochs"),
    "an override of nothing": (["plan", "small.yaml", "--set", "train"], "train"),
    "a stage that is not there": (["run", "small.yaml", "--local", "--force", "tarin"], "one of: train, retrieval"),
    "a device that is not there": (["run", "small.yaml", "--local", "--device", "tpu9"], "expected auto, cpu"),
    "a device without hardware": (["run", "small.yaml", "--local", "--device", "cuda:77"], "cuda:77"),
    "a store of no protocol": (["run", "small.yaml", "--local", "--store", "s4://bucket/x"], "s4"),
    "a store below a file": (["run", "small.yaml", "--local", "--store", "small.yaml/store"], "small.yaml is a file"),
    "a report of no run": (["report"], "no run is recorded"),
    "an unknown command": (["runn", "small.yaml"], "runn"),
    "an unknown option": (["run", "small.yaml", "--fast"], "--fast"),
    "too many workers": (
        ["run", "small.yaml", "--workers", "1000"],
        "'--workers': Input should be less than or equal to 64",
    ),
    "a shape that does not fit": (["check", "--shapes", "small.yaml", "--set", "encoders.text.head.dim=9"], "9"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message(mmflow, spec: Path, mistake: str):
    arguments, told = MISTAKES[mistake]
    done = mmflow(*arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("error")][1:]


def test_json_of_a_run_and_its_report(mmflow, spec: Path, tmp_path: Path):
    done = mmflow("run", "small.yaml", "--local", "--json", "--store", "kept")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "completed"
    assert {name: stage["state"] for name, stage in result["stages"].items()} == {
        "train": "done", "retrieval": "done", "geometry": "done",
    }  # fmt: skip
    recall = {metric["name"]: metric for metric in result["metrics"]["retrieval"]}["image_to_text_r1"]
    assert 0 <= recall["value"] <= 1
    assert 0 < recall["chance"] < 0.2
    page = Path(result["report"])
    assert page.is_relative_to(tmp_path / "kept" / "runs" / result["run"])
    page.unlink()
    again = mmflow("report", result["run"], "--store", "kept")
    assert Path(again.stdout.strip()) == page
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_metrics_are_printed_beside_chance_and_progress_goes_to_stderr(mmflow, spec: Path):
    done = mmflow("run", "small.yaml", "--local")
    assert done.returncode == 0, done.stderr
    assert "chance" in done.stdout
    assert "R@1" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("report: ")
    assert "train: 3/3" in done.stderr
    assert "train: done after" in done.stderr
    quiet = mmflow("run", "small.yaml", "--local", "--quiet")
    assert quiet.stderr == ""


def test_a_failing_stage_is_told_and_ends_with_1(mmflow, spec: Path):
    done = mmflow("run", "small.yaml", "--local", "--set", "train.optimizer.lr=1e30", "--set", "train.log_every=1")
    assert done.returncode == 1
    assert "stage train failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "retrieval skipped" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(mmflow):
    command = f"'{sys.executable}' -m mmflow list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_interrupted_before_the_run_ends_with_130(tmp_path: Path):
    # A spec that is a pipe is waited for: the interrupt comes while the command reads it.
    os.mkfifo(tmp_path / "slow.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmflow", "check", "slow.yaml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with open(tmp_path / "slow.yaml", "w"):
        # Opening returns once the command has opened its end.
        process.send_signal(signal.SIGINT)
    # A signal that comes just before the read is seen once the read returns: the pipe is closed by now.
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "interrupted"


INTERRUPTED = """
import os, signal, sys

class Twice:
    def find_spec(self, name, path=None, target=None):
        if name == "mmflow.cli.app":
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Twice())
sys.argv = ["mmflow", "list"]
from mmflow.cli import main
main()
"""


def test_interrupted_twice_while_the_command_is_imported_ends_with_130():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.splitlines() == ["interrupted"]


def test_plan_says_which_stages_are_the_same(spec: Path, mmflow) -> None:
    again = "stages.again={use: train, data: train, start: init, epochs: 1, batch_size: 32, optimizer: {use: adamw}}"
    told = mmflow("plan", spec.name, "--set", again).stdout
    assert "note: again is the same stage as train and is not run again; a `seed` of its own makes it another" in told
    assert "the same stage" not in mmflow("plan", spec.name, "--set", again, "--set", "stages.again.seed=1").stdout


def test_a_bad_sample_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that read data outside of a run (embed, search) tell it as a run does."""
    with pytest.raises(typer.Exit) as ended, reported():
        raise SampleError("sample '3' of source 'table' (rows.csv): not an image")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "error: sample '3' of source 'table' (rows.csv): not an image\n"
