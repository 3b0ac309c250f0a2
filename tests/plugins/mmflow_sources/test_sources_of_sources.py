"""Sources made of other sources: which samples, which ids, which fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_sources.combinations import Concat, Mix
from mmflow_sources.filter import Filter
from mmflow_sources.join import Join
from mmflow_sources.split import Split
from mmflow_sources.subset import Subset
from mmflow_sources.table import Table

from mmflow.data import ColumnRequest, Loader, scan
from mmflow.plugin import ComponentError, Source
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target

SHAPES = {"use": "shapes", "size": 120, "pixels": 16}


def source(use: str, **fields: Any) -> Any:
    return registry().get("source", use).model_validate(fields)


def ids(of: Source) -> list[str]:
    reader = of.open()
    return [reader.id(index) for index in range(len(reader))]


def test_filter_keeps_what_is_as_it_says() -> None:
    kept: Filter = source("filter", of=SHAPES, where={"color": ["red", "blue"], "count": {"min": 2}})
    whole = source("shapes", size=120, pixels=16)
    names, reader = whole.fields()["color"].names, whole.open()
    expected = [
        reader.id(n) for n in range(120) if names[reader[n]["color"]] in ("red", "blue") and reader[n]["count"] >= 2
    ]
    assert ids(kept) == expected
    assert 5 < len(expected) < 60
    assert kept.open()[0]["id"] == expected[0]
    assert ids(source("filter", of=SHAPES, where={"scale": "large"})) != expected
    for where, word in [({"tint": "red"}, "no field 'tint'"), ({"color": "pink"}, "no class 'pink'"),
                        ({"count": 9}, "leaves no sample")]:  # fmt: skip
        with pytest.raises(ComponentError, match=word):
            source("filter", of=SHAPES, where=where).open()


def test_subset_draws_by_seed() -> None:
    drawn: Subset = source("subset", of=SHAPES, size=30)
    assert len(set(ids(drawn))) == 30
    assert ids(drawn) == ids(source("subset", of=SHAPES, share=0.25))
    assert ids(drawn) != ids(source("subset", of=SHAPES, size=30, seed=1))
    assert ids(source("subset", of=SHAPES, size=3, order="first")) == [f"shapes-0-train-{n}" for n in range(3)]
    assert len(ids(source("subset", of=SHAPES, size=1000))) == 120


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 0.9), st.integers(0, 5))
def test_parts_are_disjoint_and_complete(share: float, seed: int) -> None:
    parts = {"a": share, "b": 1 - share}
    a, b = (source("split", of={**SHAPES, "size": 400}, parts=parts, part=part, seed=seed) for part in "ab")
    assert not set(ids(a)) & set(ids(b))
    assert len(ids(a)) + len(ids(b)) == 400
    assert abs(len(ids(a)) - 400 * share) < 5 * (400 * share * (1 - share)) ** 0.5 + 1


def test_a_sample_stays_in_its_part_when_others_come() -> None:
    small: Split = source("split", of=SHAPES, part="test")
    large = source("split", of={**SHAPES, "size": 240}, part="test")
    assert ids(small) == ids(large)[: len(ids(small))]
    by = source("split", of=SHAPES, part="test", by="color", parts={"train": 0.5, "test": 0.5})
    other = source("split", of=SHAPES, part="train", by="color", parts={"train": 0.5, "test": 0.5})
    colors = [{reader[n]["color"] for n in range(len(reader))} for reader in (by.open(), other.open())]
    assert not colors[0] & colors[1]


def test_join_adds_fields_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,kind\n1,one,x\n2,two,y\n3,three,x\n")
    (tmp_path / "b.csv").write_text("id,score\n3,0.3\n1,0.1\n")
    a, b = ({"use": "table", "url": str(tmp_path / name)} for name in ("a.csv", "b.csv"))
    joined: Join = source("join", of=a, other=b)
    (batch,) = scan(joined, {}, [ColumnRequest(n, Target("fields", n)) for n in ("text", "score")], batch_size=3)
    score = batch.columns["score"]
    assert batch.columns["text"].values == ["one", "two", "three"]
    assert score.present is not None
    assert score.present.tolist() == [True, False, True]
    assert score.values.tolist() == pytest.approx([0.1, 0, 0.3])
    assert ids(source("join", of=a, other=b, how="inner")) == ["1", "3"]
    (tmp_path / "c.csv").write_text("kind,name\nx,ex\ny,why\n")
    named = source("join", of=a, other={"use": "table", "url": str(tmp_path / "c.csv")}, by="kind").open()
    assert [named[n]["name"] for n in range(3)] == ["ex", "why", "ex"]
    (tmp_path / "d.csv").write_text("kind,name\nx,ex\nx,why\n")
    with pytest.raises(ComponentError, match="kind 'x' twice"):
        source("join", of=a, other={"use": "table", "url": str(tmp_path / "d.csv")}, by="kind").open()


def test_concat_joins_classes_by_name_and_marks_what_is_absent(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,cat\ntwo,dog\n")
    (tmp_path / "b.csv").write_text("label,score\ndog,1\nant,2\n")
    tables = [{"use": "table", "url": str(tmp_path / name)} for name in ("a.csv", "b.csv")]
    both: Concat = source("concat", of=tables, names=["a", "b"])
    fields = both.fields()
    assert fields["label"].names == ("cat", "dog", "ant")
    assert ids(both) == ["a:0", "a:1", "b:0", "b:1"]
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("label", "text", "score", "source")]
    (batch,) = scan(both, {}, requests, batch_size=4)
    assert batch.columns["label"].values.tolist() == [0, 1, 1, 2]
    assert batch.columns["text"].values == ["one", "two", None, None]
    assert batch.columns["source"].values.tolist() == [0, 0, 1, 1]
    (tmp_path / "c.csv").write_text("score\nhigh\n")
    with pytest.raises(ComponentError, match="number in one source and text"):
        source("concat", of=[tables[1], {"use": "table", "url": str(tmp_path / "c.csv")}]).fields()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.2, 5), st.one_of(st.none(), st.integers(1, 200)))
def test_a_mixture_has_its_shares(one: int, other: int, weight: float, size: int | None) -> None:
    members = [{**SHAPES, "size": one}, {**SHAPES, "size": other, "split": "test"}]
    mixed: Mix = source("mix", of=members, weights=[weight, 1], size=size)
    found = ids(mixed)
    assert len(set(found)) == len(found)
    first = sum(id.startswith("0:") for id in found)
    assert abs(first - len(found) * weight / (weight + 1)) <= 1
    if size is None:
        whole = {f"0:shapes-0-train-{n}" for n in range(one)} | {f"1:shapes-0-test-{n}" for n in range(other)}
        missing = whole - set(found)
        assert len(missing) <= 1
    else:
        assert len(found) == size


def test_a_source_of_a_source_loads_with_workers_and_has_its_content_in_its_key(tmp_path: Path) -> None:
    made = source("subset", of={"use": "split", "of": SHAPES, "part": "train"}, size=20)
    requests = [ColumnRequest("image", Target("fields", "image"))]
    sampler = registry().get("sampler", "shuffle").model_validate({})
    with Loader(made, {}, requests, sampler=sampler, batch_size=5, seed=0, workers=1) as loader:
        assert sum(batch.size for batch in loader.epoch(0)) == 20
    (tmp_path / "a.csv").write_text("text\none\n")
    inner = Table(url=str(tmp_path / "a.csv"))
    assert Subset(of=inner, size=1).fingerprint() == inner.fingerprint() is not None


def test_a_path_to_another_entry_means_nothing_outside_a_spec() -> None:
    with pytest.raises(ComponentError, match=r"data\.train: no source outside a spec"):
        source("subset", of="data.train", size=1).open()
