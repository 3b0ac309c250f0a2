"""Language models of transformers predict what they do in their library, and are trained by the very loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_objectives.prediction.caption_nll import CaptionNLL

from mmflow.flow.run import RunOptions, run_spec
from mmflow.plugin import Tokens
from mmflow.spec import SpecError, load_text

T = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

from tests.plugins.mmflow_transformers.vision_language import SMALL, tokenizer  # noqa: E402

WORDS = len(tokenizer("<mask>"))
MASK = 3
TEXT: dict[str, Any] = {**SMALL, "vocab_size": WORDS, "max_position_embeddings": 40, "bos_token_id": None}
CAUSAL: dict[str, Any] = {
    "qwen2": lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**TEXT, num_key_value_heads=2, eos_token_id=2)),
    "llama": lambda: T.LlamaForCausalLM(T.LlamaConfig(**TEXT, tie_word_embeddings=True, eos_token_id=2)),
    "gpt2": lambda: T.GPT2LMHeadModel(
        T.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=WORDS, n_positions=40, bos_token_id=2, eos_token_id=2)
    ),
}
MASKED: dict[str, Any] = {
    "bert": lambda: T.BertForMaskedLM(T.BertConfig(**SMALL, vocab_size=WORDS, max_position_embeddings=40)),
    "roberta": lambda: T.RobertaForMaskedLM(
        T.RobertaConfig(
            **SMALL, vocab_size=WORDS, max_position_embeddings=42, pad_token_id=0, bos_token_id=2, eos_token_id=2
        )
    ),
    "mpnet": lambda: T.MPNetForMaskedLM(
        T.MPNetConfig(
            **SMALL, vocab_size=WORDS, max_position_embeddings=42, pad_token_id=0, bos_token_id=2, eos_token_id=2
        )
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for number, (name, make) in enumerate((CAUSAL | MASKED).items()):
        model, generator = make(), torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
        words = tokenizer("<mask>")
        words.mask_token = "<mask>"
        words.save_pretrained(made[name])
    return made


def library(folder: Path, causal: bool) -> Any:
    kind = T.AutoModelForCausalLM if causal else T.AutoModelForMaskedLM
    return kind.from_pretrained(folder, attn_implementation="eager").eval().double()


def mean(loss: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (loss[0] * loss[1]).sum() / loss[1].sum()


@pytest.mark.parametrize("name", CAUSAL)
def test_the_next_token_is_predicted_as_in_the_library(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str
) -> None:
    text = f"{{use: transformers, of: caption, hub: {folders[name]}, lm_head: true}}"
    run = library_encoder(text, rows=2)
    batch = T.AutoTokenizer.from_pretrained(folders[name])(run.raw("caption"), return_tensors="pt", padding=True)
    real, ids = batch["attention_mask"].bool(), batch["input_ids"]
    assert len(set(real.sum(1).tolist())) > 1
    model = library(folders[name], causal=True)
    with torch.no_grad():
        theirs = model(ids, attention_mask=batch["attention_mask"], labels=ids.masked_fill(~real, -100))
    found = run.encode(["logits", "ids", "tokens", "pooled"])
    torch.testing.assert_close(found["logits"].values[real], theirs.logits[real], rtol=1e-6, atol=1e-6)
    # The library computes its loss in single precision.
    exact = torch.nn.functional.cross_entropy(
        theirs.logits[:, :-1].flatten(0, 1), ids.masked_fill(~real, -100)[:, 1:].flatten()
    )
    loss = mean(CaptionNLL(of="x.logits", targets="x.ids").compute(found["logits"], found["ids"]))  # type: ignore[arg-type]
    torch.testing.assert_close(loss, exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss.float(), theirs.loss, rtol=1e-6, atol=1e-6)
    declared_as_made(run, found)
    plain = library_encoder(text.replace(", lm_head: true", "")).encode(["pooled"])
    torch.testing.assert_close(found["pooled"], plain["pooled"], rtol=1e-9, atol=1e-9)


MASKING = (
    "{{hidden: {{of: caption, draws: always, apply: [{{use: token_ids, tokenizer: {{use: hf_tokenizer, hub: {hub}}}}}, "
    f"{{{{use: mask_tokens, mask: {MASK}, vocabulary: {WORDS}, first: 4, p: 0.4}}}}]}}}}}}}}"
)


@pytest.mark.parametrize("name", MASKED)
def test_hidden_tokens_are_predicted_as_in_the_library(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str
) -> None:
    text = f"{{use: transformers, of: hidden, hub: {folders[name]}, lm_head: true}}"
    run = library_encoder(text, views=MASKING.format(hub=folders[name]), rows=6)
    found = run.encode(["logits", "ids"])
    (batch,) = run.batches
    column = next(value for key, value in batch.columns.items() if key.startswith("views.hidden"))
    ids, real = found["ids"]
    assert ids[real].equal(column.values.values[column.values.mask])
    assert int((ids == MASK).sum()) > 6
    whole = T.AutoTokenizer.from_pretrained(folders[name])(run.raw("caption"), return_tensors="pt", padding=True)
    targets = whole["input_ids"].masked_fill(ids != MASK, -1)
    with torch.no_grad():
        theirs = library(folders[name], causal=False)(
            ids, attention_mask=real.long(), labels=targets.masked_fill(targets < 0, -100)
        )
    torch.testing.assert_close(found["logits"].values[real], theirs.logits[real], rtol=1e-6, atol=1e-6)
    loss = CaptionNLL(of="x.logits", targets="hidden.targets", shift=0)  # type: ignore[arg-type]
    value = mean(loss.compute(found["logits"], Tokens(targets, real)))
    torch.testing.assert_close(value.to(theirs.loss.dtype), theirs.loss, rtol=1e-6, atol=1e-6)
    declared_as_made(run, found)


LEARNS = """
mmflow: 1
name: predicts
data: {{train: {{use: shapes, size: 64, objects: 1}}}}
views:
  hidden:
    of: caption
    apply:
      - {{use: token_ids, tokenizer: {{use: hf_tokenizer, hub: {bert}}}}}
      - {{use: mask_tokens, mask: {mask}, vocabulary: {words}, first: 4, p: 0.4}}
encoders:
  next: {{use: transformers, of: caption, hub: {llama}, lm_head: true}}
  filled: {{use: transformers, of: hidden, hub: {bert}, lm_head: true}}
losses:
  next: {{use: caption_nll, of: next.logits, targets: next.ids}}
  filled: {{use: caption_nll, of: filled.logits, targets: hidden.targets, shift: 0}}
train: {{data: train, steps: 30, batch_size: 16, micro_batch_size: 8, optimizer: {{use: adamw, lr: 1e-2}}}}
stages: {{vectors: {{use: embed, data: train, of: [next]}}}}
"""


def test_both_are_trained_by_a_spec(folders: dict[str, Path], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    spec = load_text(LEARNS.format(bert=folders["bert"], llama=folders["llama"], words=WORDS, mask=MASK))
    outcome = run_spec(spec, RunOptions(store=str(tmp_path), engine="local", device="cpu", workers=0))
    assert outcome.exit_code == 0, outcome.outcome.notes
    (written,) = {file.resolve() for file in tmp_path.rglob("history.jsonl")}
    first, *_, last = map(json.loads, written.read_text().splitlines())
    assert last["loss/next"] < 0.7 * first["loss/next"]
    assert last["loss/filled"] < 0.95 * first["loss/filled"]


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        ("config: {model_type: vit}, of: image", "vit predicts no tokens of a text here|has no head that predicts"),
        ("config: {model_type: t5}, of: caption, tokenizer: byte", "t5 has no head that predicts tokens of its text"),
    ],
)
def test_a_model_without_such_a_head_is_told(library_encoder: Callable[..., Any], encoder: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        library_encoder(f"{{use: transformers, lm_head: true, {encoder}}}")
    assert len(str(caught.value).splitlines()) == 1
