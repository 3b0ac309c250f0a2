"""The checks of a stage that is no evaluator: run by the real engine, in stores of its own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmflow.artifacts.files import RECORDS
from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.flow.store import RunStore
from mmflow.plugin import Stage
from mmflow.spec import load_text
from mmflow.testing.faults import Fault


@dataclass(frozen=True)
class StageCase:
    """A stage inside a whole spec, as a user writes it."""

    component: Stage
    spec: str
    """The text of a spec; its paths are absolute, or its data made up."""
    name: str
    """The name under which the spec has the stage."""

    @property
    def label(self) -> str:
        return f"stage/{self.component.use}"


def check_run(case: StageCase) -> None:
    """It runs to its end, and its result is a folder of files under its key."""
    with _folder() as folder:
        if not _files(case, folder, _run(case, folder)):
            raise Fault(case, "it stores nothing")


def check_stored(case: StageCase) -> None:
    """The same spec again finds the result in the store, under the same key, and runs nothing."""
    with _folder() as folder:
        first, second = _run(case, folder), _run(case, folder)
        if _key(case, first) != _key(case, second):
            raise Fault(case, "the same spec has another key", found=_key(case, second), expected=_key(case, first))
        if (state := second.outcome.stages[case.name]) != "cached":
            raise Fault(case, "the same spec runs it again", found=state, expected="cached")


def check_repeats(case: StageCase) -> None:
    """In another store, and forced in the same one, it gives the same bytes."""
    with _folder() as folder, _folder() as other:
        files = _files(case, folder, _run(case, folder))
        again = {"another store": _files(case, other, _run(case, other))}
        again["the same store"] = _files(case, folder, _run(case, folder, force=True))
        for where, found in again.items():
            for name in sorted(files.keys() | found.keys()):
                if files.get(name) != found.get(name):
                    raise Fault(case, f"in {where} the file {name} is another one")


def check_inside(case: StageCase) -> None:
    """It writes nothing into the folder from which the run was started."""
    with _folder() as folder, _folder() as here, contextlib.chdir(here):
        _run(case, folder)
        if left := sorted(path.name for path in here.iterdir()):
            raise Fault(case, "it writes outside its result", found=", ".join(left))


CHECKS = (check_run, check_stored, check_repeats, check_inside)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mmflow-stage-") as name:
        yield Path(name)


def _run(case: StageCase, store: Path, *, force: bool = False) -> RunOutcome:
    forced = (case.name,) if force else ()
    options = RunOptions(store=str(store / "store"), engine="local", device="cpu", force=forced)
    ran = run_spec(load_text(case.spec), options)
    if ran.exit_code:
        raise Fault(case, f"it does not run: {'; '.join(ran.outcome.notes)}")
    return ran


def _key(case: StageCase, ran: RunOutcome) -> str:
    return next(stage.key for stage in ran.plan.stages if stage.name == case.name)


def _files(case: StageCase, store: Path, ran: RunOutcome) -> Mapping[str, bytes]:
    folder = RunStore(str(store / "store")).fetch(_key(case, ran))
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name not in RECORDS}
