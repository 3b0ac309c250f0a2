"""Towers of open_clip give what open_clip gives, from the same raw images and texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from mmflow.plugin import Tokens
from mmflow.plugin.addresses import address
from mmflow.spec import SpecError, load_text

open_clip = pytest.importorskip("open_clip")
pytestmark = pytest.mark.slow

TEXT = {"context_length": 16, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 2}
IMAGE = {"image_size": 24, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
MODELS: dict[str, dict[str, Any]] = {
    "clip": {"embed_dim": 24, "vision_cfg": IMAGE, "text_cfg": TEXT},
    "late": {
        # As SigLIP: no mask of the future, the last token whatever it is, padding that is not 0, attention pooling.
        "embed_dim": 24, "custom_text": True,
        "vision_cfg": {**IMAGE, "final_ln_after_pool": True, "pool_type": "avg"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_type": "linear", "proj_bias": True},
    },
    "coca": {
        "embed_dim": 24, "custom_text": True, "vision_cfg": {**IMAGE, "no_ln_pre": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    },
    "resnet": {
        "embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}, "text_cfg": TEXT,
        "quick_gelu": True,
    },
}  # fmt: skip
PREPROCESSING = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models with weights of their own, saved as the hub has them."""
    made = {}
    for number, (name, config) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        options = dict(config)
        kind = open_clip.CustomTextCLIP if options.pop("custom_text", False) else open_clip.CLIP
        model = kind(**options)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        made[name] = tmp_path_factory.mktemp(name)
        save_file(model.state_dict(), made[name] / "open_clip_model.safetensors")
        stored = {"model_cfg": config, "preprocess_cfg": PREPROCESSING}
        (made[name] / "open_clip_config.json").write_text(json.dumps(stored))
    return made


def theirs(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """The library's model, its image transform and its tokenizer."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval().to(dtype), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


def close(found: Any, expected: Tensor, near: float, name: str) -> None:
    value = found.values if isinstance(found, Tokens) else found
    torch.testing.assert_close(value, expected, rtol=near, atol=near, msg=lambda said: f"{name}: {said}")


PRECISIONS = [(torch.float64, 1e-6), (torch.float32, 1e-5)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "near"), PRECISIONS)
def test_images_are_encoded_as_the_library_does(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    run = library_encoder(f"{{use: open_clip, tower: image, of: image, hub: {folders[name]}}}", dtype=dtype, rows=4)
    model, transform, _ = theirs(folders[name], dtype)
    images = torch.stack([transform(Image.fromarray(image)) for image in run.raw("image")]).to(dtype)
    with torch.no_grad():
        expected = {"pooled": model.encode_image(images)}
        if name != "resnet":
            model.visual.output_tokens = True
            _, tokens = model.visual(images)
            expected |= {"tokens": tokens, "grid": tokens.unflatten(1, (3, 3))}
            layers = model.visual.forward_intermediates(images, output_fmt="NLC", intermediates_only=True)
            layers = layers["image_intermediates"]
            expected |= {f"layers.{number}": layer for number, layer in enumerate(layers, 1)}
    found = run.encode(list(expected))
    for output, value in expected.items():
        close(found[output], value, near, output)
    declared_as_made(run, found)
    names = {key.removeprefix("encoders.x.") for key in run.model.modules.state_dict()}
    assert names == set(model.visual.state_dict())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "near"), PRECISIONS)
def test_texts_are_encoded_as_the_library_does(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    run = library_encoder(f"{{use: open_clip, tower: text, of: caption, hub: {folders[name]}}}", dtype=dtype, rows=4)
    model, _, tokenizer = theirs(folders[name], dtype)
    texts = run.raw("caption")
    assert len({len(text.split()) for text in texts}) > 1
    ids = tokenizer(texts)
    with torch.no_grad():
        pooled = model.encode_text(ids)
        expected = {"pooled": pooled[0] if isinstance(pooled, tuple) else pooled}
        if hasattr(model, "text"):
            model.text.output_tokens = True
            expected["tokens"] = model.text(ids)[1]
            layers = model.text.forward_intermediates(ids, output_fmt="NLC", intermediates_only=True)
        else:
            layers = model.forward_intermediates(text=ids, intermediates_only=True)
            last = layers["text_intermediates"][-1]
            expected["tokens"] = model.ln_final(last)
        expected |= {f"layers.{number}": layer for number, layer in enumerate(layers["text_intermediates"], 1)}
    found = run.encode(["ids", *expected])
    assert found["ids"].values.equal(ids)
    # The end of a text is there, what follows is padding.
    assert found["ids"].mask.sum(1).tolist() == [int(row.argmax()) + 1 for row in ids]
    for output, value in expected.items():
        close(found[output], value, near, output)
    declared_as_made(run, found)


@pytest.mark.parametrize(("tower", "of"), [("image", "image"), ("text", "caption")])
def test_attention_maps_are_those_that_mix_the_values(
    folders: dict[str, Path], library_encoder: Callable[..., Any], tower: str, of: str
) -> None:
    run = library_encoder(f"{{use: open_clip, tower: {tower}, of: {of}, hub: {folders['clip']}}}")
    found = run.encode(["attention.2", "layers.1", "pooled"])
    maps = found["attention.2"]
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1], dtype=torch.float64))
    block = run.module.transformer.resblocks[1]
    given: list[Tensor] = []
    handle = block.ln_1.register_forward_hook(lambda module, _, result: given.append(result))
    before = run.encode(["pooled"])["pooled"]
    handle.remove()
    attention = block.attn
    width = attention.embed_dim
    values = given[0] @ attention.in_proj_weight[2 * width :].T + attention.in_proj_bias[2 * width :]
    mixed = maps @ values.unflatten(-1, (2, -1)).transpose(1, 2)
    out = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    mask = None if tower == "image" else run.module.attn_mask
    torch.testing.assert_close(out, attention(given[0], given[0], given[0], attn_mask=mask)[0], rtol=1e-9, atol=1e-9)
    # Asking for maps changes no result.
    assert before.equal(found["pooled"])


def test_an_inline_model_is_drawn_at_its_address(library_encoder: Callable[..., Any]) -> None:
    config = json.dumps(MODELS["clip"])
    text = f"{{use: open_clip, tower: text, of: caption, config: {config}}}"
    one = library_encoder(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(0, "weights", "encoders.x"))
        model = open_clip.CLIP(**MODELS["clip"]).double()
    stored = model.state_dict()
    assert all(value.equal(stored[name]) for name, value in one.module.state_dict().items())
    sized = library_encoder(f"{{use: open_clip, tower: image, of: image, size: 32, config: {config}}}")
    assert sized.encode(["grid"])["grid"].shape == (6, 4, 4, 32)


def test_lora_trains_beside_the_librarys_attention(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    from mmflow.model.lora import merged

    text = f"{{use: open_clip, tower: image, of: image, hub: {folders['clip']}}}"
    plain = library_encoder(text)
    adapted = library_encoder(text.replace("}", ", lora: {rank: 2, targets: [transformer]}}"))
    # Equal but for the order of sums: the library's attention takes another way where weights are computed.
    torch.testing.assert_close(adapted.encode(["pooled"])["pooled"], plain.encode(["pooled"])["pooled"])
    names = {name for name, p in adapted.model.modules.named_parameters() if p.requires_grad}
    assert names
    assert all("lora_" in name for name in names)
    for name, parameter in adapted.module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    apart = adapted.encode(["pooled"])["pooled"]
    assert not torch.allclose(apart, plain.encode(["pooled"])["pooled"])
    whole = merged(adapted.module)
    assert whole.state_dict().keys() == plain.module.state_dict().keys()
    plain.module.load_state_dict(whole.state_dict())
    torch.testing.assert_close(plain.encode(["pooled"])["pooled"], apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("tower: image, hub: ViT-B-23", r"open_clip has no model 'ViT-B-23'; did you mean ViT-B-32"),
        ("tower: image, hub: ViT-B-32", "which weights of ViT-B-32.*write `pretrained:` with one of"),
        ("tower: image, hub: ViT-B-32, pretrained: laion", "open_clip has no weights 'laion' of ViT-B-32; it has"),
        ("tower: image, hub: ./nowhere", "there is no folder ./nowhere"),
        ("tower: image, config: {embed_dim: 8}", "needs `vision_cfg`"),
        ("tower: image, config: {embed_dim: 8, vision_cfg: {}, text_cfg: {}, depth: 3}", "cannot build this model: "),
        ("tower: sound, hub: ViT-B-32", "one of image, text"),
        ("tower: text, hub: ViT-B-32, pretrained: openai", "the text tower cannot read image; name a text"),
        ("tower: image, hub: ., pretrained: openai", "`pretrained` is the tag of a name that open_clip lists"),
    ],
)
def test_what_open_clip_does_not_have_is_told_in_one_line(written: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        load_text(f"""
mmflow: 1
data: {{train: {{use: shapes, size: 6}}}}
encoders: {{x: {{use: open_clip, {written}, of: image}}}}
losses: {{l: {{use: uniformity, of: x}}}}
train: {{data: train, steps: 1}}
""")
    assert len(str(caught.value).splitlines()) == 1
