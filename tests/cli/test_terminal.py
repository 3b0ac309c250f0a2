"""What a run looks like on a terminal, and without one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from mmflow.cli.terminal import Lines, Pace, duration, progress_watcher

pytestmark = pytest.mark.process

PROGRAM = """
import time
from mmflow.cli.terminal import Bars, progress_watcher
from mmflow.flow.jobs import Outcome
watcher = progress_watcher()
assert isinstance(watcher, Bars)
watcher.opened("run-1", "name", [])
watcher.stage("train", "running")
begun = time.monotonic()
for step in (10, 20, 40):
    watcher.progress("train", step, 40, {"loss": 1.25})
watcher.note("[bold]as it is[/bold]")
watcher.stage("train", "done")
watcher.closed(Outcome("run-1"))
"""


def test_a_terminal_shows_a_bar_with_throughput_and_time_left():
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            # On Linux the end of a terminal is an input/output error.
            break
        if not part:
            break
        seen += part
    os.close(leader)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "run run-1" in text
    assert re.search(r"train .*40/40 [\d.e+]+/s, \d\.\d s left loss 1.25", text)
    assert "train: done after" in text
    assert "note: [bold]as it is[/bold]" in text


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]):
    watcher = progress_watcher()
    assert isinstance(watcher, Lines)
    watcher.stage("train", "running")
    for step in range(1, 41):
        watcher.progress("train", step, 40, {"loss": 1 / step})
    watcher.stage("train", "done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: running"
    assert lines[1] == "train: 1/40, loss 1"
    assert lines[2].startswith("train: 40/40, ")
    assert lines[2].endswith("left, loss 0.025")
    assert lines[3].startswith("train: done after ")


def test_quiet_tells_warnings_only(capsys: pytest.CaptureFixture[str]):
    watcher = progress_watcher(quiet=True)
    watcher.waiting("loading PyTorch")
    watcher.stage("train", "running")
    watcher.progress("train", 1, 2, {})
    watcher.note("all 2 stages found in the store")
    watcher.note("the API is gone", warning=True)
    assert capsys.readouterr().err == "note: the API is gone\n"


def test_the_pace_of_a_resumed_stage_counts_from_where_it_began(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace()
    assert pace.at(500, 1000) is None
    now = 110.0
    assert pace.at(520, 1000) == (2.0, 240.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text
