"""The encoder of series: padding and neighbors change nothing, loudness is taken out, lengths are as declared."""

from __future__ import annotations

import pytest
import torch

from mmflow.plugin import Encoder, TensorType, Tokens

SERIES = TensorType("series", size=(None, 6))


def module(**fields: object) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = Encoder.accept({"use": "series_conv", "of": "mel", "width": 16, "depth": 3, **fields})
    return encoder.build(SERIES, state={}).double()


def padded(rows: list[torch.Tensor], length: int) -> Tokens:
    values = torch.full((len(rows), length, 6), 9.0, dtype=torch.float64)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for place, row in enumerate(rows):
        values[place, : len(row)], mask[place, : len(row)] = row, True
    return Tokens(values, mask)


@pytest.mark.parametrize("fields", [{}, {"pool": "max"}, {"normalize": False, "stride": 3}])
def test_a_row_depends_on_its_own_steps_alone(fields: dict[str, object]) -> None:
    net = module(**fields)
    rows = [torch.randn(length, 6, dtype=torch.float64) for length in (5, 17, 40)]
    alone = torch.cat([net(row[None])["pooled"] for row in rows])
    for length in (40, 41, 64):
        together = net(padded(rows, length))
        assert torch.allclose(together["pooled"], alone, atol=1e-12)
        counts = together["tokens"].mask.sum(1).tolist()
        stride = int(fields.get("stride", 2))  # type: ignore[call-overload]
        for _ in range(3):
            length = -(-length // stride)
        assert together["tokens"].values.shape[1] == length
        assert counts == [net(row[None])["tokens"].values.shape[1] for row in rows]
    assert not torch.allclose(alone[0], alone[1])


def test_loudness_is_taken_out_unless_it_is_kept() -> None:
    row = torch.randn(1, 30, 6, dtype=torch.float64)
    assert torch.allclose(module()(row)["pooled"], module()(3 * row - 2)["pooled"], atol=1e-5)
    kept = module(normalize=False)
    assert not torch.allclose(kept(row)["pooled"], kept(3 * row - 2)["pooled"], atol=1e-2)


def test_series_of_one_channel_and_rows_without_steps() -> None:
    encoder = Encoder.accept({"use": "series_conv", "of": "x", "width": 8, "depth": 2, "pool": "max"})
    net = encoder.build(TensorType("series", size=(12,)), state={})
    assert net(torch.randn(2, 12))["pooled"].shape == (2, 8)
    empty = net(Tokens(torch.zeros(1, 12), torch.zeros(1, 12, dtype=torch.bool)))["pooled"]
    assert (empty == 0).all()


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="no middle"):
        Encoder.accept({"use": "series_conv", "of": "x", "kernel": 4})
