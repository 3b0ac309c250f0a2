"""Models of other libraries are described within bounds, whatever a configuration says, and read no other files."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_open_clip.encoder import OpenClipEncoder
from mmflow_pretrained import bounds
from mmflow_pretrained.bounds import described_within_bounds
from mmflow_sentence_transformers.encoder import SentenceEncoder
from mmflow_timm.encoder import TimmEncoder
from mmflow_transformers.encoder import TransformersEncoder
from mmflow_transformers.tokenizer_file import TokenizerFile
from torch import nn

from mmflow.plugin import ComponentError, TensorType

pytest.importorskip("timm")
pytest.importorskip("open_clip")
pytest.importorskip("sentence_transformers")

IMAGE, TEXT = TensorType("image", size=(16, 16, 3)), TensorType("text")
VISION = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8}
WORDS = {"context_length": 8, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}


def clip(tower: str = "image", *, vision: dict[str, Any] = VISION, text: dict[str, Any] = WORDS) -> OpenClipEncoder:
    return OpenClipEncoder(of="image", tower=tower, config={"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})  # type: ignore[arg-type]


def transformers(**config: Any) -> TransformersEncoder:
    return TransformersEncoder(of="image", config=config)  # type: ignore[arg-type]


def timm(**config: Any) -> TimmEncoder:
    return TimmEncoder(of="image", config=config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: transformers(model_type="vit", num_hidden_layers=10**9), "`num_hidden_layers` of the"),
        (lambda: transformers(model_type="vit", num_labels=10**8), "`num_labels` of the configuration is"),
        (
            lambda: transformers(model_type="clip", vision_config={"num_hidden_layers": 10**8}),
            "`num_hidden_layers` of the configuration is",
        ),
        (lambda: transformers(model_type="vit", image_size=10**8), "`image_size` of the configuration is"),
        (lambda: timm(architecture="vit_tiny_patch16_224", depth=10**7), "`depth` of vit_tiny_patch16_224 is"),
        (lambda: clip(vision={**VISION, "layers": 10**9}), "`layers` of the configuration is"),
        (lambda: clip(text={**WORDS, "layers": 10**9}), "`layers` of the configuration is"),
        (lambda: clip(vision=None), "`vision_cfg` of the configuration is no mapping"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_number_that_unfolds_without_end_is_refused(made: Any, said: str) -> None:
    with pytest.raises(ComponentError) as refused:
        made().outputs(IMAGE)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("number", [10**8, 40_000])
def test_the_configuration_of_a_folder_is_bounded_too(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_MODULES", 500)
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "image_size": 16, "patch_size": 8}
    vit = {"model_type": "vit", **small, "num_hidden_layers": number}
    for name, config in {
        "transformers": vit,
        "timm": {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {}, "model_args": {"depth": number}},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        kind = TransformersEncoder if name == "transformers" else TimmEncoder
        with pytest.raises(ComponentError, match=r"and at most 65,536 is read|more than 500 modules"):
            kind(of="image", hub=str(folder)).outputs(IMAGE)  # type: ignore[arg-type]


def _endless() -> None:
    with described_within_bounds("m"):
        while True:
            # Libraries go on like this.
            with suppress(Exception):
                sum(range(1000))


def _growing(held: list[bytes]) -> None:
    with described_within_bounds("m"):
        while len(held) < 10_000:
            held.append(b"x" * 1_000_000)
            sum(range(10_000))


def test_a_description_ends_with_its_time_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 0.2)
    with pytest.raises(ComponentError, match="m is too large to be described"):
        _endless()
    began = time.process_time()
    while time.process_time() - began < 0.5:
        sum(range(1000))


def test_a_description_ends_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MEMORY", 100_000)
    held: list[bytes] = []
    with pytest.raises(ComponentError, match="1 GB of memory"):
        _growing(held)
    assert len(held) < 10_000


def test_modules_of_other_threads_and_of_later_models_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_MODULES", 3)
    with described_within_bounds("m"), torch.device("meta"):
        nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(ComponentError, match="more than 3 modules"), described_within_bounds("m"):
        nn.Sequential(*[nn.Identity() for _ in range(4)])
    assert len(nn.Sequential(*[nn.Identity() for _ in range(9)])) == 9


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: timm(architecture="test_vit", checkpoint_path="x.pth"), "`checkpoint_path` in a configuration"),
        (lambda: timm(architecture="test_vit", pretrained=True), "`pretrained` in a configuration"),
        (lambda: timm(architecture="test_vit", pretrained_cfg={"file": "x"}), "`pretrained_cfg` in a configuration"),
        (lambda: timm(architecture="local-dir:./x"), "timm has no model"),
        (lambda: clip(vision={**VISION, "timm_model_name": "local-dir:./x"}), "`timm_model_name` of the configuration"),
        (lambda: clip(text={**WORDS, "hf_model_name": "./x"}), "`hf_model_name` of the configuration is a folder"),
        (lambda: clip(text={**WORDS, "hf_model_name": "x", "hf_model_pretrained": True}), "`hf_model_pretrained` in a"),
        (lambda: transformers(model_type="detr", use_pretrained_backbone=True), "`use_pretrained_backbone` in a"),
    ],
)
def test_a_configuration_names_no_files_that_a_key_would_not_know(made: Any, said: str) -> None:
    with pytest.raises(ComponentError) as refused:
        made().outputs(IMAGE)
    assert said in str(refused.value)


def test_devices_are_not_read() -> None:
    with pytest.raises(ComponentError, match=r"no file .a device or a pipe."):
        TokenizerFile(url="/dev/null").size(None)


@pytest.mark.parametrize("activation", ["os.abort", "own.Evil", "builtins.print"])
def test_an_activation_that_is_no_part_of_torch_is_refused(tmp_path: Path, activation: str) -> None:
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    stages = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    (tmp_path / "modules.json").write_text(json.dumps(stages))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert", "hidden_size": 8, "num_attention_heads": 1})
    )
    for path in ("1_Pooling", "2_Dense"):
        (tmp_path / path).mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    dense = {"in_features": 8, "out_features": 4, "activation_function": activation}
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps(dense))
    with pytest.raises(ComponentError, match=f"the activation {activation} of .* is no part of torch"):
        SentenceEncoder(of="text", hub=str(tmp_path)).outputs(TEXT)  # type: ignore[arg-type]
