"""The digits of scikit-learn as a source, and the plain samplers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmflow_samplers.sequential import Sequential
from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.digits import NAMES, Digits
from sklearn.datasets import load_digits

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import Draw, Target


def test_splits_are_disjoint_and_together_all() -> None:
    train, test, everything = (Digits(split=split).open() for split in ("train", "test", "all"))
    ids = [{reader.id(index) for index in range(len(reader))} for reader in (train, test, everything)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == ids[2]
    assert len(ids[2]) == 1797
    assert 300 < len(test) < 420
    for reader in (train, test):
        assert set(reader.labels.tolist()) == set(range(10))


def test_images_and_labels_are_those_of_the_data_set() -> None:
    data = load_digits()
    reader = Digits(split="test", pixels=8).open()
    for index in range(len(reader)):
        sample = reader[index]
        number = int(sample["id"].removeprefix("digit-"))
        assert sample["label"] == data.target[number]
        assert np.abs(sample["image"][..., 0] / 255 * 16 - data.images[number]).max() < 0.04
        assert NAMES[sample["label"]] in sample["caption"].split()
        assert reader.index(sample["id"]) == index
    assert Digits(pixels=40).open()[0]["image"].shape == (40, 40, 3)


def test_captions_vary_by_seed_and_stay_by_sample() -> None:
    one, same, other = (Digits(seed=seed).open() for seed in (0, 0, 1))
    captions = [[reader[index]["caption"] for index in range(100)] for reader in (one, same, other)]
    assert captions[0] == captions[1] != captions[2]
    assert len({caption.replace(name, "") for caption in captions[0] for name in NAMES if name in caption}) >= 6
    assert not any("a eight" in caption for caption in captions[0])


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 4), st.booleans())
def test_a_shuffled_epoch_has_every_sample_once(length: int, batch_size: int, epoch: int, drop: bool) -> None:
    sampler = Shuffle(drop_last=drop)
    batches = list(sampler.batches(Draw(length, batch_size, 1, epoch)))
    assert len(batches) == sampler.count(Draw(length, batch_size, 1, epoch)) > 0
    drawn = [index for batch in batches for index in batch]
    assert len(set(drawn)) == len(drawn)
    assert len(drawn) == (length - length % batch_size if drop and length >= batch_size else length)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    again = list(sampler.batches(Draw(length, batch_size, 1, epoch)))
    assert again == batches


def test_orders() -> None:
    assert list(Sequential().batches(Draw(5, 2, 0, 3))) == [range(2), range(2, 4)]
    orders = {tuple(next(Shuffle().batches(Draw(50, 50, seed, epoch)))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 3))
def test_blocks_stay_together_and_all_come_once(length: int, block: int, epoch: int) -> None:
    order = list(Shuffle(block=block).order(Draw(length, 1, 0, epoch)))
    assert sorted(order) == list(range(length))
    for start in range(0, length, 8 * block):
        # The cut last block shifts what follows it: a window meets at most two runs of eight blocks.
        assert len({index // block for index in order[start : start + 8 * block]}) <= 16
    if length > 2 * 8 * block:
        assert order != list(range(length))


@pytest.mark.process
def test_loader_processes_read_them() -> None:
    """The reader travels to them with its array, larger than what pickle puts into one piece."""
    source, sampler = Digits(split="all"), Sequential(drop_last=False)
    request = ColumnRequest("label", Target("fields", "label"))
    with Loader(source, {}, [request], sampler=sampler, batch_size=900, seed=0, workers=1) as loader:
        labels = [int(label) for batch in loader.epoch(0) for label in batch.columns["label"].values]
    assert sorted(labels) == sorted(load_digits().target.tolist())
