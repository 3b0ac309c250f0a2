"""The image and text towers and the caption decoder: padding, causality, pooling, taps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmflow_encoders.decoders.caption_decoder import CaptionDecoder
from mmflow_encoders.images.convnet4 import Convnet4
from mmflow_encoders.images.fitting import fit_image
from mmflow_encoders.images.resnet import Resnet
from mmflow_encoders.images.vit import Vit
from mmflow_encoders.texts.text_transformer import TextTransformer
from pydantic import ValidationError
from torch import Tensor, nn

from mmflow.plugin import ComponentError, TensorType, Tokens

TEXTS = ["a red circle", "a blue square and a small circle", "red"]
POOLS = ["mean", "last", "eos", "cls"]


def padded(rows: list[list[int]], length: int) -> Tokens:
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.arange(length)[None] < torch.tensor([len(row) for row in rows])[:, None]
    return Tokens(ids, mask)


def text_tower(**fields: Any) -> tuple[nn.Module, list[list[int]]]:
    encoder = TextTransformer.model_validate({"of": "caption", "width": 16, "depth": 2, "length": 24, **fields})
    state = encoder.learn(0, TEXTS)
    torch.manual_seed(0)
    module = encoder.build(TensorType("text"), state=state)
    nn.init.normal_(module.positions, std=1.0)  # type: ignore[arg-type]
    return module.double().eval(), [encoder.preprocess(0, text, state) for text in TEXTS]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_no_vector(pool: str, causal: bool) -> None:
    module, rows = text_tower(pool=pool, causal=causal)
    wide = padded(rows, 20)
    # Values in padded places are never read.
    wide.values[~wide.mask] = 5
    whole = module(wide, taps=("layers.1",))
    for i, row in enumerate(rows):
        alone = module(padded([row], len(row)), taps=("layers.1",))
        torch.testing.assert_close(whole["pooled"][i : i + 1], alone["pooled"])
        for name in ("tokens", "layers.1"):
            torch.testing.assert_close(whole[name].values[i, : len(row)], alone[name].values[0])
            assert whole[name].mask[i].tolist() == [place < len(row) for place in range(20)]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_do_not_reach_padding(pool: str, causal: bool) -> None:
    module, rows = text_tower(pool=pool, causal=causal)
    wide = padded(rows, 20)
    wide.values[~wide.mask] = 7
    module(wide)["pooled"].square().sum().backward()
    assert module.words.weight.grad[7].abs().sum() == 0 or 7 in {i for row in rows for i in row}  # type: ignore[union-attr]
    assert module.positions.grad[0, max(map(len, rows)) :].abs().sum() == 0  # type: ignore[index,union-attr]


def test_a_causal_token_sees_only_earlier_tokens() -> None:
    module, rows = text_tower(causal=True, pool="cls")
    before = module(padded([rows[1]], 12))
    changed = padded([rows[1]], 12)
    changed.values[0, 4] = 5 if changed.values[0, 4] != 5 else 6
    after = module(changed)
    same = (before["tokens"].values[0] - after["tokens"].values[0]).abs().amax(1) == 0
    assert same[:4].all()
    assert not same[4:9].any()
    assert not torch.equal(before["pooled"], after["pooled"])


def test_order_matters_through_positions_alone() -> None:
    module, rows = text_tower(pool="mean")
    swapped = [rows[0][0], *reversed(rows[0][1:-1]), rows[0][-1]]
    assert not torch.allclose(module(padded([rows[0]], 5))["pooled"], module(padded([swapped], 5))["pooled"])
    nn.init.zeros_(module.positions)  # type: ignore[arg-type]
    torch.testing.assert_close(module(padded([rows[0]], 5))["pooled"], module(padded([swapped], 5))["pooled"])


def test_pools_take_the_places_they_name() -> None:
    for pool in ("mean", "last", "eos"):
        module, rows = text_tower(pool=pool)
        found = module(padded(rows, 12))
        tokens = found["tokens"].values
        for i, row in enumerate(rows):
            expected = tokens[i, : len(row)].mean(0) if pool == "mean" else tokens[i, len(row) - 1]
            torch.testing.assert_close(found["pooled"][i], expected)
    # The first end id, although real tokens follow it.
    module, _ = text_tower(pool="eos")
    found = module(padded([[1, 4, 2, 5, 2]], 5))
    torch.testing.assert_close(found["pooled"][0], found["tokens"].values[0, 2])


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_without_tokens_stays_finite(causal: bool) -> None:
    for pool in POOLS:
        module, rows = text_tower(pool=pool, causal=causal)
        found = module(padded([rows[0], []], 8))
        assert found["pooled"].isfinite().all()
        found["pooled"].sum().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


def test_taps_are_given_only_when_asked_and_the_last_is_the_tokens_before_the_norm() -> None:
    module, rows = text_tower()
    assert "layers.2" not in module(padded(rows, 12))
    found = module(padded(rows, 12), taps=("layers.2",))
    torch.testing.assert_close(module.norm(found["layers.2"].values), found["tokens"].values)  # type: ignore[operator]


def test_text_longer_than_length_is_refused_with_the_field() -> None:
    module, _ = text_tower(length=6)
    with pytest.raises(ValueError, match="`length`"):
        module(padded([[1] * 9], 9))


def test_dropout_differs_between_rows_and_is_off_in_evaluation() -> None:
    module, rows = text_tower(dropout=0.3)
    twice = padded([rows[0], rows[0]], 6)
    calm = module(twice)["pooled"]
    torch.testing.assert_close(calm[0], calm[1])
    module.train()
    torch.manual_seed(3)
    drawn = module(twice)["pooled"]
    assert not torch.allclose(drawn[0], drawn[1])
    torch.manual_seed(3)
    torch.testing.assert_close(module(twice)["pooled"], drawn)


def image_tower(**fields: Any) -> nn.Module:
    torch.manual_seed(1)
    encoder = Vit.model_validate({"of": "image", "size": 32, "width": 16, "depth": 2, **fields})
    return encoder.build(TensorType("image"), state={}).double().eval()


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_the_grid_has_each_patch_at_its_place(pool: str) -> None:
    """Without blocks' mixing (depth 1, attention output zero) a patch's token depends on that patch alone."""
    module = image_tower(pool=pool, depth=1)
    nn.init.zeros_(module.blocks[0].self_attention.out.weight)  # type: ignore[index,union-attr,arg-type]
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    changed = image.clone()
    changed[:, :, 8:16, 24:32] += 1
    difference = (module(image)["grid"] - module(changed)["grid"]).abs().sum(-1)[0]
    assert difference.nonzero().tolist() == [[1, 3]]
    found = module(image)
    torch.testing.assert_close(found["grid"].flatten(1, 2), found["tokens"].values)


def test_patches_may_change_places_where_positions_are_equal() -> None:
    module = image_tower(pool="cls")
    nn.init.zeros_(module.positions)  # type: ignore[arg-type]
    image = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(module(image)["pooled"], module(image.roll((8, 16), (2, 3)))["pooled"])


def test_images_are_normalized_as_the_fields_say() -> None:
    plain, shifted = image_tower(mean=0.0, std=1.0), image_tower(mean=0.25, std=0.5)
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(shifted(image * 0.5 + 0.25)["pooled"], plain(image)["pooled"])


def test_image_taps() -> None:
    module = image_tower()
    found = module(torch.rand(1, 3, 32, 32, dtype=torch.float64), taps=("layers.1", "layers.2"))
    assert found["layers.1"].values.shape == (1, 16, 16)
    torch.testing.assert_close(module.norm(found["layers.2"].values), found["tokens"].values)  # type: ignore[operator]


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnet_has_the_parameters_of_the_published_network_without_its_classifier(depth: int) -> None:
    import torchvision

    encoder = Resnet(of=("image",), depth=depth)  # type: ignore[arg-type]
    with torch.device("meta"):
        mine = encoder.build(TensorType("image"), state={})
        theirs = getattr(torchvision.models, f"resnet{depth}")()
    count = sum(p.numel() for p in theirs.parameters()) - sum(p.numel() for p in theirs.fc.parameters())
    assert sum(p.numel() for p in mine.parameters()) == count


def test_group_norm_makes_training_rows_independent_and_batch_norm_does_not() -> None:
    image = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    for norm, independent in (("group", True), ("batch", False)):
        torch.manual_seed(0)
        encoder = Convnet4(of=("image",), size=16, width=8, norm=norm)  # type: ignore[arg-type]
        module = encoder.build(TensorType("image"), state={}).double().train()
        assert torch.allclose(module(image)["pooled"][:2], module(image[:2])["pooled"]) == independent


# --- the way from a raw image to a row -----------------------------------------------------------------


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    image = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    found = Vit(of=("image",), size=32).preprocess(0, image, {})  # type: ignore[arg-type]
    assert found.dtype == np.uint8
    assert (found == image).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cropping_keeps_the_middle_and_squashing_all(dtype: Any) -> None:
    image = np.zeros((32, 64, 3), dtype)
    image[:, 16:48] = 200 if dtype == np.uint8 else 0.5
    cropped = fit_image(image, 16, 3, squash=False)
    assert (cropped[:, 1:-1] == image.max()).all()
    squashed = fit_image(image, 16, 3, squash=True)
    assert (squashed[:, :3] == 0).all()
    assert (squashed[:, 5:11] == image.max()).all()
    assert cropped.dtype == squashed.dtype == dtype


def test_gray_and_color_images() -> None:
    gray = np.full((8, 8), 7, np.uint8)
    assert (fit_image(gray, 8, 3, squash=False) == 7).all()
    assert fit_image(gray, 8, 3, squash=False).shape == (8, 8, 3)
    color = np.zeros((8, 8, 4), np.uint8)
    color[..., 1] = 100
    assert fit_image(color, 8, 1, squash=False).tolist() == np.full((8, 8, 1), 59).tolist()


def test_values_that_are_no_images_are_named() -> None:
    with pytest.raises(ComponentError, match=r"shape \[3, 8, 8\]"):
        fit_image(np.zeros((3, 8, 8), np.uint8), 8, 3, squash=False)


@pytest.mark.parametrize(
    ("component", "fields", "message"),
    [
        (Vit, {"width": 30, "heads": 4}, "3 heads would fit"),
        (Vit, {"size": 30, "patch": 8}, "no multiple of patch"),
        (Convnet4, {"size": 12}, "below 16"),
        (TextTransformer, {"width": 10, "heads": 4}, "2 heads would fit"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_the_spec_is_read(component: Any, fields: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        component.model_validate({"of": "x", **fields})


# --- the caption decoder (the facts of CoCa) ------------------------------------------------------------


def captioner(image_width: int = 12) -> nn.Module:
    torch.manual_seed(2)
    encoder = CaptionDecoder(of=("text.tokens", "image.tokens"), depth=2)  # type: ignore[arg-type]
    words = TensorType("tokens", size=(None, 16), vocabulary=11)
    module = encoder.build(words, TensorType("tokens", size=(4, image_width)), state={})
    return module.double().eval()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_logits_at_a_place_know_that_place_and_those_before() -> None:
    module, image = captioner(), drawn(1, 4, 12, seed=0)
    states, mask = drawn(1, 6, 16, seed=1), torch.ones(1, 6, dtype=torch.bool)
    changed = states.clone()
    changed[0, 3] = drawn(16, seed=9)
    one, other = (module(Tokens(x, mask), image)["logits"].values for x in (states, changed))
    same = (one - other).abs().amax(-1)[0] == 0
    assert same.tolist() == [True] * 3 + [False] * 3


def test_logits_see_the_image_and_no_padding() -> None:
    module = captioner()
    states, mask = drawn(1, 6, 16, seed=2), torch.tensor([[True] * 4 + [False] * 2])
    image, image_mask = drawn(1, 4, 12, seed=3), torch.tensor([[True, True, True, False]])
    logits = module(Tokens(states, mask), Tokens(image, image_mask))["logits"]
    assert logits.mask.tolist() == mask.tolist()
    noisy_states, noisy_image = states.clone(), image.clone()
    noisy_states[0, 4:] = drawn(2, 16, seed=7)
    noisy_image[0, 3] = drawn(12, seed=8)
    again = module(Tokens(noisy_states, mask), Tokens(noisy_image, image_mask))["logits"]
    torch.testing.assert_close(again.values[:, :4], logits.values[:, :4])
    other = module(Tokens(states, mask), Tokens(image + 1, image_mask))["logits"]
    assert not torch.allclose(other.values[:, :4], logits.values[:, :4])


def test_image_tokens_have_no_order() -> None:
    module = captioner()
    states = Tokens(drawn(1, 3, 16, seed=4), torch.ones(1, 3, dtype=torch.bool))
    image = drawn(1, 4, 12, seed=5)
    torch.testing.assert_close(
        module(states, image)["logits"].values, module(states, image[:, [2, 0, 3, 1]])["logits"].values
    )


def test_a_decoder_that_reads_raw_text_learns_its_own_words() -> None:
    encoder = CaptionDecoder(of=("caption", "image.tokens"), tokenizer="word", width=16)  # type: ignore[arg-type]
    assert encoder.learns() == (0,)
    state = encoder.learn(0, TEXTS)
    image = TensorType("tokens", size=(4, 12))
    module = encoder.build(TensorType("text"), image, state=state)
    ids = padded([encoder.preprocess(0, text, state) for text in TEXTS], 10)
    assert module(ids, torch.randn(3, 4, 12))["logits"].values.shape == (3, 10, 4 + len(state["ids"]))


def test_a_decoder_names_missing_inputs() -> None:
    image = TensorType("tokens", size=(4, 12))
    with_words = CaptionDecoder(of=("caption", "image.tokens"))  # type: ignore[arg-type]
    with pytest.raises(ComponentError, match="takes a `tokenizer`"):
        with_words.outputs(TensorType("text"), image)
    with pytest.raises(ComponentError, match="the number of ids"):
        with_words.outputs(TensorType("tokens", size=(None, 8)), image)
    with pytest.raises(ComponentError, match="one known width"):
        with_words.build(
            TensorType("tokens", size=(None, 8), vocabulary=9), TensorType("tokens", size=(4, None)), state={}
        )
    assert with_words.learns() == ()
