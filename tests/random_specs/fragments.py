"""Entries that a component needs around it which hardly come together by chance; its other fields are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmflow.plugin.registry import registry

WORDS: dict[str, Any] = {"use": "text_transformer", "of": "words", "width": 8, "depth": 1, "heads": 2, "length": 16}
PICTURE: dict[str, Any] = {"use": "vit", "of": "image", "size": 16, "patch": 8, "width": 8, "depth": 1, "heads": 2}
OPTIONS = {"own_text": WORDS, "own_options": {"use": "same", "weights": "own_text", "of": "options"}}
TWINS = {"own_image": PICTURE, "own_twins": {"use": "same", "weights": "own_image", "of": "twins"}}
TEXTS_LEARN = {"own_loss": {"use": "uniformity", "of": "own_text"}}
IMAGES_LEARN = {"own_images": {"use": "uniformity", "of": "own_image"}}
ASKED: dict[str, Any] = {
    "use": "ask", "data": "one", "of": "words", "prompt": "The color of {words}", "read": "text",
    "choices": ["yes", "no", "7"], "service": {"use": "scripted", "rules": [], "otherwise": "no"},
}  # fmt: skip


@dataclass(frozen=True)
class Fragment:
    """The data that a component reads, and entries by section; `main` is the place of the component itself."""

    source: str
    main: tuple[str, ...]
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


FRAGMENTS: Mapping[str, Fragment] = {
    "stage/multiple_choice": Fragment("table", ("stages", "own"), {
        "encoders": OPTIONS, "losses": TEXTS_LEARN,
        "stages": {"own": {"use": "multiple_choice", "data": "one", "of": ["own_text", "own_options"]}}}),
    "stage/pair_matching": Fragment("table", ("stages", "own"), {
        "encoders": {**OPTIONS, **TWINS}, "losses": {**TEXTS_LEARN, **IMAGES_LEARN},
        "stages": {"own": {"use": "pair_matching", "data": "one", "of": ["own_twins", "own_options"]}}}),
    "stage/grid_probe": Fragment("shapes", ("stages", "own"), {
        "encoders": {"own_image": {**PICTURE, "patch": 4}}, "losses": IMAGES_LEARN,
        "stages": {"own": {
            "use": "grid_probe", "data": "one", "test": "other", "of": "own_image.grid", "mask": "masks.0"}}}),
    "stage/mixed_radix": Fragment("table", ("stages", "own"), {
        "stages": {"own_one": ASKED, "own_two": {**ASKED, "of": "kind", "prompt": "What is {kind}?"},
                   "own": {"use": "mixed_radix", "of": ["own_one.answer", "own_two.answer"], "base": 10}}}),
    "encoder/recall": Fragment("table", ("encoders", "own"), {
        "encoders": {"own_text": WORDS, "own": {"use": "recall", "of": ["id", "own_bank.own_text"],
                                                "ids": "own_bank.id"}},
        "memories": {"own_bank": {"use": "bank", "size": 48, "of": {"own_text": "own_text"}}},
        "losses": {"own_loss": {"use": "mse", "of": ["own_text", "own"], "rows": "own.known"}}}),
    "encoder/prompt_tokens": Fragment("table", ("encoders", "own"), {
        "encoders": {"own_text": WORDS, "own": {"use": "prompt_tokens", "of": "own_text.words", "count": 2},
                     "own_prompted": {"use": "same", "weights": "own_text", "of": "own.tokens"}},
        "losses": {"own_loss": {"use": "uniformity", "of": "own_prompted"}}}),
    "encoder/reconstruction_decoder": Fragment("shapes", ("encoders", "own"), {
        "encoders": {"own_image": PICTURE, "own": {
            "use": "reconstruction_decoder", "of": ["own_image.tokens", "image"], "size": 16, "patch": 8}},
        "losses": {"own_loss": {"use": "mse", "of": ["own.tokens", "own.target"]}}}),
    "loss/caption_nll": Fragment("table", ("losses", "own"), {
        "encoders": {"own_text": WORDS, "own_next": {
            "use": "caption_decoder", "of": ["own_text.tokens", "own_text.tokens"], "depth": 1, "heads": 2}},
        "losses": {"own": {"use": "caption_nll", "of": "own_next.logits", "targets": "own_text.ids"}}}),
    "loss/swapped_codes": Fragment("table", ("losses", "own"), {
        "encoders": {"own_text": WORDS, "own_again": {"use": "same", "weights": "own_text", "of": "again"}},
        "losses": {"own": {"use": "swapped_codes", "of": ["own_text", "own_again"], "prototypes": {
            "use": "encoder/prototype_vectors", "count": 5, "dim": 8}}}}),
    "value/adaptive": Fragment("table", (), {
        "encoders": OPTIONS,
        "losses": {"own_loss": {"use": "infonce", "of": ["own_text", "own_text"], "temperature": {
            "use": "adaptive", "of": ["own_text", "own_text"], "base": 0.1}}}}),
    "encoder/scores": Fragment("graphs", ("encoders", "own"), {
        "encoders": {"own_node": {"use": "linear", "of": "node.x", "dim": 8},
                     "own": {"use": "scores", "of": ["own_node", "own_node"]}},
        "losses": {"own_loss": {"use": "uniformity", "of": "own_node"}}}),
    "encoder/graph": Fragment("graphs", ("encoders", "own"), {
        "encoders": {"own": {"use": "graph", "of": ["node.x", "node.coauthors"]}},
        "losses": {"own_loss": {"use": "uniformity", "of": "own"}}}),
    "stage/zero_shot": Fragment("shapes", ("stages", "own"), {
        "encoders": {"own_image": PICTURE, "own_text": {**WORDS, "of": "caption"}},
        "losses": {"own_loss": {"use": "infonce", "of": ["own_image", "own_text"]}},
        "stages": {"own": {"use": "zero_shot", "data": "one", "of": ["own_image", "own_text"], "labels": "shape"}}}),
    "transform/join_texts": Fragment("table", ("views", "own", "apply"), {
        "views": {"own": {"of": ["words", "again"], "apply": [{"use": "join_texts"}]}},
        "encoders": {"own_text": {**WORDS, "of": "own"}}, "losses": TEXTS_LEARN}),
    "transform/splice_words": Fragment("table", ("views", "own", "apply"), {
        "views": {"own": {"of": "words", "apply": [{"use": "splice_words"}]}},
        "encoders": {"own_text": {**WORDS, "of": "own"}}, "losses": TEXTS_LEARN}),
    "transform/cutmix": Fragment("shapes", ("views", "own", "apply"), {
        "views": {"own": {"of": ["image", "shape"], "apply": [{"use": "cutmix"}]}},
        "encoders": {"own_image": {**PICTURE, "of": "own"}}, "losses": IMAGES_LEARN}),
    "transform/hf_image": Fragment("shapes", ("views", "own", "apply"), {
        "views": {"own": {"of": "image", "apply": [{"use": "hf_image"}]}},
        "encoders": {"own_image": {"use": "transformers", "of": "own", "hub": None, "config": {
            "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "image_size": 24, "patch_size": 8}}},
        "losses": IMAGES_LEARN}),
    "transform/random_resized_crop": Fragment("shapes", ("views", "own", "apply"), {
        "views": {"own": {"of": "image", "apply": [{"use": "random_resized_crop"}]}},
        "encoders": {"own_image": {**PICTURE, "of": "own"}}, "losses": IMAGES_LEARN}),
    "transform/mask_bands": Fragment("sounds", ("views", "own", "apply"), {
        "views": {"own": {"of": "audio", "apply": [{"use": "log_mel", "rate": 4000, "window": 64, "hop": 32,
                                                     "mels": 8}, {"use": "mask_bands"}]}},
        "encoders": {"own_sound": {"use": "series_conv", "of": "own", "width": 8}},
        "losses": {"own_loss": {"use": "uniformity", "of": "own_sound"}}}),
    **{f"tokenizer/{use}": Fragment("table", ("encoders", "own_text", "tokenizer"), {
        "encoders": {"own_text": {**WORDS, "tokenizer": {"use": use}}}, "losses": TEXTS_LEARN})
        for use in ("bpe", "word", "byte", "hf_tokenizer", "tokenizer_file", "open_clip_tokenizer")},
    **{f"tracker/{use}": Fragment("table", ("track", "own"), {"track": {"own": {"use": use}}})
        for use in ("tensorboard", "mlflow", "wandb", "jsonl")},
}  # fmt: skip
"""By component, as `kind/name`."""


def used_by(value: Any, kind: str = "") -> set[str]:
    """The components in entries, as `kind/name`."""
    kinds = {"views": "", "encoders": "encoder", "memories": "memory", "losses": "loss", "stages": "stage",
             "apply": "transform", "tokenizer": "tokenizer", "track": "tracker", "service": "service",
             "temperature": "value"}  # fmt: skip
    found: set[str] = set()
    if isinstance(value, list):
        for one in value:
            found |= used_by(one, kind)
    elif isinstance(value, dict):
        use = value.get("use")
        if kind and isinstance(use, str) and use in registry().names(kind):
            found.add(f"{kind}/{use}")
        for name, one in value.items():
            found |= used_by(one, kinds.get(name, kind if use is None else ""))
    return found
