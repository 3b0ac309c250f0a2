"""Sentences with known relations, a graph with planted groups, planted noise."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from mmflow_samplers.shuffle import Shuffle
from mmflow_synthetic.graphs import Graphs
from mmflow_synthetic.noisy import Noisy
from mmflow_synthetic.sentences import SLOTS, TENTHS, Sentences
from mmflow_synthetic.shapes import Shapes
from pydantic import ValidationError

from mmflow.data import ColumnRequest, Loader, scan, static_columns
from mmflow.plugin import ComponentError
from mmflow.plugin.targets import Target


def parts(text: str, words: int = 0) -> dict[str, int]:
    """The parts that a sentence names, read from its words."""
    return {
        slot: number for slot, options in SLOTS.items() for number, option in enumerate(options)
        if f" {option[words]} " in f" {text.replace(',', '')} "
    }  # fmt: skip


def test_sentences_mean_what_their_parts_say() -> None:
    reader = Sentences(size=300).open()
    translations: dict[str, tuple[int, ...]] = {}
    for index in range(len(reader)):
        sample = reader[index]
        truth = {slot: sample[slot] for slot in SLOTS}
        assert parts(sample["sentence"]) == truth
        assert parts(sample["paraphrase"], words=1) == truth
        shared = set(sample["sentence"].split()) & set(sample["paraphrase"].replace(",", "").split())
        assert shared <= {"the", "a", "an", "in", "on", "at", "near", "by"}
        assert " does not " in sample["negation"]
        assert parts(sample["swapped"]) == truth
        assert sample["swapped"].split()[1] == SLOTS["agent"][truth["agent"]][0]
        other = parts(sample["other"])
        equal = sum(other[slot] == truth[slot] for slot in SLOTS)
        assert sample["similarity"] == equal / 5
        key = tuple(truth.values())
        assert translations.setdefault(sample["translation"], key) == key
        assert len(sample["translation"].split()) == 5
        assert not set(sample["translation"].split()) & set(sample["sentence"].split())
    assert {reader[n]["similarity"] for n in range(60)} == {0, 0.2, 0.4, 0.6, 0.8, 1}


def test_a_meaning_belongs_to_one_split_whatever_the_seed() -> None:
    texts = ("sentence", "paraphrase", "negation", "swapped", "translation", "other")
    said: dict[str, set[str]] = {}
    for split in TENTHS:
        readers = [Sentences(size=400, split=split, seed=seed).open() for seed in (0, 1)]
        said[split] = {reader[n][text] for reader in readers for n in range(400) for text in texts}
    assert not said["train"] & said["test"]
    assert not said["train"] & said["validation"]
    assert not said["validation"] & said["test"]
    with pytest.raises(ValidationError):
        Sentences.model_validate({"split": "dev"})


def test_types_of_nodes_and_meta_paths_are_read_back_from_who_wrote_what_and_where() -> None:
    source = Graphs(authors=150, papers=900, groups=3, venues=12, mixing=0.1)
    graph = source.open().static()
    wrote, venue = graph["node.papers"], np.array(graph["paper.venue"])
    assert set(np.unique(wrote)) == {0, 1}
    assert wrote.sum(0).min() >= 1
    shown = np.eye(12)[venue]
    for name, path in (("node.coauthors", wrote @ wrote.T), ("node.venues", wrote @ shown @ (wrote @ shown).T)):
        off_diagonal = path * (1 - np.eye(len(path)))
        assert (graph[name] == off_diagonal).all()
    fields = {kind: np.array(graph[f"{kind}.label"]) for kind in ("node", "paper", "venue")}
    writers = np.stack([wrote[fields["node"] == field].sum(0) for field in range(3)])
    assert (writers.argmax(0) == fields["paper"]).mean() > 0.9
    papers = np.stack([wrote[:, fields["paper"] == field].sum(1) for field in range(3)])
    assert (papers.argmax(0) == fields["node"]).mean() > 0.95
    held = np.stack([shown[fields["paper"] == field].sum(0) for field in range(3)])
    assert (held.argmax(0) == fields["venue"]).all()
    types = source.fields()
    assert len(set(graph["node.id"] + graph["paper.id"] + graph["venue.id"])) == 150 + 900 + 12
    for name, value in graph.items():
        assert len(value) == {"node": 150, "paper": 900, "venue": 12}[types[name].axes[0]]


def test_authors_of_a_field_write_together() -> None:
    source = Graphs(authors=120, papers=500, groups=3, mixing=0.1)
    graph = source.open().static()
    label = np.array(graph["node.label"])
    same = label[:, None] == label[None, :]
    for name in ("node.coauthors", "node.venues"):
        links = graph[name]
        assert (links == links.T).all()
        assert (np.diag(links) == 0).all()
        assert links[same].mean() > 3 * links[~same].mean()
    means = np.stack([graph["node.x"][label == group].mean(0) for group in range(3)])
    nearest = ((graph["node.x"][:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == label).mean() > 0.8
    np.testing.assert_equal(source.open().static()["node.x"], graph["node.x"])
    assert not np.array_equal(Graphs(authors=120, seed=1).open().static()["node.label"], label)


def test_a_graph_is_one_pass_an_epoch_and_its_fields_are_static() -> None:
    source = Graphs(authors=40, papers=60, venues=8)
    requests = [ColumnRequest(name, Target("fields", name)) for name in source.fields()]
    columns = static_columns(source, requests)
    assert columns["node.x"].values.shape == (40, 16)
    assert columns["node.venues"].values.shape == (40, 40)
    assert columns["node.x"].axes == ("node",)
    assert columns["node.id"].values[3] == "author-3"
    loader = Loader(source, {}, [], sampler=Shuffle(), batch_size=8, seed=0)
    (batch,) = loader.epoch(0)
    assert (batch.size, loader.count(0), loader.length) == (0, 1, 0)
    assert list(loader.epoch(0, start=1)) == []


def test_planted_noise_has_its_share_and_its_truth() -> None:
    inner = Shapes(size=1000, pixels=16)
    source = Noisy(of=inner, labels={"label": 0.4, "color": 0.1}, pairs={"caption": 0.25})
    wanted = (
        "label", "true.label", "noisy.label", "color", "noisy.color", "caption", "true.caption", "noisy.caption"
    )  # fmt: skip
    (batch,) = scan(source, {}, [ColumnRequest(n, Target("fields", n)) for n in wanted], batch_size=1000)
    column: dict[str, Any] = {name: batch.columns[name].values for name in wanted}
    reader = inner.open()
    truth = [reader.read(n, ("label", "caption")) for n in range(1000)]
    assert column["true.label"].tolist() == [sample["label"] for sample in truth]
    changed = column["label"] != column["true.label"]
    assert (changed == column["noisy.label"]).all()
    assert 0.35 < changed.float().mean() < 0.45
    assert 0.07 < column["noisy.color"].float().mean() < 0.13
    assert column["true.caption"] == [sample["caption"] for sample in truth]
    wrong = [said != sample["caption"] for said, sample in zip(column["caption"], truth, strict=True)]
    assert sum(wrong) >= 0.98 * int(column["noisy.caption"].sum())
    assert all(column["noisy.caption"][n] for n in np.flatnonzero(wrong))
    assert 0.2 < np.mean(wrong) < 0.3
    shift = Counter(((column["label"] - column["true.label"]) % 48)[changed].tolist())
    assert len(shift) > 40
    assert source.open().read(5, ("label",))["label"] == int(column["label"][5])


def test_noise_upon_noise_keeps_both_truths() -> None:
    inner = Noisy(of=Shapes(size=300, pixels=16), labels={"label": 0.5})
    reader, clean = Noisy(of=inner, pairs={"caption": 0.5}).open(), inner.open()
    sample = reader.read(3, ("noisy.label", "true.label", "noisy.caption"))
    assert set(sample) == {"id", "noisy.label", "true.label", "noisy.caption"}
    for index in range(300):
        mine, before = reader[index], clean[index]
        assert all(mine[name] == before[name] for name in ("label", "true.label", "noisy.label"))
        assert mine["true.caption"] == before["caption"]
    with pytest.raises(ComponentError, match="corrupted already"):
        Noisy(of=inner, labels={"label": 0.5}).fields()


def test_any_source_and_any_field_can_be_given_to_other_samples() -> None:
    images = Noisy.model_validate({"of": {"use": "digits"}, "pairs": {"image": 0.3}, "labels": {"label": 0.1}})
    reader = images.open()
    same = [np.array_equal(reader[n]["image"], reader[n]["true.image"]) for n in range(200)]
    assert [not reader[n]["noisy.image"] for n in range(200)] == same
    assert 0.6 < np.mean(same) < 0.8


def test_noise_that_cannot_be_planted_is_refused() -> None:
    with pytest.raises(ValidationError):
        Noisy(of=Shapes())
    with pytest.raises(ValidationError):
        Noisy(of=Shapes(), labels={"label": 1.5})
    with pytest.raises(ComponentError, match="no field 'lable'"):
        Noisy(of=Shapes(), labels={"lable": 0.5}).fields()
    with pytest.raises(ComponentError, match="no label"):
        Noisy(of=Shapes(), labels={"caption": 0.5}).fields()
    with pytest.raises(ComponentError, match="several labels"):
        Noisy(of=Shapes(), labels={"things": 0.5}).fields()
