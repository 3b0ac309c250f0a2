"""Ranks read shares of the same global batches: together they are the batch that one process reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmflow_samplers.repeated import Repeated
from mmflow_samplers.shuffle import Shuffle
from mmflow_synthetic.shapes import Shapes

from mmflow.data import Batch, ColumnRequest, Loader
from mmflow.data.fetching import RankShare
from mmflow.plugin import Tokens
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target

pytestmark = pytest.mark.slow

_spec = importlib.util.spec_from_file_location("reader_process", Path(__file__).parent / "reader_process.py")
assert _spec is not None
assert _spec.loader is not None
reader_process: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reader_process)


@given(st.integers(0, 60), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 9)))
def test_micro_batches_are_dealt_to_the_ranks_in_turn(size: int, ranks: int, micro: int | None) -> None:
    shares = [RankShare(rank, ranks, micro).rows(size) for rank in range(ranks)]
    assert sorted(place for share in shares for place in share) == list(range(size))
    cut = micro or max(1, -(-size // ranks))
    for rank, share in enumerate(shares):
        assert share == sorted(share)
        assert all((place // cut) % ranks == rank for place in share)


def test_a_rank_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2"):
        RankShare(2, 2)


def together(parts: list[Batch]) -> list[tuple[str, list[Any]]]:
    """Ids with the values of every column, in the order of the global batch."""
    rows: dict[int, tuple[str, list[Any]]] = {}
    for part in parts:
        for row, (place, id) in enumerate(zip(part.places, part.ids, strict=True)):
            values = [_row(part.columns[key].values, row) for key in sorted(part.columns)]
            assert place not in rows
            rows[place] = (id, values)
    return [rows[place] for place in sorted(rows)]


def _row(values: Any, row: int) -> Any:
    if isinstance(values, Tokens):
        return values.values[row][values.mask[row]].tolist()
    return values[row].tolist() if isinstance(values, torch.Tensor) else values[row]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streamed", [False, True])
def test_shares_of_all_ranks_are_the_global_batch(streamed: bool, workers: int, tmp_path: Path) -> None:
    source: Any = Shapes(size=40, pixels=24)
    if streamed:
        source = reader_process.streamed(reader_process.write_shards(tmp_path, [12, 9, 15, 10]))

    def epoch(**share: Any) -> list[Batch]:
        with Loader(source, reader_process.VIEWS, reader_process.REQUESTS, sampler=Shuffle(), batch_size=7, seed=3,
                    workers=workers, **share) as loader:  # fmt: skip
            return list(loader.epoch(1))

    whole = epoch()
    assert len(whole) >= 4
    for ranks, micro in ((2, 2), (3, 2), (3, None)):
        parts = [epoch(rank=rank, ranks=ranks, micro_batch_size=micro) for rank in range(ranks)]
        assert {len(part) for part in parts} == {len(whole)}
        for index, batch in enumerate(whole):
            assert together([part[index] for part in parts]) == together([batch])
        assert parts[0][0].size < whole[0].size


def test_repeated_samples_and_views_of_the_batch_do_not_depend_on_ranks() -> None:
    views = {
        "mixed": View.model_validate({"of": "image", "apply": [{"use": "mixup"}]}),
        "one": View.model_validate({"of": "image", "apply": [{"use": "random_resized_crop", "size": 8}]}),
    }
    requests = [ColumnRequest(name, Target("views", name)) for name in views]

    def batch(**share: Any) -> Batch:
        loader = Loader(
            Shapes(size=12, pixels=16), views, requests, sampler=Repeated(times=3), batch_size=9, seed=0, **share
        )
        return next(loader.epoch(0))

    parts = [batch(rank=rank, ranks=2, micro_batch_size=2) for rank in range(2)]
    assert together(parts) == together([batch()])
