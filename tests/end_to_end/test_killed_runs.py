"""Runs killed in training, refresh, evaluation, publication end with the bits of one left alone and repeat nothing."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

_spec = importlib.util.spec_from_file_location("killed_runs", Path(__file__).parent / "killed_runs.py")
assert _spec is not None
assert _spec.loader is not None
killed_runs: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killed_runs)

KILLS = {
    "local": [
        ("scratch", 2), ("step/train", 2), ("partial", 30), ("refresh", 20), ("refresh", 40), ("partial", 75),
        ("step/train", 1), ("publish/train", 12),
        ("publish/train", 30), ("publish/memo", 9), ("step/retrieval", 1), ("publish/retrieval", 14), ("step/probe", 1),
        ("publish/probe", 26), ("record", 6),
    ],
    "prefect": [("partial", 50), ("refresh", 30), ("publish/train", 20), ("step/retrieval", 1), ("publish/probe", 20)],
}  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The results of a run that nobody has killed."""
    runs = killed_runs.Runs(tmp_path_factory.mktemp("alone"), "local")
    assert runs.run().code == 0
    yield runs.results()
    runs.close()


@pytest.mark.parametrize("engine", KILLS)
def test_after_any_kill_the_next_run_goes_on(engine: str, alone: dict[str, Any], tmp_path: Path) -> None:
    runs = killed_runs.Runs(tmp_path, engine)
    try:
        for event, count in KILLS[engine]:
            assert runs.run((event, count)).code == -signal.SIGKILL, f"{event} has not come {count} times"
            assert runs.problems == []
        assert runs.run().code == 0
        runs.age()
        last = runs.run()
    finally:
        runs.close()
    assert runs.problems == []
    assert last.code == 0
    assert not any(event.startswith("step/") for event in last.events)
    assert runs.results() == alone
    assert runs.left() == []
