"""`select` and samplers that go by one value a row, and a column that keeps no row: told before the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmflow.evaluate.trial import StageCheck
from mmflow.spec import SpecError, load_text

SPEC = """\
mmflow: 1
data: {one: SOURCE}
encoders: {image: {use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 2}}
losses: {it: {use: uniformity, of: image}}
stages:
  base: {use: train, data: one, steps: 2, batch_size: 8, sampler: SAMPLER}
  kept: {use: select, data: one, keep: KEEP}
"""
SHAPES = "{use: shapes, size: 24, pixels: 16}"


def spec(source: str = SHAPES, sampler: str = "shuffle", keep: str = "scale") -> str:
    return SPEC.replace("SOURCE", source).replace("SAMPLER", sampler).replace("KEEP", keep)


@pytest.mark.parametrize("keep", ["masks.0", "boxes.0", "scales"])
def test_select_goes_by_one_value_a_row(keep: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(spec(keep=keep))
    assert str(caught.value).startswith("<text>:7:")


def test_a_sampler_goes_by_one_value_a_sample() -> None:
    with pytest.raises(SpecError, match="the sampler subset goes by one value a sample") as caught:
        load_text(spec(sampler="{use: subset, keep: masks.0}"))
    assert str(caught.value).startswith("<text>:6:")


@pytest.mark.parametrize(("values", "told"), [([0, 0, None, 0], True), ([0, 1, None, 0], False)])
def test_a_field_that_keeps_no_row(tmp_path: Path, values: list[int | None], told: bool) -> None:
    lines = [json.dumps({"id": str(n), "clean": value, "vector": [n, 1.0]}) for n, value in enumerate(values)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    columns = "{clean: {modality: number}, vector: {modality: vector}}"
    text = f"""
mmflow: 1
data:
  one: {{use: table, url: {tmp_path}/rows.jsonl, columns: {columns}}}
stages:
  kept: {{use: select, data: one, keep: clean}}
  seen: {{use: spectrum, data: kept, of: vector}}
"""
    problems = StageCheck().of(load_text(text)).problems
    said = [str(problem) for problem in problems if "select: no row has a value of clean" in str(problem)]
    assert len(said) == told
    assert all(one.startswith("<text>:6:") for one in said)
