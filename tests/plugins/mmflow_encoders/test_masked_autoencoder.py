"""Masked autoencoding: hidden patches are unseen, targets are the patches, losses read what was hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmflow_encoders.decoders.reconstruction_decoder import ReconstructionDecoder
from mmflow_encoders.images.masked_autoencoder import MaskedAutoencoder
from mmflow_encoders.modules.reconstruction import patches_of
from mmflow_objectives.prediction.mse import MeanSquaredError
from pydantic import ValidationError
from torch import Tensor, nn

from mmflow.plugin import ComponentError, TensorType, Tokens

IMAGE = TensorType("image", size=(16, 16, 3))
SMALL: dict[str, Any] = {"of": "image", "size": 16, "patch": 4, "width": 8, "depth": 2, "heads": 2}
ASKED = ("reconstruction", "target", "layers.1", "attention.2")


def built(**fields: Any) -> Any:
    encoder = MaskedAutoencoder.model_validate({**SMALL, "decoder_width": 8, **fields})
    torch.manual_seed(0)
    module = encoder.build(IMAGE, state={})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def images(rows: int = 3) -> Tensor:
    return torch.rand(rows, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def hidden(*counts: int) -> Tensor:
    """So many hidden patches of each row, in places of its own."""
    places = (torch.arange(16)[None] + 5 * torch.arange(len(counts))[:, None]) % 16
    return (places < torch.tensor(counts)[:, None]).unflatten(1, (4, 4))


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_the_tower_sees_visible_patches_alone(pool: str) -> None:
    module, x, mask = built(pool=pool), images(), hidden(12, 12, 9)
    found = module(x, mask, taps=ASKED)
    assert torch.equal(found["tokens"].mask, ~mask.flatten(1))
    cover = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    other = module(torch.where(cover, 1 - x, x), mask, taps=ASKED)
    for name in ("pooled", "tokens", "layers.1", "reconstruction"):
        one, two = (v.values if isinstance(v, Tokens) else v for v in (found[name], other[name]))
        torch.testing.assert_close(two, one)
    assert not torch.allclose(other["target"].values, found["target"].values)


def test_hidden_patches_cost_nothing_in_the_tower() -> None:
    module, lengths = built(), []
    module.blocks[0].register_forward_pre_hook(lambda block, inputs: lengths.append(inputs[0].shape[1]))
    module(images(), hidden(12, 12, 12))
    module(images())
    assert lengths == [4, 16]


def test_visible_patches_are_encoded_as_a_sequence_of_their_own() -> None:
    module, x, mask = built(), images(1), hidden(10)
    visible = (~mask).flatten().nonzero().flatten()
    states = module.patches((x - 0.5) / 0.5).flatten(2).transpose(1, 2) + module.positions
    states = states[:, visible]
    for block in module.blocks:
        states = block(states, None)
    found = module(x, mask)
    torch.testing.assert_close(found["tokens"].values[:, visible], module.norm(states))
    torch.testing.assert_close(found["pooled"], module.norm(states).mean(1))


def test_the_decoder_puts_one_token_at_all_hidden_places() -> None:
    module, x, mask = built(), images(1), hidden(10)
    found = module(x, mask, taps=ASKED)
    decoder = module.decoder
    states = decoder.project(found["tokens"].values)
    states = torch.where(mask.flatten(1)[:, :, None], decoder.hidden, states) + decoder.positions
    for block in decoder.blocks:
        states = block(states, None)
    torch.testing.assert_close(found["reconstruction"].values, decoder.predict(decoder.norm(states)))
    assert torch.equal(found["reconstruction"].mask, mask.flatten(1))


def test_rows_of_unequal_masks_and_without_a_visible_patch() -> None:
    module, x, mask = built(), images(3), hidden(3, 12, 16)
    together = module(x, mask, taps=ASKED)
    for row in range(3):
        alone = module(x[row : row + 1], mask[row : row + 1], taps=ASKED)
        for name in ("pooled", "tokens", "reconstruction"):
            one, two = (v.values if isinstance(v, Tokens) else v for v in (together[name], alone[name]))
            torch.testing.assert_close(one[row], two[0])
    assert all(v.values.isfinite().all() for v in (together["tokens"], together["reconstruction"]))


def test_without_a_mask_training_hides_a_share_and_evaluation_nothing() -> None:
    module, x = built(ratio=0.7), images(6)
    whole = module(x, taps=ASKED)
    assert whole["tokens"].mask.all()
    assert not whole["reconstruction"].mask.any()
    module.train()
    torch.manual_seed(2)
    found = module(x, taps=ASKED)
    assert found["reconstruction"].mask.sum(1).tolist() == [round(0.7 * 16)] * 6
    assert len({tuple(row) for row in found["tokens"].mask.tolist()}) > 1


def test_targets_are_patches_row_by_row_channels_last() -> None:
    x = images(2)
    plain = patches_of(x, 4, normalize=False)
    expected = x[1, :, 4:8, 8:12].permute(1, 2, 0).flatten()
    torch.testing.assert_close(plain[1, 1 * 4 + 2], expected)
    scaled = patches_of(x, 4, normalize=True)
    torch.testing.assert_close(scaled.mean(-1), torch.zeros(2, 16, dtype=torch.float64))
    torch.testing.assert_close(scaled.var(-1), torch.ones(2, 16, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_mean_over_hidden_patches() -> None:
    module, x, mask = built(), images(), hidden(12, 4, 0)
    found = module(x, mask, taps=ASKED)
    loss = MeanSquaredError.model_validate({"of": ["a", "b"]})
    values, weights = loss.compute(found["reconstruction"], found["target"])
    assert weights.tolist() == [12, 4, 0]
    where = mask.flatten(1)
    squares = (found["reconstruction"].values - found["target"].values).square()
    torch.testing.assert_close(values[0], squares[0][where[0]].mean())
    torch.testing.assert_close((values * weights).sum() / weights.sum(), squares[where].mean())
    assert values[2] == 0
    with pytest.raises(ComponentError, match="one shape"):
        loss.compute(found["reconstruction"], found["target"].values)


def decoder(*inputs: TensorType, **fields: Any) -> Any:
    names = ["encoded", "image"][: len(inputs)]
    torch.manual_seed(0)
    made = ReconstructionDecoder.model_validate({**SMALL, "of": names, **fields})
    return made.build(*inputs, state={}).double().eval()


def test_a_decoder_of_its_own_gives_what_the_autoencoder_gives() -> None:
    tower, x, mask = built(decoder_heads=2), images(), hidden(12, 12, 9)
    found = tower(x, mask, taps=ASKED)
    module = decoder(TensorType("tokens", size=(16, 8)), IMAGE, width=8)
    module.load_state_dict({n: v for n, v in tower.state_dict().items() if n.startswith("decoder.")})
    outputs = module(found["tokens"], x)
    torch.testing.assert_close(outputs["tokens"].values, found["reconstruction"].values)
    torch.testing.assert_close(outputs["target"].values, found["target"].values)
    assert torch.equal(outputs["target"].mask, mask.flatten(1))


def test_a_vector_is_decoded_at_every_place() -> None:
    module, vector = decoder(TensorType("vector", size=(6,)), IMAGE), torch.rand(2, 6, dtype=torch.float64)
    grid = decoder(TensorType("grid", size=(4, 4, 6)), IMAGE)
    grid.load_state_dict(module.state_dict())
    found = module(vector, images(2))
    torch.testing.assert_close(
        found["tokens"].values, grid(vector[:, None, None].expand(-1, 4, 4, -1), images(2))["tokens"].values
    )
    assert found["target"].mask.all()
    with pytest.raises(ValueError, match="9 tokens for 16 patches"):
        grid(torch.rand(2, 3, 3, 6, dtype=torch.float64))


def test_the_image_is_prepared_and_the_tokens_are_not() -> None:
    made = ReconstructionDecoder.model_validate({**SMALL, "of": ["encoded", "image"]})
    raw = np.zeros((20, 30, 3), np.uint8)
    assert made.preprocess(1, raw, {}).shape == (16, 16, 3)
    assert made.preprocess(0, raw, {}) is raw
    with pytest.raises(ValidationError, match="one size"):
        ReconstructionDecoder.model_validate({**SMALL, "of": ["encoded"], "fit": "keep"})
