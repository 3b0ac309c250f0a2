"""Tiny models of other libraries, saved as these save them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
WORDS = ["a", "the", "small", "large", "red", "green", "blue", "circle", "square", "triangle", "above", "below", "on"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def save_tokenizer(folder: Path) -> None:
    """Words of the captions, with the special tokens that all of these models have."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "<unk>", "</s>", "<mask>"]
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*special, *WORDS])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", cls_token="<s>", pad_token="<pad>", unk_token="<unk>",
        eos_token="</s>", sep_token="</s>", mask_token="<mask>",
    ).save_pretrained(folder)  # fmt: skip


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, by what it is: bert, qwen2, vit, clip, siglip, open_clip, sentences."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            torch.manual_seed(len(made))
            _MAKERS[name](made[name])
        return made[name]

    return of


def _text(kind: str, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import transformers

        config = transformers.AutoConfig.for_model(kind, **SMALL, vocab_size=40, max_position_embeddings=40, **options)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        save_tokenizer(folder)

    return make


def _vit(folder: Path) -> None:
    import transformers

    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=16)
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def _two_towers(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import transformers

        text = {**SMALL, "vocab_size": 40, "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 3}
        options: dict[str, Any] = {"text_config": text, "vision_config": {**SMALL, "image_size": 32, "patch_size": 16}}
        options |= {"projection_dim": 12} if kind == "clip" else {}
        config = transformers.AutoConfig.for_model(kind, **options)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
        save_tokenizer(folder)

    return make


OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 2},
}


def _open_clip(folder: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    save_file(open_clip.CLIP(**OPEN_CLIP).state_dict(), folder / "open_clip_model.safetensors")
    images = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": images}))


def _sentences(folder: Path) -> None:
    from tempfile import TemporaryDirectory

    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as parts

    with TemporaryDirectory() as inner:
        _text("mpnet")(Path(inner))
        modules = [parts.Transformer(inner, max_seq_length=12), parts.Pooling(32, pooling_mode="mean")]
        model = SentenceTransformer(modules=modules, prompts={"query": "find "}, device="cpu")
        model.save(str(folder), create_model_card=False)


_MAKERS: dict[str, Callable[[Path], None]] = {
    "bert": _text("bert"),
    "qwen2": _text("qwen2", num_key_value_heads=2, pad_token_id=1),
    "vit": _vit,
    "clip": _two_towers("clip"),
    "siglip": _two_towers("siglip"),
    "open_clip": _open_clip,
    "sentences": _sentences,
}
