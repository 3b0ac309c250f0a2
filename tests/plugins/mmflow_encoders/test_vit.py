"""The vision transformer: equal to timm's with the same weights; registers, pooling, patch dropout, sizes, maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmflow_encoders.images.vit import Vit
from mmflow_encoders.modules.image_transformer import ImageTransformer
from pydantic import ValidationError
from torch import Tensor, nn

from mmflow.plugin import ComponentError, TensorType

IMAGE = TensorType("image", size=(24, 24, 3))


def tower(**fields: Any) -> ImageTransformer:
    """A tower with weights and norms that differ from their initial values, in double precision."""
    declared = {"of": "image", "size": 24, "patch": 8, "width": 12, "depth": 2, "heads": 3, **fields}
    torch.manual_seed(0)
    module = Vit.model_validate(declared).build(IMAGE, state={})
    assert isinstance(module, ImageTransformer)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def images(rows: int = 3, height: int = 24, width: int = 24) -> Tensor:
    return torch.rand(rows, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def copied(module: ImageTransformer, pool: str, registers: int) -> Any:
    """timm's vision transformer with the weights of ours."""
    timm = pytest.importorskip("timm")
    theirs = timm.models.VisionTransformer(
        img_size=24, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=0, class_token=pool == "cls",
        global_pool={"cls": "token", "mean": "avg", "attention": "map"}[pool], reg_tokens=registers, fc_norm=False,
        norm_layer=nn.LayerNorm,
    ).double().eval()  # fmt: skip
    own = dict(module.named_parameters())
    prefix = int(pool == "cls")
    positions = own["positions"]
    empty = torch.zeros(1, registers, 12, dtype=torch.float64)
    state = {"pos_embed": torch.cat([positions[:, :prefix], empty, positions[:, prefix:]], dim=1)}
    if pool == "cls":
        state["cls_token"] = own["classify"]
    if registers:
        state["reg_token"] = own["registers"]
    for part in ("weight", "bias"):
        state[f"patch_embed.proj.{part}"] = own[f"patches.{part}"]
        state[f"norm.{part}"] = own[f"norm.{part}"]
        for n in range(2):
            ours, name = f"blocks.{n}", f"blocks.{n}"
            joined = [own[f"{ours}.self_attention.{p}.{part}"] for p in ("query", "key_value")]
            state[f"{name}.attn.qkv.{part}"] = torch.cat(joined)
            state[f"{name}.attn.proj.{part}"] = own[f"{ours}.self_attention.out.{part}"]
            state[f"{name}.norm1.{part}"] = own[f"{ours}.norm_self.{part}"]
            state[f"{name}.norm2.{part}"] = own[f"{ours}.norm_mlp.{part}"]
            state[f"{name}.mlp.fc1.{part}"] = own[f"{ours}.mlp.0.{part}"]
            state[f"{name}.mlp.fc2.{part}"] = own[f"{ours}.mlp.3.{part}"]
        if pool == "attention":
            state[f"attn_pool.q.{part}"] = own[f"pooling.attention.query.{part}"]
            state[f"attn_pool.kv.{part}"] = own[f"pooling.attention.key_value.{part}"]
            state[f"attn_pool.proj.{part}"] = own[f"pooling.attention.out.{part}"]
            state[f"attn_pool.norm.{part}"] = own[f"pooling.norm.{part}"]
            state[f"attn_pool.mlp.fc1.{part}"] = own[f"pooling.mlp.0.{part}"]
            state[f"attn_pool.mlp.fc2.{part}"] = own[f"pooling.mlp.3.{part}"]
    if pool == "attention":
        state["attn_pool.latent"] = own["pooling.latent"]
        theirs.attn_pool.norm = nn.LayerNorm(12, dtype=torch.float64)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    return theirs


@pytest.mark.parametrize("pool", ["cls", "mean", "attention"])
@pytest.mark.parametrize("registers", [0, 2])
def test_the_tower_is_the_one_of_timm(pool: str, registers: int) -> None:
    module = tower(pool=pool, registers=registers)
    theirs = copied(module, pool, registers)
    x = images()
    found = module(x)
    with torch.no_grad():
        features = theirs.forward_features((x - 0.5) / 0.5)
        torch.testing.assert_close(found["pooled"], theirs.forward_head(features))
    torch.testing.assert_close(found["tokens"].values, features[:, -9:])
    torch.testing.assert_close(found["grid"], features[:, -9:].unflatten(1, (3, 3)))


def test_positions_are_interpolated_as_timm_does() -> None:
    timm = pytest.importorskip("timm")
    from mmflow_encoders.modules.image_transformer import grid_positions

    positions = torch.randn(1, 10, 12, generator=torch.Generator().manual_seed(2))
    for height, width in ((5, 4), (2, 2), (3, 3)):
        expected = timm.layers.resample_abs_pos_embed(positions, [height, width], num_prefix_tokens=1)
        found = grid_positions(positions, height, width, leading=True)
        torch.testing.assert_close(found, expected)
    assert grid_positions(positions, 3, 3, leading=True) is positions


def test_an_image_of_another_size_has_as_many_places_as_patches() -> None:
    module = tower(pool="cls", registers=1)
    found = module(images(2, 40, 16))
    assert found["grid"].shape == (2, 5, 2, 12)
    assert found["tokens"].values.shape == (2, 10, 12)
    declared = Vit.model_validate({"of": "image", "size": 24, "patch": 8, "fit": "keep", "width": 12, "heads": 3})
    outputs = declared.outputs(TensorType("image", size=(43, 17, 3)))
    assert outputs["grid"].size == (5, 2, 12)
    assert outputs["tokens"].size == (10, 12)
    assert declared.outputs(TensorType("image", size=(None, None, 3)))["tokens"].size == (None, 12)


def test_kept_images_are_cut_around_the_center_to_whole_patches() -> None:
    declared = Vit.model_validate({"of": "image", "size": 24, "patch": 8, "fit": "keep", "width": 12, "heads": 3})
    image = np.arange(43 * 17 * 3, dtype=np.uint8).reshape(43, 17, 3)
    found = declared.preprocess(0, image, {})
    np.testing.assert_array_equal(found, image[1:41, 0:16])
    ready = np.zeros((3, 16, 24), np.float32)
    assert declared.preprocess(0, ready, {}) is ready
    for wrong in (np.zeros((7, 30, 3), np.uint8), np.zeros((3, 15, 24), np.float32)):
        with pytest.raises(ComponentError, match="an image of shape"):
            declared.preprocess(0, wrong, {})


def test_positions_of_another_size_are_declared_apart() -> None:
    module = tower(positions=16)
    assert module.positions.shape == (1, 4, 12)
    assert module(images())["grid"].shape == (3, 3, 3, 12)
    with pytest.raises(ValidationError, match="positions 20 is no multiple of patch 8"):
        Vit.model_validate({"of": "image", "size": 24, "patch": 8, "positions": 20})


def test_patch_dropout_leaves_patches_out_in_training_alone() -> None:
    whole, module = tower(), tower(patch_dropout=0.6)
    x = images(8)
    torch.testing.assert_close(module(x)["pooled"], whole(x)["pooled"], rtol=0, atol=0)
    module.train()
    torch.manual_seed(3)
    found = module(x, taps=("layers.1", "attention.2"))
    values, mask = found["tokens"]
    # round(0.4 * 9) patches are seen.
    assert mask.sum(1).tolist() == [4] * 8
    assert len({tuple(row.tolist()) for row in mask}) > 1
    assert (values[~mask] == 0).all()
    torch.testing.assert_close(found["pooled"], values.sum(1) / 4)
    torch.testing.assert_close(found["grid"].flatten(1, 2), values)
    assert torch.equal(found["layers.1"].mask, mask)
    assert found["attention.2"].shape == (8, 3, 4, 4)
    # The result is that of the kept patches alone, each with its own position.
    row, places = x[:1], mask[0].nonzero().flatten()
    tokens = whole.patches((row - 0.5) / 0.5).flatten(2).transpose(1, 2) + whole.positions
    kept = tokens[:, places]
    for block in whole.blocks:
        kept = block(kept, None)
    torch.testing.assert_close(values[0, places], whole.norm(kept)[0])


def test_maps_are_those_of_torch_and_asking_changes_no_bit() -> None:
    module = tower(pool="attention", registers=2)
    x = images()
    plain = module(x)
    names = ("attention.1", "attention.2", "attention.pool", "layers.1")
    found = module(x, taps=names)
    assert not set(names) & set(plain)
    assert set(found) == set(plain) | set(names)
    assert torch.equal(found["pooled"], plain["pooled"])
    assert torch.equal(found["tokens"].values, plain["tokens"].values)
    block = module.blocks[1]
    own = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64).eval()
    attention = block.self_attention
    joined = {p: torch.cat([getattr(attention.query, p), getattr(attention.key_value, p)]) for p in ("weight", "bias")}
    own.load_state_dict({
        "in_proj_weight": joined["weight"], "in_proj_bias": joined["bias"],
        "out_proj.weight": attention.out.weight, "out_proj.bias": attention.out.bias,
    })  # fmt: skip
    before: list[Tensor] = []
    block.norm_self.register_forward_hook(lambda *call: before.append(call[-1]))
    module(x)
    _, weights = own(before[0], before[0], before[0], average_attn_weights=False)
    torch.testing.assert_close(found["attention.2"], weights)
    torch.testing.assert_close(found["attention.pool"].sum(-1), torch.ones(3, 3, 1, dtype=torch.float64))


def test_maps_cost_nothing_when_they_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmflow_encoders.modules import attention

    made: list[int] = []
    real = attention.attention_map
    monkeypatch.setattr(attention, "attention_map", lambda *x: made.append(1) or real(*x))
    module = tower()
    module(images())
    assert not made
    module(images(), taps=("attention.2",))
    assert len(made) == 1


def test_gradients_flow_through_maps_and_registers() -> None:
    module = tower(registers=1)
    module(images(), taps=("attention.1",))["attention.1"].square().sum().backward()
    assert module.registers is not None
    assert module.registers.grad is not None
    assert module.registers.grad.abs().sum() > 0


def test_encoders_that_draw_say_so() -> None:
    assert not Vit.model_validate({"of": "image"}).draws()
    assert Vit.model_validate({"of": "image", "dropout": 0.1}).draws()
    assert Vit.model_validate({"of": "image", "patch_dropout": 0.1}).draws()
