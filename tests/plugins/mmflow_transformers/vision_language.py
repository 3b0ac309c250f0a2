"""Tiny vision-language models on disk, with their processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as T
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
QWEN = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
WORDS = (
    "a the small large red green blue yellow purple cyan orange gray circle square triangle star above below on left "
    "right of to and user system assistant find picture describe what is it"
)
CHAT = (
    "{%% for m in messages %%}%s{{ m['role'] }}\n{%% for c in m['content'] %%}{%% if c['type'] == 'image' %%}%s"
    "{%% else %%}{{ c['text'] }}{%% endif %%}{%% endfor %%}%s\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}%sassistant\n{%% endif %%}"
)
QWEN_CHAT = CHAT % (QWEN[0], "".join((QWEN[2], QWEN[4], QWEN[3])), QWEN[1], QWEN[0])


def tokenizer(*marks: str) -> Any:
    vocabulary = {w: n for n, w in enumerate(["<pad>", "<unk>", "</s>", *marks, "\n", *WORDS.split()])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    return T.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="</s>",
        additional_special_tokens=list(marks),
    )  # fmt: skip


def qwen(folder: Path, kind: str = "qwen2_vl") -> None:
    """Qwen2-VL or Qwen2.5-VL: images in their own shapes, as patches."""
    words = tokenizer(*QWEN)
    images = T.Qwen2VLImageProcessor(patch_size=4, merge_size=2, size={"shortest_edge": 16**2, "longest_edge": 40**2})
    video = T.Qwen2VLVideoProcessor(patch_size=4, merge_size=2)
    processor = T.Qwen2_5_VLProcessor if kind == "qwen2_5_vl" else T.Qwen2VLProcessor
    processor(images, words, video, chat_template=QWEN_CHAT).save_pretrained(folder)
    ids = dict(zip(QWEN, words.convert_tokens_to_ids(list(QWEN)), strict=True))
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "in_channels": 3}
    if kind == "qwen2_5_vl":
        vision |= {"hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 24, "window_size": 16}
        vision |= {"fullatt_block_indexes": [1]}
    else:
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    text = {**SMALL, "num_key_value_heads": 2, "vocab_size": len(words), "max_position_embeddings": 256}
    text |= {"rope_parameters": rope, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    config = T.AutoConfig.for_model(
        kind, text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"], bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    T.AutoModelForImageTextToText.from_config(config).save_pretrained(folder)


def llava(folder: Path) -> None:
    """LLaVA: one size of images, and no template of a chat."""
    words = tokenizer("<image>")
    images = T.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    T.LlavaProcessor(
        images, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)
    config = T.LlavaConfig(
        text_config=T.LlamaConfig(
            **SMALL, vocab_size=len(words), max_position_embeddings=128, bos_token_id=None, eos_token_id=2,
            attention_dropout=0.2,
        ),
        vision_config=T.CLIPVisionConfig(**SMALL, image_size=16, patch_size=8), image_token_id=3,
    )  # fmt: skip
    T.LlavaForConditionalGeneration(config).save_pretrained(folder)


MAKERS = {"qwen2_vl": qwen, "qwen2_5_vl": lambda folder: qwen(folder, "qwen2_5_vl"), "llava": llava}


def saved(name: str, folder: Path) -> Path:
    """The folder of a model with weights of its own, wide enough for differences to be seen."""
    MAKERS[name](folder)
    weights, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    for value in weights.values():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
