"""Random specs of all installed components: each is refused with a line, or trains two steps and evaluates.

`pytest -s tests/random_specs/test_random_specs.py` prints the counts. These are the first; `tests/long/random_specs`
has 300, in which every component must take part, and a script for any number.
"""

from __future__ import annotations

import pytest

from tests.random_specs.counting import LEAST, Tally
from tests.random_specs.files import write
from tests.random_specs.many import carry_out_many

pytestmark = [pytest.mark.slow, pytest.mark.process]

SPECS = 40
PROCESSES = 2


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    """What became of the specs by their numbers."""
    folder = tmp_path_factory.mktemp("random") / "files"
    write(folder)
    found = Tally()
    for spec, outcome, _ in carry_out_many([(number, folder, False) for number in range(SPECS)], PROCESSES):
        found.add(spec, outcome)
    return found


def test_what_is_accepted_trains_and_evaluates(tally: Tally, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{tally}")
    assert not tally.failures, "\n\n".join(tally.failures[:3])


def test_most_are_accepted(tally: Tally) -> None:
    assert tally.states.total() == SPECS
    assert tally.accepted >= LEAST
