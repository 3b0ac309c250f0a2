"""A stored file that cannot be read costs its own part of the report, and never the rest or a wait without end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmflow.flow.plan import build_plan
from mmflow.flow.report import collect
from mmflow.flow.run import RunOptions, run_spec, write_report
from mmflow.flow.store import RunStore, StoreError
from mmflow.spec import Spec, load_text

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: small
data: {test: {use: shapes, split: test, size: 12, pixels: 16}}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2}
  other: {use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 2}
eval:
  first: {use: geometry, data: test, of: image}
  second: {use: geometry, data: test, of: other}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("made") / "store"
    assert run_spec(load_text(SPEC), RunOptions(store=str(store), engine="local")).exit_code == 0
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def spec() -> Spec:
    return load_text(SPEC)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00 garbage")


DAMAGES = (folder, pipe, loop, garbage)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["metrics.json", "manifest.json"])
def test_a_result_that_cannot_be_read_costs_no_other(
    store: Path, spec: Spec, damage: Callable[[Path], None], file: str
) -> None:
    opened = RunStore(store)
    key = build_plan(spec)["first"].key
    (path,) = (store / "entries" / key).rglob(file)
    damage(path)
    report = collect(opened, opened.run(opened.runs()[-1]), spec)
    assert not report.stage("first").metrics
    assert report.stage("second").metrics
    if (file, damage) != ("manifest.json", garbage):
        assert any("the stored result of first cannot be shown" in note for note in report.notes)
    assert Path(write_report(opened)).exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_is_damaged_is_made_again(store: Path, spec: Spec, damage: Callable[[Path], None]) -> None:
    (path,) = (store / "entries" / build_plan(spec)["first"].key).rglob("metrics.json")
    damage(path)
    again = run_spec(spec, RunOptions(store=str(store), engine="local"))
    assert again.outcome.stages == {"first": "done", "second": "cached"}
    assert again.metrics["first"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["run.json", "events.jsonl"])
def test_a_record_that_cannot_be_read_costs_no_metrics(
    store: Path, spec: Spec, damage: Callable[[Path], None], file: str
) -> None:
    opened = RunStore(store)
    record = opened.run(opened.runs()[-1])
    damage(store / "runs" / record.id / file)
    report = collect(opened, record, spec)
    if file == "run.json":
        assert any("run.json" in note for note in report.notes)
    else:
        assert all(stage.metrics for stage in report.stages)
        assert damage is garbage or any("events.jsonl" in note for note in report.notes)
    assert Path(write_report(opened)).exists()


@pytest.mark.parametrize("damage", DAMAGES[:3])
def test_a_spec_that_cannot_be_read_is_one_message(store: Path, damage: Callable[[Path], None]) -> None:
    opened = RunStore(store)
    damage(store / "runs" / opened.runs()[-1] / "spec.yaml")
    with pytest.raises(StoreError, match="cannot read runs/"):
        write_report(opened)


def test_events_between_torn_lines_are_kept(store: Path) -> None:
    record = RunStore(store).run(RunStore(store).runs()[-1])
    events = record.events()
    file = store / "runs" / record.id / "events.jsonl"
    file.write_bytes(b'\xff\xfe\n{"event"\n[]\n1\n{"event": 3, "time": null}\n' + file.read_bytes() + b'{"torn')
    assert record.events() == events
