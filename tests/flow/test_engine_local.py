"""The rules of a run that hold for every engine, shown without Prefect."""

import json
import signal

import pytest

from mmflow.flow.engine import run_jobs
from mmflow.flow.jobs import StageJob, Watcher
from mmflow.flow.store import RunStore
from mmflow.identity.canonical import key_of
from mmflow.plugin.kinds import StageStopped

pytestmark = pytest.mark.slow


class Seen(Watcher):
    def __init__(self):
        self.events = []

    def stage(self, name, state, detail=""):
        self.events.append((name, state))

    def progress(self, name, done, total, metrics):
        self.events.append((name, done, total, dict(metrics)))

    def link(self, name, key, url, text):
        self.events.append((name, key, url, text))


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "store")


def make_job(store, calls, name, *after, broken=None):
    key = key_of({"stage": name})

    def run(reporter):
        calls.append(name)
        reporter.progress(1, 2, loss=0.5)
        if broken is not None:
            raise broken
        with store.scratch() as folder:
            (folder / "result").write_text(name)
            store.publish(key, folder, {}, move=True)

    return StageJob(name, key, after, run)


def make_jobs(store, calls, **broken):
    return [
        make_job(store, calls, "train", broken=broken.get("train")),
        make_job(store, calls, "cluster", broken=broken.get("cluster")),
        make_job(store, calls, "retrieval", "train", broken=broken.get("retrieval")),
        make_job(store, calls, "purity", "cluster", "retrieval", broken=broken.get("purity")),
    ]


def go(store, jobs, **options):
    return run_jobs(jobs, store=store, run_name="test", engine="local", **options)


def test_a_second_run_calls_no_stage(store):
    calls = []
    jobs = make_jobs(store, calls)
    first = go(store, jobs)
    assert (first.status, first.exit_code) == ("completed", 0)
    assert set(first.stages.values()) == {"done"}
    second = go(store, jobs)
    assert calls == ["train", "cluster", "retrieval", "purity"]
    assert set(second.stages.values()) == {"cached"}
    assert (second.status, second.exit_code, second.notes) == ("completed", 0, [])


@pytest.mark.parametrize(("force", "called"), [(True, 4), (["retrieval"], 1), ([], 0), (False, 0)])
def test_force_runs_again_what_it_names(store, force, called):
    calls = []
    jobs = make_jobs(store, calls)
    go(store, jobs)
    calls.clear()
    outcome = go(store, jobs, force=force)
    assert len(calls) == called
    assert list(outcome.stages.values()).count("cached") == 4 - called
    assert outcome.exit_code == 0


def test_a_failed_stage_skips_only_what_reads_it(store):
    calls = []
    outcome = go(store, make_jobs(store, calls, train=ValueError("no images")))
    assert outcome.stages == {"train": "failed", "cluster": "done", "retrieval": "skipped", "purity": "skipped"}
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert len(outcome.notes) == 1
    assert outcome.notes[0].startswith("stage train failed: no images (ValueError, ")
    traceback = store.run(outcome.run_id).read("train.error.txt").decode()
    assert "in run" in traceback
    calls.clear()
    fixed = go(store, make_jobs(store, calls))
    assert calls == ["train", "retrieval", "purity"]
    assert fixed.stages["cluster"] == "cached"
    assert fixed.exit_code == 0


def test_a_long_error_is_cut_in_the_note_and_whole_in_the_record(store):
    outcome = go(store, make_jobs(store, [], train=ValueError("x" * 100_000))[:1])
    assert len(outcome.notes[0]) < 2000
    assert b"x" * 100_000 in (store.run(outcome.run_id).read("train.error.txt") or b"")


def test_a_stage_that_publishes_nothing_has_failed(store):
    outcome = go(store, [StageJob("idle", "a" * 64, (), lambda reporter: None)])
    assert outcome.stages == {"idle": "failed"}
    assert "without publishing" in outcome.notes[0]


def test_a_damaged_result_that_is_to_be_read_is_made_again(store):
    calls = []
    jobs = make_jobs(store, calls)
    go(store, jobs[:3])
    path = store.fetch(jobs[0].key) / "result"
    path.write_text("Xrain")
    calls.clear()
    outcome = go(store, jobs)
    assert calls == ["train", "purity"], "purity reads train through retrieval"
    assert outcome.exit_code == 0
    assert "damaged" in outcome.notes[0]
    assert store.verify(jobs[0].key)


def test_a_damaged_result_that_is_only_shown_is_made_again(store):
    calls = []
    jobs = make_jobs(store, calls)
    go(store, jobs)
    (store.fetch(jobs[3].key) / "result").write_text("purXty")
    calls.clear()
    outcome = go(store, jobs)
    assert calls == ["purity"]
    assert (outcome.exit_code, len(outcome.notes)) == (0, 1)
    assert "the stored result of stage purity was damaged" in outcome.notes[0]
    assert (store.fetch(jobs[3].key) / "result").read_text() == "purity"


def test_a_stage_that_another_run_has_stored_meanwhile_is_not_run(store):
    calls = []
    first, second = make_jobs(store, calls)[:2]

    def run(reporter):
        first.run(reporter)
        # Another run, which has begun later, is done with both.
        second.run(reporter)
        calls.remove("cluster")

    outcome = go(store, [StageJob("train", first.key, (), run), second])
    assert calls == ["train"]
    assert outcome.stages == {"train": "done", "cluster": "cached"}
    assert go(store, [first, second], force=True).stages == {"train": "done", "cluster": "done"}


def test_the_record_of_a_run(store):
    calls, seen = [], Seen()
    outcome = go(store, make_jobs(store, calls, purity=OSError("disk")), watchers=[seen], run_id="my-run")
    record = store.run("my-run")
    about = json.loads(record.read("run.json"))
    assert about["name"] == "test"
    assert about["status"] == "failed"
    assert about["stages"] == outcome.stages
    assert about["exit_code"] == 1
    assert about["keys"]["train"] == key_of({"stage": "train"})
    states = [(event["stage"], event["state"]) for event in record.events() if event["event"] == "stage"]
    assert states == [event for event in seen.events if len(event) == 2]
    assert ("train", 1, 2, {"loss": 0.5}) in seen.events
    assert states[-1] == ("purity", "failed")


def test_finish_sees_the_outcome_and_its_failure_fails_the_run(store):
    calls, seen, outcomes = [], Seen(), []

    def report(outcome, reporter):
        outcomes.append(dict(outcome.stages))
        reporter.link("report", "runs/report.html", "the report")

    outcome = go(store, make_jobs(store, calls, cluster=ValueError("x")), finish=report, watchers=[seen])
    assert outcomes == [outcome.stages]
    assert ("report", "report", "runs/report.html", "the report") in seen.events

    def broken(outcome, reporter):
        raise ValueError("no font")

    outcome = go(store, make_jobs(store, calls), finish=broken)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert "the report failed: no font (ValueError, " in outcome.notes[0]
    assert set(outcome.stages.values()) <= {"done", "cached"}


def test_a_broken_watcher_changes_no_result(store):
    class Broken(Watcher):
        def stage(self, name, state, detail=""):
            raise RuntimeError("cannot draw")

    calls = []
    outcome = go(store, make_jobs(store, calls), watchers=[Broken()])
    assert outcome.exit_code == 0
    assert outcome.notes == ["Broken has failed and is off: RuntimeError: cannot draw"]


def test_lists_of_stages_that_make_no_sense(store):
    a, b = make_job(store, [], "a"), make_job(store, [], "b", "a")
    with pytest.raises(ValueError, match="b reads a, which is not a stage before it"):
        go(store, [b, a])
    with pytest.raises(ValueError, match="two stages are named a"):
        go(store, [a, a])


def test_a_stage_may_stop_by_itself_only_when_asked(store):
    def run(reporter):
        assert not reporter.should_stop()
        raise StageStopped("for no reason")

    outcome = go(store, [StageJob("odd", "a" * 64, (), run)])
    assert (outcome.stages, outcome.exit_code) == ({"odd": "failed"}, 1)
    assert "nothing has asked it to: for no reason" in outcome.notes[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("asks", [True, False])
def test_a_signal_stops_the_run_and_the_next_goes_on(start_run, tmp_path, number, code, asks):
    child = start_run("local", steps=1000, pause=0.01, asks=asks)
    child.until(event="progress", done=5)
    child.process.send_signal(number)
    outcome = child.end()
    assert outcome["returncode"] == outcome["exit_code"] == code
    assert outcome["status"] == "interrupted"
    assert outcome["stages"] == {"train": "stopped", "retrieval": "skipped", "zero_shot": "skipped"}
    assert "start it again" in outcome["notes"][-1]
    again = start_run("local", steps=6, pause=0)
    begun = again.until(event="begin", name="train")
    assert begun["step"] >= 5 if asks else begun["step"] == 0
    assert again.end()["returncode"] == 0


def test_a_second_signal_does_not_wait(start_run):
    child = start_run("local", steps=2, pause=60)
    child.until(event="begin", name="train")
    child.process.send_signal(signal.SIGINT)
    # The stage has asked less than 30 s ago and is left alone; now it is in its long step.
    child.process.send_signal(signal.SIGTERM)
    outcome = child.end()
    assert outcome["exit_code"] in (130, 143)
    assert outcome["stages"]["train"] == "stopped"


def test_sigkill_leaves_the_store_usable(start_run, tmp_path):
    child = start_run("local", steps=1000, pause=0.01)
    child.until(event="progress", done=3)
    child.process.kill()
    child.process.wait()
    store = RunStore(tmp_path / "store")
    assert store.keys() == []
    assert store.run(store.runs()[0]).about().get("status") == "running"
    assert start_run("local").end()["returncode"] == 0
    assert len(store.keys()) == 3
