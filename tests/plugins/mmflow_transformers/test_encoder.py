"""Models of transformers give what transformers gives, from the same raw images, texts, sounds and clips."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmflow.plugin import Tokens
from mmflow.plugin.addresses import address
from mmflow.spec import SpecError, load_text

T = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
WORDS = 64
PICTURE = {**SMALL, "image_size": 24, "patch_size": 8}
IMAGES: dict[str, Any] = {
    "vit": lambda: T.ViTModel(T.ViTConfig(**PICTURE)),
    "dinov2": lambda: T.Dinov2Model(T.Dinov2Config(**{**PICTURE, "image_size": 24, "mlp_ratio": 2})),
}
TEXTS: dict[str, Any] = {
    "bert": lambda: T.BertModel(T.BertConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=20)),
    "roberta": lambda: T.RobertaModel(
        T.RobertaConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=22, pad_token_id=1)
    ),
    "mpnet": lambda: T.MPNetModel(T.MPNetConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=22)),
    "qwen2": lambda: T.Qwen2Model(T.Qwen2Config(**SMALL, vocab_size=WORDS, num_key_value_heads=2)),
}
TOWERS: dict[str, Any] = {
    "clip": lambda: T.CLIPModel(
        T.CLIPConfig(
            text_config={
                **SMALL, "vocab_size": WORDS, "max_position_embeddings": 20, "eos_token_id": 3, "pad_token_id": 1
            },
            vision_config=PICTURE, projection_dim=12,
        )
    ),
    "siglip": lambda: T.SiglipModel(
        T.SiglipConfig(
            text_config={**SMALL, "vocab_size": WORDS, "max_position_embeddings": 16, "pad_token_id": 1},
            vision_config=PICTURE,
        )
    ),
}  # fmt: skip
PRECISIONS = [(torch.float64, 1e-6), (torch.float32, 1e-5)]


def save(model: Any, folder: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Words of the captions, with the special tokens that all of these models have."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "<unk>", "</s>", "<mask>"]
    words = ["a", "the", "small", "large", "red", "green", "blue", "circle", "square", "above", "below", "on"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 3)])
    T.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", cls_token="<s>", pad_token="<pad>", unk_token="<unk>",
        eos_token="</s>", sep_token="</s>", mask_token="<mask>",
    ).save_pretrained(folder)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models with weights of their own, saved with their processors as the library saves them."""
    made = {}
    for number, (name, make) in enumerate((IMAGES | TEXTS | TOWERS).items()):
        made[name] = save(make(), tmp_path_factory.mktemp(name), number)
        if name not in TEXTS:
            kind = T.CLIPImageProcessor if name == "clip" else T.ViTImageProcessor
            crop = {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}}
            kind(**(crop if name == "clip" else {"size": {"height": 24, "width": 24}})).save_pretrained(made[name])
        if name not in IMAGES:
            save_tokenizer(made[name])
    return made


def load(folder: Path, dtype: torch.dtype) -> Any:
    return T.AutoModel.from_pretrained(folder, attn_implementation="eager").eval().to(dtype)


def compare(found: Any, expected: dict[str, Tensor], near: float, mask: Tensor | None = None) -> None:
    """Equal where tokens are real."""
    for name, value in expected.items():
        mine = found[name]
        if isinstance(mine, Tokens):
            if mask is not None:
                assert mine.mask.equal(mask), name
            mine, value = mine.values[mine.mask], value[mine.mask]
        torch.testing.assert_close(mine, value, rtol=near, atol=near, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("name", [*IMAGES, *TOWERS])
@pytest.mark.parametrize(("dtype", "near"), PRECISIONS)
def test_images(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    tower = "tower: image, " if name in TOWERS else ""
    run = library_encoder(f"{{use: transformers, {tower}of: image, hub: {folders[name]}}}", dtype=dtype, rows=4)
    processor, model = T.AutoImageProcessor.from_pretrained(folders[name]), load(folders[name], dtype)
    pictures = [Image.fromarray(image) for image in run.raw("image")]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"].to(dtype)
    options = {"pixel_values": pixels, "output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        theirs = model.get_image_features(**options) if tower else model(**options)
    prefix = theirs.last_hidden_state.shape[1] - 9
    assert prefix == (0 if name == "siglip" else 1)
    tokens = theirs.last_hidden_state[:, prefix:]
    expected = {"pooled": theirs.pooler_output, "tokens": tokens, "grid": tokens.unflatten(1, (3, 3))}
    expected |= {f"layers.{n}": theirs.hidden_states[n][:, prefix:] for n in (1, 2)}
    expected |= {f"attention.{n}": theirs.attentions[n - 1] for n in (1, 2)}
    found = run.encode(list(expected))
    compare(found, expected, near)
    declared_as_made(run, found)
    names = {key.removeprefix("encoders.x.") for key in run.model.modules.state_dict()}
    assert names == {key for key in model.state_dict() if not key.startswith(("text_", "logit_"))}


@pytest.mark.parametrize("name", [*TEXTS, *TOWERS])
@pytest.mark.parametrize(("dtype", "near"), PRECISIONS)
def test_texts(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    tower = "tower: text, " if name in TOWERS else ""
    run = library_encoder(f"{{use: transformers, {tower}of: caption, hub: {folders[name]}}}", dtype=dtype, rows=2)
    tokenizer, model = T.AutoTokenizer.from_pretrained(folders[name]), load(folders[name], dtype)
    texts = run.raw("caption")
    padding = {"padding": "max_length", "max_length": 16} if name == "siglip" else {"padding": True, "max_length": 20}
    batch = tokenizer(texts, return_tensors="pt", truncation=True, **padding)
    real = batch["attention_mask"].bool()
    assert len(set(real.sum(1).tolist())) > 1 or name == "siglip"
    options: dict[str, Any] = {"input_ids": batch["input_ids"], "output_hidden_states": True, "output_attentions": True}
    options |= {} if name == "siglip" else {"attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        theirs = model.get_text_features(**options) if tower else model(**options)
    expected = {"tokens": theirs.last_hidden_state}
    expected |= {f"layers.{n}": theirs.hidden_states[n] for n in (1, 2)}
    if name == "qwen2":
        expected["pooled"] = theirs.last_hidden_state[torch.arange(6), real.sum(1) - 1]
    else:
        expected["pooled"] = theirs.pooler_output
    found = run.encode(list(expected))
    longest = max(found["tokens"].mask.sum(1))
    compare(found, expected, near, real[:, : found["tokens"].mask.shape[1]])
    assert int(longest) == int(real.sum(1).max())
    declared_as_made(run, found)
    pooled = library_encoder(
        f"{{use: transformers, {tower}of: caption, hub: {folders[name]}, pool: mean}}", dtype=dtype, rows=3
    ).encode(["pooled"])
    weight = real.to(dtype).unsqueeze(-1)
    mean = (theirs.last_hidden_state * weight).sum(1) / weight.sum(1)
    torch.testing.assert_close(pooled["pooled"], mean, rtol=near, atol=near)


SOUND = "{use: sounds, size: 6}"


@pytest.mark.parametrize(("dtype", "near"), PRECISIONS)
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_sounds_of_wav2vec2(
    tmp_path: Path, library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], dtype: torch.dtype,
    near: float, norm: str,
) -> None:  # fmt: skip
    config = T.Wav2Vec2Config(
        **SMALL, conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2), num_feat_extract_layers=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, feat_extract_norm=norm,
        feature_size=1, mask_time_prob=0.5,
    )  # fmt: skip
    folder = save(T.Wav2Vec2Model(config), tmp_path, 0)
    T.Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=norm == "layer").save_pretrained(folder)
    text = f"{{use: transformers, of: audio, rate: 8000, hub: {folder}}}"
    # Group normalization sees the padding of a batch: each sound by itself, as the library would have it.
    run = library_encoder(text, source=SOUND, dtype=dtype, rows=1 if norm == "group" else 4)
    model, extractor = load(folder, dtype), T.AutoFeatureExtractor.from_pretrained(folder)
    found = run.encode(["pooled", "tokens", "layers.1"])
    for row, sound in enumerate(run.raw("audio")):
        values = extractor(sound, sampling_rate=8000, return_tensors="pt")["input_values"].to(dtype)
        with torch.no_grad():
            theirs = model(values, output_hidden_states=True)
        length = theirs.last_hidden_state.shape[1]
        assert int(found["tokens"].mask[row].sum()) == length
        expected = {
            "pooled": theirs.last_hidden_state.mean(1)[0], "tokens": theirs.last_hidden_state[0],
            "layers.1": theirs.hidden_states[1][0],
        }  # fmt: skip
        for name, value in expected.items():
            mine = found[name].values[row, :length] if name != "pooled" else found[name][row]
            torch.testing.assert_close(mine, value, rtol=near * 10, atol=near * 10)
    declared_as_made(run, found)


@pytest.mark.parametrize("name", ["whisper", "ast"])
def test_sounds_by_their_spectrum(
    tmp_path: Path, library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str
) -> None:
    if name == "whisper":
        config = T.WhisperConfig(
            d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=9, num_mel_bins=80, max_source_positions=100,
            pad_token_id=1, bos_token_id=2, eos_token_id=3, decoder_start_token_id=2,
        )  # fmt: skip
        folder = save(T.WhisperModel(config), tmp_path, 0)
        T.WhisperFeatureExtractor(feature_size=80, sampling_rate=8000, chunk_length=2, hop_length=80).save_pretrained(
            folder
        )
    else:
        config = T.ASTConfig(**SMALL, max_length=64, num_mel_bins=16, patch_size=8, frequency_stride=8, time_stride=8)
        folder = save(T.ASTModel(config), tmp_path, 0)
        T.ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=64).save_pretrained(folder)
    run = library_encoder(f"{{use: transformers, of: audio, rate: 8000, hub: {folder}}}", source=SOUND, rows=4)
    extractor = T.AutoFeatureExtractor.from_pretrained(folder)
    model = load(folder, torch.float64)
    model = model.get_encoder() if name == "whisper" else model
    given = extractor(run.raw("audio"), sampling_rate=8000, return_tensors="pt")
    key = "input_features" if name == "whisper" else "input_values"
    with torch.no_grad():
        theirs = model(given[key].double(), output_hidden_states=True)
    pooled = theirs.last_hidden_state.mean(1) if name == "whisper" else theirs.pooler_output
    expected = {"pooled": pooled, "tokens": theirs.last_hidden_state, "layers.2": theirs.hidden_states[2]}
    found = run.encode(list(expected))
    compare(found, expected, 1e-6)
    declared_as_made(run, found)


def test_clips_of_videomae(
    tmp_path: Path, library_encoder: Callable[..., Any], declared_as_made: Callable[..., None]
) -> None:
    config = T.VideoMAEConfig(**PICTURE, num_frames=4, tubelet_size=2)
    folder = save(T.VideoMAEModel(config), tmp_path, 0)
    T.VideoMAEImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder)
    source = "{use: motions, size: 6, frames: 4, pixels: 32}"
    run = library_encoder(f"{{use: transformers_video, of: video, hub: {folder}}}", source=source, rows=4)
    processor, model = T.AutoImageProcessor.from_pretrained(folder), load(folder, torch.float64)
    clips = [processor(list(np.asarray(clip)), return_tensors="pt")["pixel_values"][0] for clip in run.raw("video")]
    with torch.no_grad():
        theirs = model(torch.stack(clips).double(), output_hidden_states=True)
    states = theirs.last_hidden_state
    expected = {"pooled": states.mean(1), "tokens": states, "layers.1": theirs.hidden_states[1]}
    found = run.encode(list(expected))
    compare(found, expected, 1e-6)
    declared_as_made(run, found)
    short = source.replace("frames: 4", "frames: 6")
    with pytest.raises(ValueError, match="the model takes 4 frames, got 6"):
        library_encoder(f"{{use: transformers_video, of: video, hub: {folder}}}", source=short).encode(["pooled"])


def test_training_is_the_librarys_own_at_the_address_of_the_node(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    folder = folders["bert"]
    run = library_encoder(f"{{use: transformers, of: caption, hub: {folder}}}")
    assert run.spec.encoders["x"].draws()
    model = T.AutoModel.from_pretrained(folder).double().train()
    batch = T.AutoTokenizer.from_pretrained(folder)(
        run.raw("caption"), return_tensors="pt", padding=True, truncation=True, max_length=20
    )
    torch.manual_seed(address(0, "model", 3, "encoders.x", -1))
    expected = model(batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
    torch.testing.assert_close(run.train()["pooled"], expected, rtol=1e-6, atol=1e-6)


def test_a_model_written_out_is_drawn_at_its_address(library_encoder: Callable[..., Any]) -> None:
    written = json.dumps({"model_type": "bert", **SMALL, "vocab_size": 300})
    run = library_encoder(f"{{use: transformers, of: caption, config: {written}, tokenizer: byte}}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(0, "weights", "encoders.x"))
        model = T.BertModel(T.BertConfig(**SMALL, vocab_size=300)).double()
    stored = model.state_dict()
    assert all(value.equal(stored[name]) for name, value in run.module.state_dict().items())
    assert run.encode(["pooled"])["pooled"].shape == (6, 32)
    picture = json.dumps({"model_type": "vit", **PICTURE})
    images = library_encoder(f"{{use: transformers, of: image, config: {picture}}}")
    assert images.encode(["grid"])["grid"].shape == (6, 3, 3, 32)


def test_weights_without_a_pooler_are_refused_unless_another_pooling_is_wanted(
    tmp_path: Path, library_encoder: Callable[..., Any]
) -> None:
    folder = save(T.BertForMaskedLM(T.BertConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=20)), tmp_path, 0)
    save_tokenizer(folder)
    text = f"{{use: transformers, of: caption, hub: {folder}}}"
    with pytest.raises(Exception, match=r"lack pooler.dense.bias, pooler.dense.weight") as caught:
        library_encoder(text)
    assert "`pool: mean`" in str(getattr(caught.value, "hint", ""))
    run = library_encoder(text.replace("}", ", pool: cls}"))
    assert not [name for name in run.module.state_dict() if "pooler" in name]


def test_lora_trains_a_language_model(folders: dict[str, Path], library_encoder: Callable[..., Any]) -> None:
    text = f"{{use: transformers, of: caption, hub: {folders['qwen2']}}}"
    plain = library_encoder(text)
    run = library_encoder(text.replace("}", ", lora: {rank: 2, targets: ['*.q_proj', '*.v_proj']}}"))
    assert run.encode(["pooled"])["pooled"].equal(plain.encode(["pooled"])["pooled"])
    names = [name for name, p in run.model.modules.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 * 2
    assert all("lora_" in name for name in names)


def test_no_code_of_a_folder_runs(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(folders["vit"], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(SpecError, match="which mmflow never runs"):
        load_text(SPEC.format(written=f"hub: {folder}, of: image"))
    assert not (tmp_path / "ran").exists()


SPEC = """
mmflow: 1
data: {{train: {{use: shapes, size: 6}}}}
encoders: {{x: {{use: transformers, {written}}}}}
losses: {{l: {{use: uniformity, of: x}}}}
train: {{data: train, steps: 1}}
"""


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("config: {model_type: bret}, of: caption", "transformers has no model type 'bret'; did you mean bert"),
        ("config: {hidden_size: 3}, of: caption", "needs `model_type`"),
        ("config: {model_type: bert}, of: caption", "needs a tokenizer; write `tokenizer:`"),
        ("config: {model_type: clip}, of: image", "clip has several towers; write `tower:` with image or text"),
        ("config: {model_type: bert}, tower: image, of: image", "bert has no tower image; leave `tower` out"),
        ("config: {model_type: bert}, tokenizer: byte, of: image", "bert cannot read image; name text"),
        ("config: {model_type: videomae}, of: image", "videomae reads videos; write `use: transformers_video`"),
        ("hub: ./nowhere, of: image", "there is no folder ./nowhere"),
    ],
)
def test_what_transformers_does_not_have_is_told_in_one_line(written: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        load_text(SPEC.format(written=written))
    assert len(str(caught.value).splitlines()) == 1
