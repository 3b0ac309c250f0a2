"""Two tables that number one class differently do not meet in a stage that compares labels by number."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.plugin import ComponentError
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


def test_numbers_are_compared_under_names_of_streams_too(tmp_path: Path) -> None:
    write(tmp_path, "ant cat dog", "cat dog")
    text = SPEC.replace("of: text, width", "of: some.text, width").replace("data: train, ", "data: {{some: train}}, ")
    text = text.replace("labels: label", "labels: some.label")
    with pytest.raises(SpecError) as caught:
        load_text(text.format(folder=tmp_path, names=""))
    (problem,) = caught.value.problems
    assert "class 'cat' of label is number 1 in train and 0 in test" in str(problem)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("1 4 7 10", "1.0 4.0 7.0 10.0", "number 0 of label is the class '1' in train and '1.0' in test"),
        ("ant cat", "ant bee", "number 1 of label is the class 'cat' in train and 'bee' in test"),
        ("ant cat", "{one} dog", "number 0 of label is the class 'ant' in train and 'dog' in test"),
    ],
)
def test_a_number_with_two_classes_is_refused(tmp_path: Path, train: str, test: str, said: str) -> None:
    write(tmp_path, train, test)
    with pytest.raises(SpecError) as caught:
        load_text(SPEC.format(folder=tmp_path, names=""))
    (problem,) = caught.value.problems
    assert said in str(problem)


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


@pytest.mark.parametrize(
    ("labels", "names"), [("3 7 3", ("3", "7")), ("12 5 100", ("5", "12", "100")), ("0 2", ("0", "2"))]
)
def test_numbers_that_nobody_named_are_classes_only_where_they_stand(
    tmp_path: Path, labels: str, names: tuple[str, ...]
) -> None:
    import numpy as np
    from mmflow_sources.arrays import Arrays
    from mmflow_sources.table import Table

    numbers = [int(label) for label in labels.split()]
    write(tmp_path, labels, labels)
    np.savez(tmp_path / "x.npz", label=np.array(numbers), x=np.zeros((len(numbers), 2), np.float32))
    for source in (Table(url=str(tmp_path / "train.csv")), Arrays(url=str(tmp_path / "x.npz"))):
        assert source.fields()["label"].names == names
        reader = source.open()
        assert [names[reader[place]["label"]] for place in range(len(numbers))] == labels.split()


def test_minus_one_among_numbers_is_no_class(tmp_path: Path) -> None:
    from mmflow_sources.table import Table

    write(tmp_path, "4 -1 2", "4")
    source = Table(url=str(tmp_path / "train.csv"))
    assert source.fields()["label"].names == ("2", "4")
    assert [source.open()[place]["label"] for place in range(3)] == [1, None, 0]


def test_names_in_another_order_than_the_table_states_are_matched(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from mmflow_sources.table import Table

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]}, features=features)
    data.to_parquet(str(tmp_path / "t.parquet"))
    for names in (["cat", "dog"], ["dog", "cat"], ["bird", "dog", "cat"]):
        columns = {"label": {"names": names, "modality": "label"}}
        reader = Table.model_validate({"url": str(tmp_path / "t.parquet"), "columns": columns}).open()
        assert [names[reader[place]["label"]] for place in range(3)] == ["cat", "dog", "cat"]
    columns = {"label": {"names": ["cat", "bird"], "modality": "label"}}
    with pytest.raises(ComponentError, match="`names` lacks 'dog'"):
        Table.model_validate({"url": str(tmp_path / "t.parquet"), "columns": columns}).open()
