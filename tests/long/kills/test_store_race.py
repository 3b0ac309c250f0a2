"""A thousand saves by four processes on one stage of one store, which also publish, load and drop; prints what held."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from mmflow.flow.store import RunStore

pytestmark = pytest.mark.process

PROCESSES, SAVES = 4, 250
KEY = "k" * 64

PROGRAM = """
import sys
from pathlib import Path
from mmflow.flow.store import RunStore

store, key, name, folder = RunStore(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
saved = loaded = published = 0
for round in range(int(sys.argv[5])):
    # Two files that belong together: a mixture of two saves would show.
    for file in ("a", "b"):
        (folder / file).write_text(f"{name} {round} " * 2000)
    store.save_partial(key, "checkpoint", folder)
    saved += 1
    found = store.load_partial(key, "checkpoint")
    try:
        loaded += found is None or (found / "a").read_text() == (found / "b").read_text()
    except FileNotFoundError:
        # Another process has gone on from it, too, and dropped it.
        loaded += 1
    if round % 10 == 9:
        store.publish(key, folder, {"by": name})
        result = store.fetch(key)
        published += (result / "a").read_text() == (result / "b").read_text()
        store.drop_partial(key)
store.drop_partial(key)
print(saved, loaded, published)
"""


def test_a_thousand_saves_by_four_processes(tmp_path: Path) -> None:
    processes = []
    for number in range(PROCESSES):
        folder = tmp_path / f"from-{number}"
        folder.mkdir()
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), KEY, f"p{number}", str(folder), str(SAVES)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0].split() for process in processes]
    counts = [sum(int(one[place]) for one in said if len(one) == 3) for place in range(3)]
    tried = PROCESSES * SAVES
    print(
        f"\n{counts[0]} of {tried} saves, {counts[1]} of {tried} checkpoints whole or dropped, "
        f"{counts[2]} of {tried // 10} results whole"
    )
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert counts == [tried, tried, tried // 10]
    store = RunStore(tmp_path / "store")
    assert store.verify(KEY)
    assert store.load_partial(KEY, "checkpoint") is None
    store.sweep(timedelta(seconds=-5))
    assert len(list((tmp_path / "store" / "entries" / KEY).iterdir())) == 2, "one manifest, one folder of files"
