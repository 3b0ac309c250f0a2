"""A source inside a source may be named by its entry: it is what is written there, for keys and files too."""

from __future__ import annotations

import pytest

from mmflow.identity.keys import Keys
from mmflow.plugin import Target
from mmflow.spec import load_text
from mmflow.spec.text.problems import SpecError

SPEC = """
mmflow: 1
name: named
data:
{data}
encoders:
  image: {{use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2}}
losses:
  spread: {{use: uniformity, of: image}}
train: {{data: train, epochs: 1, batch_size: 4}}
"""

NAMED = """
  all: {use: digits, split: all, pixels: 16}
  some: {use: filter, of: data.all, where: {label: [one, two]}}
  train: {use: split, of: data.some, part: train}
  test: {use: concat, of: [{use: split, of: data.some, part: test}, data.all]}
"""
WRITTEN_OUT = """
  all: {use: digits, split: all, pixels: 16}
  some: {use: filter, of: {use: digits, split: all, pixels: 16}, where: {label: [one, two]}}
  train:
    use: split
    of: {use: filter, of: {use: digits, split: all, pixels: 16}, where: {label: [one, two]}}
    part: train
  test:
    use: concat
    of:
      - use: split
        of: {use: filter, of: {use: digits, split: all, pixels: 16}, where: {label: [one, two]}}
        part: test
      - {use: digits, split: all, pixels: 16}
"""


def test_a_named_source_is_what_its_entry_says() -> None:
    named, written = (load_text(SPEC.format(data=data)) for data in (NAMED, WRITTEN_OUT))
    assert named == written
    assert named.to_yaml() == written.to_yaml()
    assert load_text(named.to_yaml()) == named
    for name in named.data:
        entry = Target("data", name)
        assert Keys(named).data(entry) == Keys(written).data(entry)
    assert len(named.data["test"].open()) > len(named.data["all"].open())


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("  train: {use: subset, of: data.rain, size: 3}", ["data.rain is no entry of data", "did you mean train?"]),
        ("  train: {use: subset, of: losses.spread, size: 3}", ["losses.spread is no entry of data"]),
        ("  train: {use: subset, of: data.train, size: 3}", ["made of itself: train -> train"]),
        (
            "  train: {use: subset, of: data.b, size: 3}\n  b: {use: concat, of: [{use: digits}, data.train]}",
            ["made of itself: train -> b -> train"],
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_one_problem(data: str, told: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.format(data=data))
    (problem,) = caught.value.problems
    assert all(words in str(problem) for words in told)
