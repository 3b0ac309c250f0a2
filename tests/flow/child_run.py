"""A run of three stages in a process of its own, for tests that kill, stop or cancel it.

python child_run.py STORE ENGINE OPTIONS writes one JSON object a line: what a watcher sees, and last the outcome.
OPTIONS (JSON): `steps` and `pause` of the stage `train`; `asks`: whether it asks should_stop; `workers`: of its
DataLoader; `salt`: part of the keys; `stages`: how many; `fails`: the name of one that raises; `run_name`.
"""

import json
import sys
import time
from collections.abc import Iterable

from mmflow.flow.engine import run_jobs
from mmflow.flow.jobs import StageJob, Watcher
from mmflow.flow.store import RunStore
from mmflow.identity.canonical import key_of
from mmflow.plugin.kinds import Reporter, StageStopped

store = RunStore(sys.argv[1])
defaults = {"steps": 3, "pause": 0.01, "asks": True, "workers": 0, "salt": "", "stages": 3, "fails": ""}
options = defaults | {"run_name": "Clip shapes"} | json.loads(sys.argv[3])


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Speaker(Watcher):
    def stage(self, name, state, detail=""):
        say("stage", name=name, state=state)

    def progress(self, name, done, total, metrics):
        say("progress", name=name, done=done)

    def note(self, text, *, warning=False):
        say("note", text=text)


class Numbers:
    def __len__(self) -> int:
        return options["steps"]

    def __getitem__(self, index: int) -> int:
        time.sleep(options["pause"])
        return index


def steps() -> Iterable[int]:
    if options["workers"]:
        from torch.utils.data import DataLoader

        loader = DataLoader(
            Numbers(),  # pyright: ignore[reportArgumentType]
            num_workers=options["workers"],
            multiprocessing_context="forkserver",
            batch_size=1,
            prefetch_factor=1,
        )
        return (int(batch) for batch in loader)
    return range(options["steps"])


def job(name: str, *after: str) -> StageJob:
    key = key_of({"name": name, "salt": options["salt"]})

    def run(reporter: Reporter) -> None:
        saved = store.load_partial(key, "checkpoint")
        begin = int((saved / "step").read_text()) if saved else 0
        say("begin", name=name, step=begin)
        if name == options["fails"]:
            raise ValueError("no images at all")
        for step in steps() if name == "train" else range(1):
            if step < begin:
                continue
            if options["asks"] and reporter.should_stop():
                with store.scratch() as folder:
                    (folder / "step").write_text(str(step))
                    store.save_partial(key, "checkpoint", folder)
                raise StageStopped(f"saved at step {step}")
            if not options["workers"]:
                time.sleep(options["pause"])
            reporter.progress(step + 1, options["steps"], loss=1 / (step + 1))
        reporter.table("metrics", [{"at": 1, "recall": 0.5, "chance": float("nan")}])
        with store.scratch() as folder:
            (folder / "result").write_text(name)
            store.publish(key, folder, {}, move=True)
        store.drop_partial(key)

    return StageJob(name, key, after, run, {"use": name})


def finish(outcome, reporter: Reporter) -> None:
    reporter.markdown("summary", "# All is *well*")
    reporter.link("report", "file:///tmp/report.html", "the report")


if __name__ == "__main__":
    jobs = [job("train"), job("retrieval", "train"), job("zero_shot", "train")]
    jobs += [job(f"probe_{number}", "train") for number in range(3, options["stages"])]
    outcome = run_jobs(
        jobs[: options["stages"]],
        store=store,
        engine="prefect" if sys.argv[2] == "prefect" else "local",
        run_name=options["run_name"],
        watchers=[Speaker()],
        finish=finish,
    )
    say("outcome", **vars(outcome))
    sys.exit(outcome.exit_code)
