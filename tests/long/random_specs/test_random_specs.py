"""Random specs of all installed components: each is refused with a line, or trains two steps and evaluates.

`pytest -s tests/long/random_specs -o norecursedirs=` prints the counts of the first 300; `run.py` beside goes
through any number. They are here until these 300 meet their bounds: the last whole run had 14 that failed in training.
"""

from __future__ import annotations

import pytest

from tests.random_specs.composition import compose
from tests.random_specs.conftest import partners
from tests.random_specs.counting import Tally
from tests.random_specs.files import write
from tests.random_specs.running import carry_out

pytestmark = pytest.mark.slow
__all__ = ["partners"]

SPECS = 300
ACCEPTED = 0.6
"""Share of the specs that must be accepted: a check that refuses everything proves nothing."""


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    """What became of the specs by their numbers."""
    found = Tally()
    files = write(tmp_path_factory.mktemp("random") / "files")
    for number in range(SPECS):
        spec = compose(number, files)
        found.add(spec, carry_out(spec.text))
    return found


def test_what_is_accepted_trains_and_evaluates(tally: Tally, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{tally}")
    assert not tally.failures, "\n\n".join(tally.failures[:3])


def test_most_are_accepted(tally: Tally) -> None:
    assert tally.states.total() == SPECS
    assert tally.accepted >= ACCEPTED


def test_every_component_takes_part(tally: Tally) -> None:
    assert tally.lacking() == {}
