"""Random specs by their numbers, in processes of their own: `python tests/long/random_specs/run.py --count 2000`.

Each is refused with a message that has a line, or trains two steps and evaluates. Every so many (`--mistakes`) one that
`check` accepts is checked again with one mistake, which is told with its line. Prints the counts, the components that
too few have, and every spec that failed with what was said; ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tests.random_specs.composition import RandomSpec, compose  # noqa: E402
from tests.random_specs.counting import Tally  # noqa: E402
from tests.random_specs.files import Files, write  # noqa: E402
from tests.random_specs.mistakes import MISTAKES, Nowhere, planted  # noqa: E402
from tests.random_specs.registered import register_partners  # noqa: E402
from tests.random_specs.running import Outcome, carry_out  # noqa: E402

LEAST = 0.6
"""Share of the specs that must be accepted."""


def one(work: tuple[int, Path, bool]) -> tuple[RandomSpec, Outcome, list[str]]:
    """The spec of a number, what became of it, and what was said of it with a mistake."""
    number, folder, with_mistake = work
    register_partners()
    spec = compose(number, Files(folder))
    outcome = carry_out(spec.text)
    return spec, outcome, [*mistaken(spec, number)] if with_mistake and outcome.state == "accepted" else []


def mistaken(spec: RandomSpec, number: int) -> Iterator[str]:
    """How `check` takes the spec with one mistake: `told`, or what is wrong."""
    import yaml

    from mmflow.spec import SpecError, load_text
    from mmflow.spec.text.yaml_writer import write_yaml

    mistake = MISTAKES[number % len(MISTAKES)]
    try:
        text = write_yaml(planted(yaml.safe_load(spec.text), mistake, Random(number)))
    except Nowhere:
        return
    try:
        load_text(text)
    except SpecError as refused:
        lines = all(problem.mark is not None and problem.mark.line > 0 for problem in refused.problems)
        yield "told" if lines else f"{mistake.__name__}: without a line: {refused}"
    except Exception as error:  # whatever leaves the check is a fault
        yield f"{mistake.__name__}: {type(error).__name__}: {error}\n{text}"
    else:
        yield f"{mistake.__name__}: accepted\n{text}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mistakes", type=int, default=1, help="one in so many accepted specs gets a mistake; 0: none")
    arguments = parser.parse_args()
    tally, told, wrong = Tally(), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "files")
        numbers = range(arguments.first, arguments.first + arguments.count)
        work = [(n, Path(folder) / "files", bool(arguments.mistakes) and n % arguments.mistakes == 0) for n in numbers]
        # Begun anew, as torch does not survive a fork; ended now and then, as graphs of libraries pile up.
        context = multiprocessing.get_context("spawn")
        with context.Pool(arguments.processes, maxtasksperchild=200) as pool:
            for done, (spec, outcome, mistakes) in enumerate(pool.imap(one, work), 1):
                tally.add(spec, outcome)
                told["mistakes"] += len(mistakes)
                told["told"] += mistakes.count("told")
                wrong += [said for said in mistakes if said != "told"]
                if done % 50 == 0:
                    print(str(tally).splitlines()[0], file=sys.stderr, flush=True)
    print("\n\n".join([*tally.failures, *wrong]))
    print(tally)
    print(f"mistakes: {told['told']} of {told['mistakes']} told with their line")
    print(f"in too few accepted specs: {tally.lacking() or 'none'}")
    return int(bool(tally.failures or wrong or tally.lacking() or tally.accepted < LEAST))


if __name__ == "__main__":
    raise SystemExit(main())
