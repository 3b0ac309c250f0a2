"""Models of sentence-transformers give what that library gives, from the same raw texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmflow.plugin.addresses import address
from mmflow.spec import SpecError, load_text

S = pytest.importorskip("sentence_transformers")
T = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

WORDS = ["a", "the", "small", "large", "red", "green", "blue", "circle", "square", "above", "below", "on", "find"]
PROMPTS = {"query": "find a ", "document": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny MPNet with mean pooling without its prompt, a dense layer and normalization, saved by the library."""
    from sentence_transformers import models
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers import models as pieces

    inner, made = tmp_path_factory.mktemp("inner"), tmp_path_factory.mktemp("sentences")
    special = ["<s>", "<pad>", "<unk>", "</s>", "<mask>"]
    tokenizer = Tokenizer(pieces.WordLevel({w: n for n, w in enumerate([*special, *WORDS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 3)]
    )
    T.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", pad_token="<pad>", unk_token="<unk>",
        eos_token="</s>", sep_token="</s>", mask_token="<mask>",
    ).save_pretrained(inner)  # fmt: skip
    torch.manual_seed(0)
    config = T.MPNetConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, vocab_size=64,
        max_position_embeddings=22,
    )  # fmt: skip
    T.MPNetModel(config).save_pretrained(inner)
    transformer = models.Transformer(str(inner), max_seq_length=12)
    model = S.SentenceTransformer(
        modules=[
            transformer, models.Pooling(32, pooling_mode="mean", include_prompt=False), models.Dense(32, 12),
            models.Normalize(),
        ],
        prompts=PROMPTS, device="cpu",
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save(str(made), create_model_card=False)
    return made


@pytest.mark.parametrize("prompt", [None, "query", "the small"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_sentences_and_tokens_are_the_librarys_own(
    folder: Path, library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], prompt: str | None,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    said = "" if prompt is None else f", prompt: {prompt}"
    run = library_encoder(f"{{use: sentence_transformers, of: caption, hub: {folder}{said}}}", dtype=dtype, rows=4)
    model = S.SentenceTransformer(str(folder), device="cpu").to(dtype)
    text = PROMPTS.get(prompt or "", prompt)
    found = run.encode(["pooled", "tokens", "layers.1", "attention.2"])
    options = {"prompt": text, "batch_size": 6}
    pooled = model.encode(run.raw("caption"), convert_to_tensor=True, **options)
    torch.testing.assert_close(found["pooled"], pooled.clone(), rtol=near, atol=near)
    tokens = model.encode(run.raw("caption"), output_value="token_embeddings", **options)
    for row, value in enumerate(tokens):
        assert int(found["tokens"].mask[row].sum()) == len(value)
        torch.testing.assert_close(found["tokens"].values[row, : len(value)], value.clone(), rtol=near, atol=near)
        maps = found["attention.2"][row, :, : len(value), : len(value)]
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, len(value), dtype=dtype))
    declared_as_made(run, found)
    names = {key.removeprefix("encoders.x.") for key in run.model.modules.state_dict()}
    assert names == set(model.state_dict())


def test_training_is_the_librarys_own_at_the_address_of_the_node(
    folder: Path, library_encoder: Callable[..., Any]
) -> None:
    run = library_encoder(f"{{use: sentence_transformers, of: caption, hub: {folder}}}")
    assert run.spec.encoders["x"].draws()
    model = S.SentenceTransformer(str(folder), device="cpu").double().train()
    features = model.preprocess(run.raw("caption"))
    torch.manual_seed(address(0, "model", 3, "encoders.x", -1))
    expected = model(features)["sentence_embedding"]
    torch.testing.assert_close(run.train()["pooled"], expected, rtol=1e-6, atol=1e-6)


def test_lora_trains_beside_it(folder: Path, library_encoder: Callable[..., Any]) -> None:
    text = f"{{use: sentence_transformers, of: caption, hub: {folder}, lora: {{rank: 2, targets: ['*.q', '*.v']}}}}"
    run = library_encoder(text)
    names = [name for name, p in run.model.modules.named_parameters() if p.requires_grad]
    assert len(names) == 8
    assert all("lora_" in name for name in names)


SPEC = """
mmflow: 1
data: {{train: {{use: shapes, size: 6}}}}
encoders: {{x: {{use: sentence_transformers, {written}}}}}
losses: {{l: {{use: uniformity, of: x}}}}
train: {{data: train, steps: 1}}
"""


def test_code_that_a_model_names_is_never_run(folder: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    shutil.copytree(folder, evil)
    stages = json.loads((evil / "modules.json").read_text())
    stages[1]["type"] = "subprocess.Popen"
    (evil / "modules.json").write_text(json.dumps(stages))
    with pytest.raises(
        SpecError, match=r"subprocess\.Popen of .* is no part of the library, and its code is never run"
    ):
        load_text(SPEC.format(written=f"hub: {evil}, of: caption"))


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("hub: ./nowhere, of: caption", "there is no folder ./nowhere"),
        ("hub: ., of: caption", "holds none of modules.json"),
        ("config: {model_type: bert}, of: caption", "is written with `use: transformers`"),
        ("hub: FOLDER, of: image", "sentence_transformers cannot read `image`"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(folder: Path, written: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        load_text(SPEC.format(written=written.replace("FOLDER", str(folder))))
    assert len(str(caught.value).splitlines()) == 1
