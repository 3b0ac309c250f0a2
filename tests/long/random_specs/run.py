"""Random specs by their numbers, in processes of their own: `python tests/long/random_specs/run.py --count 2000`.

Each is refused with a message that has a line, or trains two steps and evaluates. Every so many (`--mistakes`) one that
`check` accepts is checked again with one mistake, which is told with its line. Prints the counts, the components that
too few have, and every spec that failed with what was said; ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tests.random_specs.counting import LEAST, Tally  # noqa: E402
from tests.random_specs.files import write  # noqa: E402
from tests.random_specs.many import carry_out_many  # noqa: E402
from tests.random_specs.registered import register_partners  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mistakes", type=int, default=1, help="one in so many accepted specs gets a mistake; 0: none")
    arguments = parser.parse_args()
    register_partners()
    tally, told, wrong = Tally(), Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "files")
        numbers = range(arguments.first, arguments.first + arguments.count)
        work = [(n, Path(folder) / "files", bool(arguments.mistakes) and n % arguments.mistakes == 0) for n in numbers]
        for done, (spec, outcome, mistakes) in enumerate(carry_out_many(work, arguments.processes), 1):
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
