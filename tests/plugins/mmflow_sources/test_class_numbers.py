"""Two tables that number one class differently do not meet in a stage that compares labels by number."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.spec import load_text
from mmflow.spec.text.problems import SpecError

SPEC = """
mmflow: 1
name: two-tables
data:
  train: {{use: table, url: "{folder}/train.csv"{names}}}
  test: {{use: table, url: "{folder}/test.csv"{names}}}
encoders:
  text: {{use: text_transformer, of: text, width: 16, depth: 1, heads: 2, length: 8}}
losses:
  spread: {{use: uniformity, of: text}}
train: {{data: train, epochs: 1, batch_size: 2}}
eval:
  probe: {{use: linear_probe, data: train, test: test, of: text, labels: label}}
"""


def write(folder: Path, train: str, test: str) -> None:
    for name, labels in (("train", train), ("test", test)):
        lines = ["text,label", *(f"word {n},{label}" for n, label in enumerate(labels.split()))]
        (folder / f"{name}.csv").write_text("\n".join(lines))


def test_a_class_with_two_numbers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "ant cat dog", "cat dog")
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.format(folder=tmp_path, names=""))
    (problem,) = caught.value.problems
    message = str(problem)
    assert "class 'cat' of label is number 1 in train and 0 in test" in message
    assert "train: ant, cat, dog; test: cat, dog" in message
    assert "names" in message


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        ("ant cat dog", "dog cat ant", ""),
        ("ant cat dog", "ant cat", ""),
        ("0 1 2", "2 0 1", ""),
        ("0 1 2", "2 2", ", columns: {text: text, label: {column: label, names: [0, 1, 2]}}"),
        ("ant cat dog", "cat dog", ", columns: {text: text, label: {column: label, names: [dog, cat, ant]}}"),
    ],
)
def test_classes_with_one_number_pass(tmp_path: Path, train: str, test: str, names: str) -> None:
    write(tmp_path, train, test)
    load_text(SPEC.format(folder=tmp_path, names=names))
