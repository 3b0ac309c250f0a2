"""Runs that are killed (SIGKILL) at a chosen event, and what must hold after any number of kills.

A run tells of its events: `step/STAGE` (a step or batch is done) and every touch of the store: `partial` (a
checkpoint), `scratch`, `refresh` (of a stage inside the training), `publish/STAGE`, `publish/memo` (encodings),
`record` (of the run). Run as a script, this is a process that has imported everything and forks a child for each run,
as a line of JSON on its standard input asks for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

SPEC = """
mmflow: 1
name: killed
data:
  train: {use: shapes, split: train, size: 48, pixels: 16}
  test: {use: shapes, split: test, size: 16, pixels: 16}
encoders:
  image:
    {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, dropout: 0.1, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.07, min: 0.01}}
  group: {use: supcon, of: image, labels: em.km.label, weight: 0.1}
train:
  {data: train, steps: 9, batch_size: 12, micro_batch_size: 6, log_every: 1, checkpoint_every: 1.0e-6,
   optimizer: {use: adamw, lr: 1e-3}, schedule: {use: cosine, warmup: 0.1},
   refresh: {em: {every: {steps: 3}, stages: {
     feats: {use: embed, data: train, of: image}, km: {use: kmeans, of: feats.image, k: 4}}}}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
  probe: {use: linear_probe, data: train, test: test, of: image, labels: label, c: [0.1]}
"""
REFRESHED = ("step/train 3", "step/train 6")
"""The steps after which the stages inside the training run."""
STAGES = ("train", "retrieval", "probe")
TIMED = ("seconds", "waited_seconds", "samples_per_second", "waiting")
"""Fields that tell how long something took: all else is equal to the bit."""


class Ended(NamedTuple):
    """One run: whether it came to its end, and its events."""

    code: int
    events: list[str]

    def steps(self, stage: str) -> list[int]:
        """The numbers of the steps of a stage that were done."""
        return [int(event.rpartition(" ")[2]) for event in self.events if event.startswith(f"step/{stage} ")]


class Runs:
    """Runs of the spec on one store, each in a process of its own."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder, self.store, self.engine = folder, folder / "store", engine
        self.kills = 0
        self.problems: list[str] = []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "MMFLOW_CACHE": str(folder / "cache"),
            "PREFECT_HOME": str(folder / "home"),
            "MMFLOW_SERVER_LINGER": "20",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, kill_at: tuple[str, int] | None = None) -> Ended:
        """Run to the end, or to the n-th event whose name begins so, which kills it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        log = self.folder / "events"
        log.write_text("")
        before, checkpoint = self.published(), self.checkpoint()
        order = {"store": str(self.store), "engine": self.engine, "log": str(log), "kill_at": kill_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ended = Ended(int(self._process.stdout.readline()), log.read_text().splitlines())
        self.kills += ended.code == -signal.SIGKILL
        self._check(before, checkpoint, ended)
        return ended

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _check(self, before: Mapping[str, str], checkpoint: int | None, ended: Ended) -> None:
        """Nothing that was stored before a run is done again in it."""
        now = self.published()
        self.problems += [f"{key} was stored again" for key, attempt in before.items() if now.get(key) != attempt]
        steps = ended.steps("train")
        if steps and steps[0] != (checkpoint or 0) + 1:
            self.problems.append(f"training began with step {steps[0]}, the newest checkpoint is of step {checkpoint}")
        if ended.code not in (0, -signal.SIGKILL):
            self.problems.append(f"a run ended with {ended.code}")

    def published(self) -> dict[str, str]:
        """By key the attempt that its manifest names."""
        found = {}
        for manifest in self.store.glob("entries/*/manifest.json"):
            found[manifest.parent.name] = json.loads(manifest.read_text())["attempt"]
        return found

    def checkpoint(self) -> int | None:
        """The step of the newest checkpoint: 0 where it holds what a refresh before the first step has made."""
        manifests = sorted(self.store.glob("partial/*/checkpoint/????????.json"))
        if not manifests:
            return None
        attempt = json.loads(manifests[-1].read_text())["attempt"]
        trainer = manifests[-1].parent / attempt / "trainer.json"
        return json.loads(trainer.read_text())["step"] if trainer.is_file() else 0

    def results(self) -> dict[str, Any]:
        """Every published file, without the times in it, by key and name."""
        found: dict[str, Any] = {}
        for key, attempt in self.published().items():
            folder = self.store / "entries" / key / attempt
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.name != "stage.json":
                    found[f"{key}/{path.relative_to(folder)}"] = _without_times(path)
        return found

    def left(self) -> list[str]:
        """Checkpoints that lie about in the store."""
        return sorted(path.name for path in self.store.glob("partial/*/*/*") if not path.name.startswith("."))

    def age(self) -> None:
        """Make the checkpoints two days old: younger ones may belong to a run that is at work."""
        for path in self.store.glob("partial/*/*/*"):
            if path.is_dir():
                stamp, _, rest = path.name.partition("-")
                old = datetime.strptime(stamp, "%Y%m%dT%H%M%S") - timedelta(days=2)
                path.rename(path.with_name(f"{old:%Y%m%dT%H%M%S}-{rest}"))
            elif not path.name.startswith("."):
                manifest = json.loads(path.read_text())
                manifest["created"] = (datetime.fromisoformat(manifest["created"]) - timedelta(days=2)).isoformat()
                path.write_text(json.dumps(manifest))


def _without_times(path: Path) -> Any:
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    values = [json.loads(line) for line in lines]
    return [{k: v for k, v in x.items() if k not in TIMED} if isinstance(x, dict) else x for x in values]


class Events:
    """In a run: writes its events down, and kills it at the chosen one."""

    def __init__(self, log: str, store: str, kill_at: tuple[str, int] | None) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self._store, self._kill_at = store, kill_at
        self._seen: Counter[str] = Counter()
        self._refreshing = False
        self.stages: dict[str, str] = {}
        """By key."""

    def happened(self, event: str) -> None:
        os.write(self._log, f"{event}\n".encode())
        if event.startswith("step/train "):
            self._refreshing = event in REFRESHED
        if self._kill_at and event.startswith(self._kill_at[0]):
            self._seen[self._kill_at[0]] += 1
            if self._seen[self._kill_at[0]] == self._kill_at[1]:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """A hook of the interpreter: openings, new folders, new names and removals below the store."""
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            return
        path = str(arguments[0])
        if not path.startswith(self._store):
            return
        place = path.removeprefix(self._store).strip("/").split("/")
        if place[0] == "entries":
            self.happened(f"publish/{self.stages.get(place[1], 'memo') if len(place) > 1 else ''}")
        elif place[0] in ("partial", "scratch", "runs"):
            name = {"runs": "record"}.get(place[0], place[0])
            # Between these steps the training does nothing else.
            self.happened("refresh" if name == "scratch" and self._refreshing else name)


def _child(order: dict[str, Any]) -> int:
    from mmflow.flow.plan import build_plan
    from mmflow.flow.run import RunOptions, run_spec
    from mmflow.plugin import hookimpl
    from mmflow.plugin.registry import registry
    from mmflow.spec import load_text

    events = Events(order["log"], order["store"], order["kill_at"])

    class Steps:
        @hookimpl
        def mmflow_step_done(self, stage: str, step: int) -> None:
            events.happened(f"step/{stage} {step}")

    registry().plugins.register(Steps(), name="steps")
    spec = load_text(SPEC)
    events.stages = {stage.key: stage.name for stage in build_plan(spec)}
    sys.addaudithook(events.audit)
    options = RunOptions(store=order["store"], engine=order["engine"], device="cpu")
    return run_spec(spec, options).exit_code


def main() -> None:
    """Fork a child for each order, and answer with its exit code, or the number of the signal that ended it."""
    import prefect.main  # noqa: F401
    import torch  # noqa: F401

    import mmflow.evaluate.harness
    import mmflow.flow.prefect.engine
    import mmflow.flow.report
    import mmflow.train.trainer  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.dup2(2, 1)
                code = _child(json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
