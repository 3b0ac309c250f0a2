"""A text that is no reference, where a list of them may stand, is one mistake."""

from __future__ import annotations

import pytest

from mmflow.spec import SpecError, load_text

SPEC = """\
mmflow: 1
data: {one: {use: shapes, size: 24, pixels: 16}}
encoders: {image: {use: convnet4, of: image, width: 4}, other: ENTRY}
losses: {it: {use: uniformity, of: image}}
train: {data: one, steps: 1, batch_size: 8}
"""


@pytest.mark.parametrize("of", ["two words", "a..b", ".a", "a.", "x/y", ""])
@pytest.mark.parametrize("use", ["lookup, count: 4", "members", "concat"])
def test_what_is_no_reference_is_told_once(use: str, of: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.replace("ENTRY", f"{{use: {use}, of: '{of}'}}"))
    assert len(caught.value.problems) == 1
    assert "not a reference" in str(caught.value)
    assert str(caught.value).startswith("<text>:3:")


def test_too_few_of_a_list_are_told() -> None:
    with pytest.raises(SpecError, match="at least 1"):
        load_text(SPEC.replace("ENTRY", "{use: lookup, count: 4, of: []}"))
