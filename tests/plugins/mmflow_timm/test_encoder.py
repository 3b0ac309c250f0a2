"""Encoders of timm give what timm gives, from the same raw images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mmflow.flow.plan import build_plan
from mmflow.model.outlook import outlook
from mmflow.plugin import Tokens
from mmflow.plugin.addresses import address
from mmflow.spec import SpecError, load_text

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.slow

MODELS = {
    "test_vit": {"img_size": 40, "patch_size": 8, "depth": 3},
    "test_convnext": {},
    "test_resnet": {},
    "vit_tiny_patch16_224": {
        "img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "reg_tokens": 2,
        "global_pool": "avg", "drop_rate": 0.2, "proj_drop_rate": 0.1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models with weights of their own, saved as the library saves them."""
    made = {}
    for number, (name, options) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        model = timm.create_model(name, pretrained=False, num_classes=5, **options)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        # Data configurations differ from the architecture's own.
        model.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "crop_pct": 0.9}
        model.pretrained_cfg["input_size"] = (3, options.get("img_size", 48), options.get("img_size", 48))
        made[name] = tmp_path_factory.mktemp(name)
        timm.models.save_for_hf(model, made[name], model_args=options, safe_serialization=True)
    return made


def theirs(folder: Path, images: list[Any], dtype: torch.dtype, **options: Any) -> tuple[Any, Tensor]:
    """The library's model of a folder, and the images as it prepares them."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, **options).eval().to(dtype)
    config = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**config, is_training=False)
    return model, torch.stack([transform(Image.fromarray(image)) for image in images]).to(dtype)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_outputs_and_taps_are_the_librarys_own(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    run = library_encoder(f"{{use: timm, of: image, hub: {folders[name]}, classifier: true}}", dtype=dtype, rows=4)
    taps = run.spec.encoders["x"].taps()
    outputs = [output for output in ("pooled", "tokens", "grid", "logits") if output in run.spec.encoders["x"].outputs(
        run.spec.scope("train").fields["image"])]  # fmt: skip
    found = run.encode([*outputs, *taps])
    model, images = theirs(folders[name], run.raw("image"), dtype)
    with torch.no_grad():
        features = model.forward_features(images)
        expected: dict[str, Tensor] = {
            "pooled": model.forward_head(features, pre_logits=True),
            "logits": model(images),
        }
        layers = model.forward_intermediates(images, intermediates_only=True)
    if "vit" in name:
        assert outputs == ["pooled", "tokens", "grid", "logits"]
        expected["tokens"] = features[:, model.num_prefix_tokens :]
        expected["grid"] = expected["tokens"].unflatten(1, model.patch_embed.grid_size)
        for number, layer in enumerate(layers, 1):
            expected[f"layers.{number}"] = layer.flatten(2).transpose(1, 2)
        from timm.utils.attention_extract import AttentionExtract

        for block in model.blocks:
            block.attn.fused_attn = False
        names = [f"blocks.{number}.attn.attn_drop" for number in range(len(model.blocks))]
        with torch.no_grad():
            maps = AttentionExtract(model, names=names, method="hook")(images)
        expected |= {f"attention.{number}": value for number, value in enumerate(maps.values(), 1)}
    else:
        assert outputs == ["pooled", "grid", "logits"]
        expected["grid"] = features.permute(0, 2, 3, 1)
        expected |= {f"layers.{number}": layer.permute(0, 2, 3, 1) for number, layer in enumerate(layers, 1)}
    assert expected.keys() == found.outputs.keys()
    for output, value in expected.items():
        mine = found[output]
        if isinstance(mine, Tokens):
            assert bool(mine.mask.all())
            mine = mine.values
        torch.testing.assert_close(
            mine, value, rtol=near, atol=near, msg=lambda said, output=output: f"{output}: {said}"
        )
    declared_as_made(run, found)
    # Its parameters keep the library's names.
    assert {key.removeprefix("encoders.x.") for key in run.model.modules.state_dict()} == set(model.state_dict())


def test_training_is_the_librarys_own_at_the_address_of_the_node(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    folder = folders["vit_tiny_patch16_224"]
    run = library_encoder(f"{{use: timm, of: image, hub: {folder}}}", overrides=["train.micro_batch_size=2"])
    assert any("encoders.x draw (dropout)" in line for line in outlook(run.spec))
    model, images = theirs(folder, run.raw("image"), torch.float64, num_classes=0)
    for name, rate in (("drop_rate", 0.2), ("proj_drop_rate", 0.1)):
        assert MODELS["vit_tiny_patch16_224"][name] == rate
    torch.manual_seed(address(0, "model", 3, "encoders.x", -1))
    expected = model.train()(images)
    torch.testing.assert_close(run.train()["pooled"], expected, rtol=1e-6, atol=1e-6)


def test_an_inline_model_is_drawn_at_its_address_and_takes_another_size(library_encoder: Callable[..., Any]) -> None:
    text = "{use: timm, of: image, config: {architecture: test_vit, depth: 2, patch_size: 8}, size: 24}"
    one, two = library_encoder(text), library_encoder(text)
    found = one.encode(["pooled", "grid"])
    assert found["grid"].shape == (6, 3, 3, 64)
    assert found["pooled"].equal(two.encode(["pooled"])["pooled"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(0, "weights", "encoders.x"))
        model = timm.create_model("test_vit", num_classes=0, depth=2, patch_size=8, img_size=24)
    assert all(value.equal(model.double().state_dict()[name]) for name, value in one.module.state_dict().items())


def test_a_key_has_the_weights_and_not_the_place(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    def key(folder: Path) -> str:
        text = f"""
mmflow: 1
data: {{train: {{use: shapes, size: 6}}}}
encoders: {{x: {{use: timm, of: image, hub: {folder}}}}}
losses: {{l: {{use: uniformity, of: x}}}}
train: {{data: train, steps: 1}}
"""
        return build_plan(load_text(text))["train"].key

    moved, changed = tmp_path / "moved", tmp_path / "changed"
    for folder in (moved, changed):
        shutil.copytree(folders["test_resnet"], folder)
    weights = changed / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert key(moved) == key(folders["test_resnet"])
    assert key(changed) != key(moved)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("hub: test_vti", "timm has no model 'test_vti'; did you mean test_vit"),
        (
            "config: {architecture: test_vit, dpeth: 3}",
            "timm cannot build test_vit: .*unexpected keyword argument 'dpeth'",
        ),
        ("config: {architecture: tset_vit}", "timm has no model 'tset_vit'; did you mean"),
        ("hub: ./nowhere", "there is no folder ./nowhere"),
        ("size: 32", "give either `hub`, a name or folder, or `config`"),
        ("config: {architecture: test_vit}, revision: main", "`revision` is of a name on the hub"),
        ("config: {architecture: test_resnet}, head: {use: linear, dim: 8}, of: caption", "timm cannot read `caption`"),
    ],
)
def test_what_timm_does_not_have_is_told_in_one_line(written: str, says: str) -> None:
    of = "" if "of:" in written else ", of: image"
    with pytest.raises(SpecError, match=says) as caught:
        load_text(f"""
mmflow: 1
data: {{train: {{use: shapes, size: 6}}}}
encoders: {{x: {{use: timm, {written}{of}}}}}
losses: {{l: {{use: uniformity, of: x}}}}
train: {{data: train, steps: 1}}
""")
    assert len(str(caught.value).splitlines()) == 1
