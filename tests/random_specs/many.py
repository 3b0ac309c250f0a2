"""Many random specs by their numbers, in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from tests.random_specs.composition import RandomSpec, compose
from tests.random_specs.files import Files
from tests.random_specs.mistakes import MISTAKES, Nowhere, planted
from tests.random_specs.registered import register_partners
from tests.random_specs.running import Outcome, carry_out

Work = tuple[int, Path, bool]
"""The number of a spec, the folder of the data, and whether it is checked again with a mistake."""
Done = tuple[RandomSpec, Outcome, list[str]]
"""A spec, what became of it, and what was said of it with a mistake."""


def carry_out_many(work: Iterable[Work], processes: int) -> Iterator[Done]:
    """The specs in the order of `work`, however many processes carry them out."""
    # Begun anew, as torch does not survive a fork; ended now and then, as graphs of libraries pile up.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, maxtasksperchild=200) as pool:
        yield from pool.imap(_one, work)


def _one(work: Work) -> Done:
    number, folder, with_mistake = work
    register_partners()
    spec = compose(number, Files(folder))
    outcome = carry_out(spec.text)
    return spec, outcome, [*_mistaken(spec, number)] if with_mistake and outcome.state == "accepted" else []


def _mistaken(spec: RandomSpec, number: int) -> Iterator[str]:
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
