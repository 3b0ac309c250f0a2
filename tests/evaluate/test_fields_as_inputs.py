"""Fields and views that evaluators measure as they are: what does not fit is told before the run, as of encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmflow.evaluate.trial import StageCheck
from mmflow.flow.run import RunOptions, run_spec
from mmflow.spec import SpecError, load_text

COLUMNS = (
    "{words: words, kind: {modality: label, names: [a, b]}, two: {modality: vector}, three: {modality: vector}, "
    "gaps: {modality: series}, size: {modality: number}}"
)


def spec_of(folder: Path, evaluation: str) -> str:
    lines = [
        {"id": str(n), "words": f"w {n}", "kind": "ab"[n % 2], "two": [n, 1.0], "three": [n, 1.0, 2.0],
         "gaps": list(range(3 + n % 3)), "size": n}
        for n in range(24)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"""\
mmflow: 1
data: {{one: {{use: table, url: {folder}/rows.jsonl, columns: {COLUMNS}}}}}
encoders: {{text: {{use: text_transformer, of: words, width: 8, heads: 2, depth: 1}}}}
eval:
  it: {{{evaluation}}}
"""


CASES = [
    ("use: pairwise_retrieval, data: one, of: [two, three]", "pairwise_retrieval cannot measure two [24, 2] and three"),
    ("use: pairwise_retrieval, data: one, of: [two, text]", "pairwise_retrieval cannot measure two [24, 2] and text"),
    ("use: retrieval, data: one, of: [two, three]", "retrieval cannot measure two [24, 2] and three [24, 3]"),
    ("use: geometry, data: one, of: size", "needs one vector a row"),
]


@pytest.mark.parametrize(("evaluation", "said"), CASES)
def test_what_does_not_fit_is_told_before_the_run(tmp_path: Path, evaluation: str, said: str) -> None:
    (problem,) = StageCheck().of(load_text(spec_of(tmp_path, evaluation))).problems
    assert said in str(problem)
    assert str(problem).startswith("<text>:5:")


SEQUENCES = [
    ("use: retrieval, data: one, of: [two, text], score: maxsim", "retrieval (score maxsim) reads a sequence"),
    ("use: linear_probe, data: one, of: gaps, labels: kind", "linear_probe reads one vector a row"),
    ("use: knn, data: one, of: gaps, labels: kind, k: 3", "knn (score cosine) reads one vector a row"),
]


@pytest.mark.parametrize(("evaluation", "said"), SEQUENCES)
def test_a_field_of_another_form_is_refused(tmp_path: Path, evaluation: str, said: str) -> None:
    with pytest.raises(SpecError, match=r"`(two|gaps)`, a field of (vector|series)") as caught:
        load_text(spec_of(tmp_path, evaluation))
    assert said in str(caught.value)


def test_fields_of_one_size_are_measured(tmp_path: Path) -> None:
    text = spec_of(tmp_path, "use: pairwise_retrieval, data: one, of: [two, fields.two], at: [1]")
    assert StageCheck().of(load_text(text)).problems == []
    text = spec_of(tmp_path, "use: linear_probe, data: one, of: three, labels: kind")
    outcome = run_spec(load_text(text), RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert outcome.exit_code == 0
