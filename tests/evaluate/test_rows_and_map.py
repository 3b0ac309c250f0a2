from __future__ import annotations

import numpy as np
import pytest
import torch

from mmflow.evaluate.map import ROWS, embedding_map
from mmflow.evaluate.parts import Part, common_rows, join
from mmflow.plugin import Encoding, Tokens


def test_joined_batches_are_padded_and_absent_where_shorter():
    short = Encoding({"pooled": torch.ones(2, 1, 3)}, ("sample", "caption"))
    long = Encoding({"pooled": 2 * torch.ones(1, 2, 3)}, ("sample", "caption"), torch.tensor([[True, False]]))
    joined = join([short, long])
    assert joined.pooled.shape == (3, 2, 3)
    assert joined.present is not None
    assert joined.present.tolist() == [[True, False], [True, False], [True, False]]
    assert joined.pooled[0, 1].tolist() == [0.0, 0.0, 0.0]
    whole = join([Encoding({"pooled": torch.ones(2, 3)}), Encoding({"pooled": torch.ones(1, 3)})])
    assert whole.present is None
    assert whole.pooled.shape == (3, 3)


def test_joined_sequences_keep_their_masks():
    one = Encoding({"tokens": Tokens(torch.ones(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))})
    other = Encoding({"tokens": Tokens(torch.ones(1, 3, 4), torch.tensor([[True, True, False]]))})
    tokens = join([one, other]).tokens
    assert tokens.mask.tolist() == [[True, True, False], [True, True, False]]
    assert tokens.values.shape == (2, 3, 4)


@pytest.mark.parametrize("present", [None, torch.tensor([True, False, True])])
def test_encodings_come_back_as_they_were_stored(tmp_path, present):
    ids = ["a", "é", "c\n"]
    for name, value in (
        ("pooled", torch.randn(3, 5, dtype=torch.bfloat16)),
        ("tokens", Tokens(torch.randn(3, 4, 2), torch.rand(3, 4) > 0.5)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        Part(ids, Encoding({name: value}, ("sample",), present), {"d": "no such file"}).write(folder)
        part = Part.read(folder)
        assert part.ids == ids
        assert part.skipped == {"d": "no such file"}
        found = part.value
        assert (found.present is None) == (present is None)
        one, other = found.outputs[name], value
        pairs = zip(one, other, strict=True) if isinstance(value, Tokens) else [(one, other)]
        assert all(torch.equal(a, b) for a, b in pairs)


def test_columns_are_joined_by_id():
    one = Part(["a", "b", "c"], torch.tensor([1, 2, 3]))
    other = Part(["c", "a", "d"], ["three", "one", "four"])
    third = Part(
        ["a", "c"], Encoding({"pooled": torch.tensor([[1.0], [3.0]])}, ("sample",), torch.tensor([True, False]))
    )
    ids = common_rows([one, other, third])
    assert ids == ["a", "c"]
    assert one.rows(ids).tolist() == [1, 3]
    assert other.rows(ids) == ["one", "three"]
    assert third.rows(ids).present.tolist() == [True, False]


def cloud(rows: int, dim: int, seed: int) -> Encoding:
    generator = torch.Generator().manual_seed(seed)
    return Encoding({"pooled": torch.randn(rows, dim, generator=generator)})


@pytest.mark.parametrize("seed", range(8))
def test_the_map_is_that_of_principal_components(seed):
    from sklearn.decomposition import PCA

    a, b = cloud(40, 6, 2 * seed), cloud(40, 6, 2 * seed + 1)
    ids = [f"row-{i}" for i in range(40)]
    drawn = embedding_map(["a", "b"], [a, b], ids, [str(i % 3) for i in range(40)])
    assert drawn is not None
    order = [ids.index(i) for i in drawn["ids"]]
    vectors = torch.cat([torch.nn.functional.normalize(e.pooled.double(), dim=1) for e in (a, b)]).numpy()
    reference = PCA(2).fit(vectors)
    expected = reference.transform(vectors)[[*order[:40], *[40 + i for i in order[40:]]]]
    for axis in range(2):
        points = np.array(drawn["points"])[:, axis]
        # The largest loading of each component is positive.
        loadings = reference.components_[axis]
        sign = np.sign(loadings[np.abs(loadings).argmax()])
        assert np.allclose(points, sign * expected[:, axis], atol=1e-4)
    assert drawn["explained"] == pytest.approx(reference.explained_variance_ratio_, abs=1e-4)
    assert drawn["label"] == [str(i % 3) for i in order]


def test_the_map_does_not_turn_over():
    ids = [f"row-{i}" for i in range(30)]
    one = cloud(30, 5, 0)
    first = embedding_map(["a"], [one], ids, None)
    again = embedding_map(["a"], [Encoding({"pooled": one.pooled.flip(0)})], ids[::-1], None)
    assert first is not None
    assert again is not None
    assert first["ids"] == again["ids"]
    assert np.allclose(first["points"], again["points"], atol=1e-4)


def test_a_map_has_a_limited_number_of_rows_and_leaves_out_absent_ones():
    ids = [f"row-{i}" for i in range(2 * ROWS)]
    drawn = embedding_map(["a"], [cloud(2 * ROWS, 4, 0)], ids, None)
    assert drawn is not None
    assert len(drawn["points"]) == ROWS
    present = torch.arange(10) < 7
    drawn = embedding_map(["a"], [Encoding(cloud(10, 4, 0).outputs, ("sample",), present)], ids[:10], None)
    assert drawn is not None
    assert sorted(drawn["ids"]) == ids[:7]


def test_encoders_of_different_width_are_projected_one_by_one():
    ids = [f"row-{i}" for i in range(10)]
    drawn = embedding_map(["a", "b"], [cloud(10, 4, 0), cloud(10, 7, 1)], ids, None)
    assert drawn is not None
    assert drawn["joint"] is False
    alone = embedding_map(["a"], [cloud(10, 4, 0)], ids, None)
    assert alone is not None
    assert drawn["points"][:10] == alone["points"]
    tokens = Encoding({"tokens": Tokens(torch.ones(3, 2, 2), torch.ones(3, 2).bool())})
    assert embedding_map(["a"], [tokens], ids[:3], None) is None
    flat = embedding_map(["a"], [Encoding({"pooled": torch.ones(4, 1)})], ids[:4], None)
    assert flat is not None
    assert flat["points"] == [[0.0, 0.0]] * 4
