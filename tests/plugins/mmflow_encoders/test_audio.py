"""Spectrogram transformer and dilated convolutions: by hand, and how far a step reaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import ComponentError, Encoder, TensorType, Tokens
from mmflow.spec import load_text

MEL = TensorType("series", size=(None, 6))


def built(declared: dict[str, Any], series: TensorType = MEL) -> Any:
    torch.manual_seed(0)
    module = Encoder.accept({"of": "mel", **declared}).build(series, state={})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrogram(**fields: Any) -> Any:
    return built({"use": "audio_transformer", "width": 8, "depth": 2, "heads": 2, "patch": 4, "bands": 3, **fields})


def test_patches_have_positions_in_time_and_in_frequency() -> None:
    module, x = spectrogram(normalize=False), drawn(1, 12, 6, seed=1)
    tokens = []
    for time in range(3):
        for band in range(2):
            piece = x[:, 4 * time : 4 * time + 4, 3 * band : 3 * band + 3]
            value = F.conv2d(piece[:, None], module.patches.weight, module.patches.bias).flatten(1)
            tokens.append(value + module.times[:, time, 0] + module.bands[:, 0, band])
    states = torch.stack(tokens, dim=1)
    for block in module.tower.blocks:
        states = block(states, None)
    found = module(x)
    torch.testing.assert_close(found["tokens"].values, module.tower.norm(states))
    torch.testing.assert_close(found["pooled"], module.tower.norm(states).mean(1))


@pytest.mark.parametrize("pool", ["mean", "cls", "attention"])
def test_a_sound_depends_on_its_own_steps_alone(pool: str) -> None:
    module = spectrogram(pool=pool)
    rows = [drawn(length, 6, seed=length) for length in (3, 8, 17)]
    values, mask = torch.full((3, 22, 6), 7.0, dtype=torch.float64), torch.zeros(3, 22, dtype=torch.bool)
    for place, row in enumerate(rows):
        values[place, : len(row)], mask[place, : len(row)] = row, True
    found = module(Tokens(values, mask))
    assert found["tokens"].mask.sum(1).tolist() == [2 * 1, 2 * 2, 2 * 5]
    for place, row in enumerate(rows):
        alone = module(row[None])
        torch.testing.assert_close(found["pooled"][place], alone["pooled"][0])
        torch.testing.assert_close(found["tokens"].values[place, : alone["tokens"].values.shape[1]],
                                   alone["tokens"].values[0])  # fmt: skip
    torch.testing.assert_close(
        module(3 * rows[2][None] - 1)["pooled"], module(rows[2][None])["pooled"], rtol=1e-4, atol=1e-4
    )


def test_bands_that_do_not_divide_and_long_sounds_are_refused() -> None:
    with pytest.raises(ComponentError, match="no multiple of `bands: 4`"):
        spectrogram(bands=4)
    with pytest.raises(ValueError, match="`length` is too small"):
        spectrogram(length=8)(drawn(1, 13, 6, seed=2))
    assert spectrogram(bands=None)(drawn(1, 8, 6, seed=3))["tokens"].values.shape == (1, 2, 8)


@pytest.mark.parametrize(("dilation", "reach"), [(1, 3), (2, 7), (3, 13)])
def test_dilated_layers_see_steps_that_lie_apart(dilation: int, reach: int) -> None:
    """Three layers of kernel 3 see 1 + 2 + 4 steps to either side at dilation 2, and so on."""
    module = built({"use": "series_conv", "width": 4, "depth": 3, "kernel": 3, "stride": 1, "dilation": dilation,
                    "normalize": False})  # fmt: skip
    x = drawn(1, 41, 6, seed=4)
    other = x.clone()
    other[0, 20] += 1
    changed = (module(x)["tokens"].values - module(other)["tokens"].values)[0].abs().amax(1) > 0
    places = changed.nonzero().flatten()
    assert (20 - int(places.min()), int(places.max()) - 20) == (reach, reach)
    assert changed.sum() == (2 * reach + 1 if dilation < 3 else 27)


def test_residual_layers_are_added_to_their_input() -> None:
    module = built({"use": "series_conv", "width": 4, "depth": 2, "kernel": 3, "stride": 1, "residual": True})
    x = drawn(2, 9, 6, seed=5)
    found = module(x, taps=("layers.1", "layers.2"))
    first = found["layers.1"].values
    second = F.gelu(module.norms[1](module.convolutions[1](first.transpose(1, 2)).transpose(1, 2)))
    torch.testing.assert_close(found["layers.2"].values, first + second)
    with pytest.raises(ValidationError, match="needs stride: 1"):
        Encoder.accept({"use": "series_conv", "of": "x", "residual": True})
    with pytest.raises(ValidationError, match="steps away"):
        Encoder.accept({"use": "series_conv", "of": "x", "dilation": 16, "depth": 16})


def test_earlier_names_are_read_with_a_note() -> None:
    spec = load_text("""
mmflow: 1
name: earlier
data: {train: {use: sounds, split: train, size: 8}}
views: {mel: {of: audio, apply: [{use: log_mel, rate: 8000, mels: 16}]}}
encoders:
  sound: {use: convnet1d, of: mel, width: 16, depth: 2}
  words: {use: text_transformer, of: caption, width: 16, depth: 1}
  both: {use: cross_attention, of: [words.tokens, sound.tokens], layers: 1}
losses: {align: {use: infonce, of: [both, sound]}}
train: {data: train, steps: 1, batch_size: 8}
""")
    assert spec.encoders["sound"].use == "series_conv"
    assert spec.encoders["both"].depth == 1
    notes = " ".join(str(note) for note in spec.notes)
    assert "`convnet1d` is now called `series_conv`" in notes
    assert "`layers` is now called `depth`" in notes
