"""Facts of every source of synthetic data: samples depend on seed, split and number alone, splits are apart."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from mmflow_synthetic.base import Synthetic
from mmflow_synthetic.graphs import Graphs
from mmflow_synthetic.motions import Motions
from mmflow_synthetic.sentences import Sentences
from mmflow_synthetic.series import Series
from mmflow_synthetic.shapes import Shapes
from mmflow_synthetic.sounds import Sounds

MILLION = 1_000_000
SOURCES: dict[str, tuple[Synthetic, str]] = {
    "shapes": (Shapes(size=MILLION, pixels=24), "image"),
    "piles": (Shapes(size=MILLION, pixels=24, objects=(2, 3), overlap=True), "image"),
    "motions": (Motions(size=MILLION, pixels=16), "video"),
    "sounds": (Sounds(size=MILLION), "audio"),
    "series": (Series(size=MILLION), "series"),
    "sentences": (Sentences(size=MILLION), "sentence"),
}
each_source = pytest.mark.parametrize(("source", "signal"), SOURCES.values(), ids=list(SOURCES))


def other_split(source: Synthetic) -> Synthetic:
    return source.model_copy(update={"split": "test"})


def signature(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()


@each_source
def test_a_sample_has_the_declared_fields_and_is_the_same_in_every_reader(source: Synthetic, signal: str) -> None:
    first, again = source.open(), source.open()
    assert set(first[0]) == set(source.fields())
    np.testing.assert_equal(dict(first[7]), dict(again[7]))
    for field in source.fields():
        np.testing.assert_equal(first.read(7, (field,)).get(field), first[7][field])
    assert signature(source.model_copy(update={"seed": 1}).open()[7][signal]) != signature(first[7][signal])


@each_source
def test_splits_share_no_sample_and_no_address(source: Synthetic, signal: str) -> None:
    train, test = source.open(), other_split(source).open()
    seen = [{signature(reader.read(n, (signal,))[signal]) for n in range(300)} for reader in (train, test)]
    assert not seen[0] & seen[1]
    if signal != "sentence":
        # Sentences are few enough to come again; what is continuous never does.
        assert len(seen[0]) == len(seen[1]) == 300
    draws = [one.generator(n).integers(2**63) for one in (source, other_split(source)) for n in range(2000)]
    assert len(set(draws)) == 4000
    assert not {train.id(n) for n in range(300)} & {test.id(n) for n in range(300)}


@each_source
def test_a_world_of_a_million_opens_without_drawing_and_any_sample_costs_itself_alone(
    source: Synthetic, signal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = type(source).draw

    def counted(self: Synthetic, generator: Any, wanted: Any) -> dict[str, Any]:
        drawn.append(1)
        return draw(self, generator, wanted)

    monkeypatch.setattr(type(source), "draw", counted)
    reader = source.open()
    assert len(reader) == MILLION
    assert reader.index(reader.id(MILLION - 1)) == MILLION - 1
    with pytest.raises(KeyError):
        reader.index(f"{source.use}-{source.seed}-{source.split}-{MILLION}")
    source.fields()
    source.fingerprint()
    assert not drawn
    last = reader.read(MILLION - 1, (signal,))[signal]
    assert len(drawn) == 1
    reader.read(0, (signal,))
    reader.read(MILLION // 2, (signal,))
    assert signature(source.open().read(MILLION - 1, (signal,))[signal]) == signature(last)
    assert len(drawn) == 4


def digest() -> str:
    """Of all fields of one sample of every source of synthetic data, and of a graph."""
    found = hashlib.sha256()
    for source, _ in SOURCES.values():
        sample = source.open()[123_456]
        for name in sorted(sample):
            found.update(name.encode() + signature(sample[name] if sample[name] is not None else ""))
    graph = Graphs(authors=40, papers=60, venues=8).open().static()
    for name in sorted(graph):
        found.update(signature(graph[name]))
    return found.hexdigest()


def test_another_process_draws_the_same() -> None:
    there = subprocess.run(
        [sys.executable, "-c", f"import runpy; print(runpy.run_path({__file__!r})['digest']())"],
        env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert there.stdout.strip() == digest(), there.stderr
