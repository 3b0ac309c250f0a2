"""Runs through the embedded Prefect API, which each run brings up by itself."""

import json
import os
import signal
from pathlib import Path

import pytest

from mmflow.flow.engine import run_jobs
from mmflow.flow.jobs import StageJob
from mmflow.flow.prefect.server import EmbeddedApi, running_at
from mmflow.flow.store import RunStore

pytestmark = pytest.mark.process


@pytest.fixture
def api(tmp_path, mmflow_cache) -> EmbeddedApi:
    """The embedded API of the test's store, not started: where it keeps its things."""
    return EmbeddedApi(str(tmp_path / "store"), cache=mmflow_cache)


def database(api: EmbeddedApi) -> Path:
    return api.folder / "prefect.db"


def process_id(api: EmbeddedApi) -> int:
    return json.loads((api.folder / "server.json").read_text())["pid"]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # An orphan that nobody reaps in a container counts as gone, too.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.fixture
def flow_states(api, wait_for, query):
    """States of all flow runs, oldest first, once the API has ended and written what it had."""

    def states() -> list[str]:
        wait_for(lambda: running_at(api.folder) is None, "the API has ended")
        return [state for (state,) in query(database(api), "select state_name from flow_run order by created")]

    return states


@pytest.fixture
def task_states(api, query):
    """Names, types and names of the states of all task runs, oldest first."""
    return lambda: query(database(api), "select name, state_type, state_name from task_run order by start_time")


def test_a_name_that_prefect_refuses_is_replaced_for_it(start_run, api, query, flow_states):
    outcome = start_run("prefect", run_name="a%b<c>&{d}/e", stages=1).end()
    assert (outcome["returncode"], outcome["status"], outcome["notes"]) == (0, "completed", [])
    assert flow_states() == ["Completed"]
    assert query(database(api), "select name from flow") == [("a-b-c-d-e",)]


def test_a_run_its_tasks_and_its_artifacts_then_the_same_again(
    start_run, api, wait_for, query, flow_states, task_states
):
    first = start_run("prefect")
    first.until(event="begin", name="train")
    server = process_id(api)
    outcome = first.end()
    assert (outcome["returncode"], outcome["status"], outcome["notes"]) == (0, "completed", [])
    assert outcome["stderr"] == ""
    assert flow_states() == ["Completed"]
    wait_for(lambda: is_gone(server), "the API started for this run has ended with it")
    names = ["train", "retrieval", "zero_shot"]
    assert task_states() == [(name, "COMPLETED", "Completed") for name in names]
    artifacts = {
        key: (kind, data)
        for key, kind, data in query(database(api), "select key, type, data from artifact where type != 'result'")
    }
    assert set(artifacts) == {
        "clip-shapes-stages",
        *(
            f"clip-shapes-{name}-{kind}"
            for name in ("train", "retrieval", "zero-shot")
            for kind in ("progress", "metrics")
        ),
        "clip-shapes-report-summary",
        "clip-shapes-report-report",
    }
    assert artifacts["clip-shapes-train-progress"] == ("progress", 100)
    assert json.loads(json.loads(artifacts["clip-shapes-train-metrics"][1])) == [
        {"at": 1, "recall": 0.5, "chance": None}
    ]
    assert "All is *well*" in artifacts["clip-shapes-report-summary"][1]
    with_task = query(
        database(api), "select count(*) from artifact where key like '%-metrics' and task_run_id is not null"
    )
    assert with_task == [(3,)]

    second = start_run("prefect").end()
    assert (second["returncode"], set(second["stages"].values())) == (0, {"cached"})
    assert flow_states() == ["Completed", "Completed"]
    assert task_states()[3:] == [(name, "COMPLETED", "Cached") for name in names]


def test_the_first_run_on_a_machine_after_one_that_was_killed_in_the_migration(start_run, tmp_path):
    cache = tmp_path / "cache"
    home = EmbeddedApi(str(tmp_path / "store"), cache=cache).folder
    home.mkdir(parents=True)
    (home / "prefect.db").write_bytes(b"half a database")
    (home / "migrating").touch()
    outcome = start_run("prefect", cache=cache).end()
    assert (outcome["returncode"], outcome["notes"], outcome["stderr"]) == (0, [], "")
    assert (home.parent / "template.db").exists()
    assert not (home / "migrating").exists()


def test_two_runs_of_a_store_share_one_api(start_run, api, wait_for, flow_states):
    long = start_run("prefect", steps=2000, pause=0.01)
    long.until(event="begin", name="train")
    server = process_id(api)
    short = start_run("prefect", salt="other")
    assert short.end()["returncode"] == 0
    assert process_id(api) == server
    assert not is_gone(server), "the run that has ended leaves the API to the other"
    long.process.send_signal(signal.SIGTERM)
    assert long.end()["returncode"] == 143
    assert flow_states() == ["Crashed", "Completed"]
    wait_for(lambda: is_gone(server), "nobody uses the API any more")


def test_a_killed_run_leaves_no_api_behind(start_run, api, wait_for):
    run = start_run("prefect", steps=2000, pause=0.01)
    run.until(event="begin", name="train")
    server = process_id(api)
    run.process.kill()
    wait_for(lambda: is_gone(server), "the API of a killed run has ended")
    assert running_at(api.folder) is None


def test_an_api_that_lingers_is_found_by_the_next_user(tmp_path, mmflow_cache):
    first, second = (EmbeddedApi(str(tmp_path), cache=mmflow_cache, linger=60.0) for _ in range(2))
    url = first.start().wait()
    assert first.process is not None
    try:
        first.close()
        assert second.start().wait() == url
        assert second.process is None
        second.close()
        assert first.process.poll() is None
    finally:
        first.process.terminate()
        first.process.wait()


def test_a_damaged_database_is_set_aside(tmp_path, api):
    api.folder.mkdir(parents=True)
    database(api).write_bytes(b"not a database" * 1000)
    assert api.start().wait()
    api.close()
    assert api.process is not None
    assert api.process.wait() == 0
    assert (api.folder / "prefect.damaged").exists()


def test_an_api_that_cannot_start_stops_the_run_with_advice(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    api = EmbeddedApi("x", cache=tmp_path / "cache").start()
    job = StageJob("train", "a" * 64, (), lambda reporter: None)
    outcome = run_jobs([job], store=RunStore(tmp_path / "store"), run_name="x", api=api)
    assert (outcome.status, outcome.exit_code, outcome.stages) == ("failed", 2, {"train": "skipped"})
    assert len(outcome.notes) == 1
    assert str(tmp_path / "cache") in outcome.notes[0]
    assert "--local" in outcome.notes[0]


def test_the_api_killed_in_the_middle_of_a_stage(start_run, api):
    run = start_run("prefect", steps=300, pause=0.01)
    run.until(event="progress", name="train", done=20)
    os.kill(process_id(api), signal.SIGKILL)
    outcome = run.end()
    assert (outcome["returncode"], outcome["status"]) == (0, "completed")
    assert set(outcome["stages"].values()) == {"done"}
    assert len(outcome["notes"]) == 1
    assert "has stopped answering" in outcome["notes"][0]
    assert outcome["stderr"] == ""
    again = start_run("prefect").end()
    assert (again["returncode"], set(again["stages"].values()), again["notes"]) == (0, {"cached"}, [])


def test_sigterm_in_the_middle_with_two_loader_workers(start_run, flow_states, task_states):
    run = start_run("prefect", steps=2000, pause=0.02, workers=2)
    run.until(event="progress", name="train", done=10)
    run.process.send_signal(signal.SIGTERM)
    outcome = run.end()
    assert (outcome["returncode"], outcome["status"]) == (143, "interrupted")
    assert flow_states() == ["Crashed"]
    assert task_states() == [("train", "CRASHED", "Crashed")]
    again = start_run("prefect", steps=15, pause=0)
    assert again.until(event="begin", name="train")["step"] >= 10
    outcome = again.end()
    assert (outcome["returncode"], set(outcome["stages"].values())) == (0, {"done"})


def test_sigint_where_the_stage_does_not_ask(start_run, flow_states):
    run = start_run("prefect", steps=2000, pause=0.01, asks=False)
    run.until(event="progress", name="train", done=10)
    run.process.send_signal(signal.SIGINT)
    outcome = run.end()
    assert (outcome["returncode"], outcome["status"]) == (130, "interrupted")
    assert outcome["stderr"] == ""
    assert flow_states() == ["Crashed"]
