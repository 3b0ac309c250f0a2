"""A run of one searching stage in a process of its own, for a test that kills it.

python search_run.py STORE HOLD [FORCED] writes a line for each single result that it makes; at the one numbered HOLD it
waits for ever.
"""

import json
import sys
import threading

from mmflow.flow.run import RunOptions, run_spec
from mmflow.plugin import Stage, StageContext, hookimpl
from mmflow.plugin.registry import registry
from mmflow.spec import load_text

SPEC = "mmflow: 1\nname: search\nstages: {found: search}\n"


class Search(Stage, name="search"):
    """Tries six things, each dear."""

    gives = {"found": "Files"}

    def run(self, context: StageContext) -> None:
        found = [context.memo({"try": number}, lambda number=number: self._try(number)) for number in range(6)]
        (context.output / "found.json").write_text(json.dumps(found))

    def _try(self, number: int) -> dict[str, int]:
        print(number, flush=True)
        if str(number) == sys.argv[2]:
            threading.Event().wait()
        return {"score": number * number}


class Plugin:
    @hookimpl
    def mmflow_components(self):
        return {"stage/search": "__main__:Search"}


if __name__ == "__main__":
    registry().add("search", Plugin, "search", "1")
    options = RunOptions(sys.argv[1], engine="local", device="cpu", force=tuple(sys.argv[3:]))
    outcome = run_spec(load_text(SPEC), options)
    print(json.dumps({"key": outcome.plan["found"].key, "notes": outcome.outcome.notes}), flush=True)
    sys.exit(outcome.exit_code)
