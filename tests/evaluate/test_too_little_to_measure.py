"""Too few rows or classes are told with numbers: before a run where counting tells, else as one message."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_evaluators.similarity.kernels import unbiased_cka
from mmflow_evaluators.vectors import numbers_of

from mmflow.flow.run import RunOptions, RunOutcome, rehearse, run_spec
from mmflow.plugin import ABSENT, Encoder, TensorType
from mmflow.spec import SpecError, load_text

SPEC = """\
mmflow: 1
name: little
data:
  train: {use: table, url: FOLDER/train.jsonl, columns: COLUMNS}
  test: {use: table, url: FOLDER/test.jsonl, columns: COLUMNS}
encoders:
  text: {use: text_transformer, of: words, width: 16, heads: 2, depth: 1}
  again: {use: same, weights: text, of: other}
eval:
  e: {use: EVALUATION}
"""
COLUMNS = "{words: {modality: text}, other: {modality: text}, kind: {modality: label, names: [a, b, c]}, size: size}"


def table(path: Path, kinds: str, **always: Any) -> None:
    """A row for each letter of `kinds`, the name of its class (`.` for none)."""
    rows = [
        {"id": str(n), "words": f"{kind} {n}", "other": f"{kind} {n % 3}", "size": n, **always}
        | {"kind": None if kind == "." else kind}
        for n, kind in enumerate(kinds)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def spec_of(folder: Path, evaluation: str, train: str = "ab" * 8, test: str = "ab" * 4, **always: Any) -> str:
    table(folder / "train.jsonl", train, **always)
    table(folder / "test.jsonl", test, **always)
    return SPEC.replace("COLUMNS", COLUMNS).replace("FOLDER", str(folder)).replace("EVALUATION", evaluation)


def refused(text: str) -> str:
    with pytest.raises(SpecError) as error:
        rehearse([(load_text(text), ["e"])])
    return str(error.value)


BOTH = "data: train, test: test, of: text, labels: kind"
ONE = "data: test, of: text, labels: kind"
CASES: list[tuple[str, Mapping[str, str], str]] = [
    (f"knn, {BOTH}", {}, "k is 20, and 16 labeled rows can vote"),
    (f"knn, {ONE}, k: 8", {}, "k is 8, and 7 labeled rows can vote"),
    (f"knn, {BOTH}, k: 2", {"train": "aaaa"}, "4 labeled rows of one class, and a vote needs two classes"),
    (f"knn, {BOTH}, k: 2", {"test": "cc"}, "none of the 2 rows to be tested on has one of the 2 classes learned from"),
    (f"linear_probe, {BOTH}", {"train": "bbb.."}, "3 labeled rows of one class, and a classifier needs two"),
    (f"linear_probe, {BOTH}", {"test": "..."}, "no row to be tested on has a label"),
    (f"clustering, {ONE}, clusters: [2, 9]", {}, "9 clusters of 8 labeled rows"),
    (f"clustering, {ONE}", {"test": "c"}, "1 labeled row of one class"),
    (f"few_shot, {ONE}, ways: 3", {}, "3 classes with 1 + 15 rows each, and 0 of 2 classes have so many"),
    (f"k_shot_probe, {BOTH}, shots: [9, 12]", {}, "0 of 2 classes have 9 rows to learn from, two are needed"),
    (f"open_set, {BOTH}, by: neighbor, k: 17", {"test": "abc"}, "k is 17, and the data has 16 labeled rows"),
    (f"open_set, {BOTH}", {}, "8 rows of a class of the data and 0 of others"),
    (f"category_discovery, {BOTH}, clusters: 25", {}, "25 clusters for 2 known classes and 24 rows"),
    ("factor_probe, data: train, of: text, factors: [kind]", {"train": "aa"}, "no rows of kind have two classes"),
    (f"zero_shot, {ONE.replace('text', '[again, text]')}", {"test": "...."}, "no row has a label"),
    ("retrieval, data: test, of: [text, again]", {"test": "a"}, "retrieval needs 2 rows, and the data has 1"),
    ("geometry, data: test, of: text", {"test": "b"}, "geometry needs 2 rows, and the data has 1"),
    ("representation_similarity, data: test, of: [text, again]", {}, "8 rows for k = 10"),
    ("similarity_correlation, data: test, of: [text, again], target: size", {"test": "ab"}, "needs 3 rows, and"),
]


@pytest.mark.parametrize(("evaluation", "data", "said"), CASES)
def test_too_few_rows_or_classes_are_told_before_the_run(
    tmp_path: Path, evaluation: str, data: Mapping[str, str], said: str
) -> None:
    message = refused(spec_of(tmp_path, evaluation, **data))
    assert said in message, message
    assert message.startswith("<text>:10:"), message


@pytest.mark.parametrize(
    "evaluation", [f"knn, {BOTH}, k: 4", f"linear_probe, {BOTH}", f"few_shot, {ONE}, queries: 1, ways: 2"]
)
def test_enough_is_enough(tmp_path: Path, evaluation: str) -> None:
    rehearse([(load_text(spec_of(tmp_path, evaluation)), ["e"])])


def measured(tmp_path: Path, text: str) -> RunOutcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = run_spec(load_text(text), RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu"))
    assert not [one for one in caught if "sklearn" in one.filename], "no warnings of another library"
    return outcome


def test_what_only_the_embeddings_tell_is_one_message_with_numbers(tmp_path: Path) -> None:
    # Half of the rows have no text: ten can vote, as counting labels alone does not know.
    text = spec_of(tmp_path, f"knn, {BOTH}, k: 12")
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    halved = [json.dumps(json.loads(line) | ({"words": None} if n % 2 else {})) for n, line in enumerate(lines)]
    (tmp_path / "train.jsonl").write_text("\n".join(halved) + "\n")
    outcome = measured(tmp_path, text)
    assert outcome.exit_code == 1
    assert "knn of text: 8 labeled rows of one class, and a vote needs two classes" in outcome.outcome.notes[0]


def test_a_field_without_any_value_is_told_by_name_before_the_run(tmp_path: Path) -> None:
    text = spec_of(tmp_path, "retrieval, data: test, of: [text, again]", words=None)
    assert "no sample of the data has 'words'" in refused(text)


class Constant(Encoder, name="constant_of_tests"):
    """The same vector for every row."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", inputs[0].axes, (5,))}

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x.reshape(-1, 1) + torch.linspace(0.1, 1.3, 5)


@pytest.mark.parametrize(
    ("evaluation", "value", "chance"),
    [
        ("knn, data: train, of: [still], labels: kind, k: 3", None, None),
        ("retrieval, data: test, of: [still, too], at: [1]", 1 / 8, 1 / 8),
        ("clustering, data: train, of: still, labels: kind, clusters: 4", 1, None),
        ("calibration, data: test, of: [text, text], labels: kind", None, 1 / 3),
    ],
)
def test_constant_vectors_are_at_chance_without_warnings(
    tmp_path: Path, register: Callable[..., None], evaluation: str, value: float | None, chance: float | None
) -> None:
    register(Constant)
    encoders = "  still: {use: constant_of_tests, of: size}\n  too: {use: constant_of_tests, of: size}\neval:"
    text = spec_of(tmp_path, evaluation).replace("eval:", encoders)
    outcome = measured(tmp_path, text)
    assert outcome.exit_code == 0, outcome.outcome.notes
    first = outcome.metrics["e"][0]
    assert value is None or first["value"] == pytest.approx(value)
    assert chance is None or first["chance"] == pytest.approx(chance)


def test_equal_rows_have_no_alignment_of_kernels() -> None:
    import numpy as np

    rows = np.full((40, 16), 0.37)
    assert math.isnan(unbiased_cka(rows, np.random.default_rng(0).normal(size=(40, 3))))
    assert math.isnan(unbiased_cka(rows, rows * 3))


def test_absent_integers_are_no_numbers() -> None:
    column = torch.tensor([3, ABSENT, -1, 0])
    assert numbers_of(column).tolist()[::2] == [3.0, -1.0]
    assert math.isnan(numbers_of(column)[1])
    assert math.isnan(numbers_of([None, 2])[0])
