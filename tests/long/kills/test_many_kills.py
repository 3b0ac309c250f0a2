"""At least a hundred kills at drawn moments, on fresh stores again and again; prints what was held of what was tried.

`pytest -s tests/long/kills/test_many_kills.py` takes some minutes on two cores.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

_path = Path(__file__).parents[2] / "end_to_end" / "killed_runs.py"
_spec = importlib.util.spec_from_file_location("killed_runs", _path)
assert _spec is not None
assert _spec.loader is not None
killed_runs: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killed_runs)

KILLS = {"local": 90, "prefect": 30}
FURTHEST = 120
"""Of so many events one is drawn as the last; a whole run has about five hundred."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a run that nobody has killed."""
    runs = killed_runs.Runs(tmp_path_factory.mktemp("alone"), "local")
    assert runs.run().code == 0
    runs.close()
    return runs.results()


@pytest.mark.parametrize("engine", KILLS)
def test_many_kills(engine: str, alone: dict[str, Any], tmp_path: Path) -> None:
    runs = killed_runs.Runs(tmp_path, engine)
    draw = random.Random(17)
    where: Counter[str] = Counter()
    ends = equal = 0
    while runs.kills < KILLS[engine] or not ends:
        ended = runs.run(("", draw.randint(1, FURTHEST)))
        if ended.code == -signal.SIGKILL:
            where[ended.events[-1].split(" ")[0]] += 1
            continue
        assert ended.code == 0, runs.problems
        ends += 1
        equal += runs.results() == alone
        shutil.rmtree(runs.store)
    runs.close()
    moments = ", ".join(f"{count} at {event}" for event, count in sorted(where.items()))
    print(f"\n{engine}: {runs.kills} kills ({moments})")
    print(f"{engine}: {equal} of {ends} stores equal to the bit to one left alone, problems: {len(runs.problems)}")
    assert runs.problems == []
    assert equal == ends
