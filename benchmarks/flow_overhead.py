"""What a run costs beside the work of its stages: without Prefect, with an API of its own, and with a running one.

    python benchmarks/flow_overhead.py [--stages 10] [--repeats 5]

Each run has stages that publish an empty result. Prints seconds of wall time; the first lines include what a new
process pays once (imports, the start of the API), the others are runs in a process that has paid.
"""

import argparse
import contextlib
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def run_once(folder: Path, engine: str, stages: int, *, cached: bool = False) -> float:
    """Seconds of `run_jobs` over `stages` empty stages, in a new store unless `cached`."""
    from mmflow.flow.engine import run_jobs
    from mmflow.flow.jobs import StageJob
    from mmflow.flow.store import RunStore
    from mmflow.identity.canonical import key_of
    from mmflow.plugin.kinds import Reporter

    store = RunStore(folder / "store" if cached else tempfile.mkdtemp(dir=folder))

    def job(name: str) -> StageJob:
        key = key_of({"name": name})

        def run(reporter: Reporter) -> None:
            reporter.progress(1, 1)
            with store.scratch() as result:
                (result / "empty").touch()
                store.publish(key, result, {}, move=True)

        return StageJob(name, key, (), run)

    jobs = [job(f"stage_{number}") for number in range(stages)]
    began = time.perf_counter()
    outcome = run_jobs(jobs, store=store, run_name="overhead", engine="local" if engine == "local" else "prefect")
    seconds = time.perf_counter() - began
    if outcome.exit_code:
        sys.exit("\n".join(outcome.notes))
    return seconds


def fresh_process(folder: Path, engine: str, stages: int, environment: dict[str, str]) -> float:
    """Seconds of a new Python process that does one run, imports of mmflow and Prefect included."""
    command = [sys.executable, __file__, "--one", str(folder), engine, "--stages", str(stages)]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


@contextlib.contextmanager
def running_api(folder: Path) -> Iterator[str]:
    """URL of an API that runs for the whole block."""
    from mmflow.flow.prefect.server import EmbeddedApi

    api = EmbeddedApi("benchmark", cache=folder).start()
    try:
        yield api.wait()
    finally:
        api.close()


def show(what: str, seconds: list[float], per: float | None = None) -> None:
    middle = statistics.median(seconds)
    ratio = f"  {middle / per:8.1f} x local" if per else ""
    print(f"{what:58s} {middle:8.3f} s  (slowest {max(seconds):.3f}){ratio}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "ENGINE"))
    options = parser.parse_args()
    stages, repeats = options.stages, options.repeats
    if options.one:
        run_once(Path(options.one[0]), options.one[1], stages)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ["MMFLOW_CACHE"] = str(folder / "cache")
        os.environ.pop("PREFECT_API_URL", None)
        print(f"{stages} stages, {repeats} repeats, median")
        local = [run_once(folder, "local", stages) for _ in range(repeats)]
        show("local", local)
        per = statistics.median(local)
        run_once(folder / "cached", "local", stages, cached=True)
        show("local, all stored", [run_once(folder / "cached", "local", stages, cached=True) for _ in range(repeats)])
        show("new process, local", [fresh_process(folder, "local", stages, {}) for _ in range(repeats)])
        show("new process, embedded API, first on this machine", [fresh_process(folder, "prefect", stages, {})])
        show("new process, embedded API", [fresh_process(folder, "prefect", stages, {}) for _ in range(repeats)])
        logging.getLogger("prefect").setLevel(logging.CRITICAL)
        with running_api(folder / "cache") as url:
            environment = {"PREFECT_API_URL": url, "PREFECT_LOGGING_LEVEL": "CRITICAL"}
            spent = [fresh_process(folder, "prefect", stages, environment) for _ in range(repeats)]
            show("new process, running API", spent)
            os.environ |= environment
            run_once(folder, "prefect", stages)
            show("running API", [run_once(folder, "prefect", stages) for _ in range(repeats)], per)
            one = [run_once(folder, "prefect", 1) for _ in range(repeats)]
            show("running API, one stage", one)
            many = [run_once(folder, "prefect", 5 * stages) for _ in range(repeats)]
            each = (statistics.median(many) - statistics.median(one)) / (5 * stages - 1)
            print(f"{'running API, each stage more':58s} {each * 1000:8.1f} ms")


if __name__ == "__main__":
    main()
