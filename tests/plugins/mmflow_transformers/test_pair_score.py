"""A cross-encoder scores pairs as sentence-transformers does, learns, and orders what a search has found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_transformers.pair_score import TransformersPairs

import mmflow
from mmflow.flow.run import RunOptions, run_spec
from mmflow.plugin import ComponentError, Encoding, Tokens
from mmflow.spec import SpecError, load_text

T = pytest.importorskip("transformers")
S = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.slow

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
COLORS = ("red", "green", "blue", "white", "yellow", "purple", "orange", "cyan")
WORDS = ("a", "small", "large", *COLORS, "circle", "square", "triangle", "diamond", "cross", "ring")
QUERIES = ["a red circle", "a small blue square " * 4, "large", "a"]
ANSWERS = ["a large circle", "a blue ring", "a white cross " * 5, "green " * 30]
LENGTH = 24


def save_tokenizer(folder: Path, kind: str) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    bert = kind == "bert"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<pad>", "<unk>", "<s>", "</s>"]
    pad, unknown, begin, end = special
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*special, *WORDS])}, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    pair = f"{begin} $A {end} $B:1 {end}:1" if bert else f"{begin} $A {end} {end} $B {end}"
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=pair, special_tokens=[(begin, 2), (end, 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if bert else ["input_ids", "attention_mask"]
    T.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, unk_token=unknown, cls_token=begin, sep_token=end,
        model_input_names=names, model_max_length=LENGTH,
    ).save_pretrained(folder)  # fmt: skip
    return len(special) + len(WORDS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Cross-encoders as sentence-transformers saves them, and a model without a head."""
    found = {}
    for kind in ("bert", "roberta"):
        inner = tmp_path_factory.mktemp(f"{kind}-inner")
        options = {"vocab_size": save_tokenizer(inner, kind), "pad_token_id": 0, "num_labels": 1}
        more = {"max_position_embeddings": LENGTH + (kind == "roberta")}
        config = T.AutoConfig.for_model(kind, **SMALL, **options, **more)
        torch.manual_seed(0)
        model = T.AutoModelForSequenceClassification.from_config(config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        model.save_pretrained(inner)
        found[kind] = tmp_path_factory.mktemp(kind)
        S.CrossEncoder(str(inner), max_length=LENGTH, device="cpu").save_pretrained(str(found[kind]))
        found[f"{kind}-base"] = tmp_path_factory.mktemp(f"{kind}-base")
        model.base_model.save_pretrained(found[f"{kind}-base"])
        save_tokenizer(found[f"{kind}-base"], kind)
    return found


def ids_of(folder: Path, texts: list[str]) -> Encoding:
    """The ids of single texts, as an encoder with this tokenizer gives them."""
    made = T.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    return Encoding({"ids": Tokens(made["input_ids"], made["attention_mask"].bool())})


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("length", [LENGTH, 12])
def test_scores_and_gradients_are_those_of_sentence_transformers(
    folders: dict[str, Path], kind: str, length: int
) -> None:
    theirs: Any = S.CrossEncoder(str(folders[kind]), max_length=length, device="cpu").double().eval()
    ours: Any = TransformersPairs(hub=str(folders[kind]), length=length, rows=3).build().double().train()
    a, b = ids_of(folders[kind], QUERIES), ids_of(folders[kind], ANSWERS)
    expected = torch.tensor(
        theirs.predict(list(zip(QUERIES, ANSWERS, strict=True)), activation_fn=torch.nn.Identity())
    ).double()
    found = ours.pairs(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert float(expected.std()) > 1e-3
    every = [(query, answer) for query in QUERIES for answer in ANSWERS]
    matrix = torch.tensor(theirs.predict(every, activation_fn=torch.nn.Identity())).double().view(4, 4)
    torch.testing.assert_close(ours.blocks(a, b), matrix, rtol=1e-6, atol=1e-6)
    tokenizer = T.AutoTokenizer.from_pretrained(folders[kind])
    batch = tokenizer(QUERIES, ANSWERS, padding=True, truncation=True, max_length=length, return_tensors="pt")
    ids, types, mask = ours.joined_ids(a["ids"], b["ids"])
    longest = batch["input_ids"].shape[1]
    assert ids[:, :longest].equal(batch["input_ids"])
    assert mask[:, :longest].equal(batch["attention_mask"].bool())
    assert not mask[:, longest:].any()
    if kind == "bert":
        assert types[:, :longest].equal(batch["token_type_ids"])
    model = T.AutoModelForSequenceClassification.from_pretrained(folders[kind]).double().eval()
    model(**batch).logits.sum().backward()
    found.sum().backward()
    gradients = dict(model.named_parameters())
    for name, parameter in ours.model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-6, atol=1e-6)


SPEC = """
mmflow: 1
name: reranked
data: {{train: {{use: shapes, split: train, size: 8, pixels: 16, objects: 1}}}}
encoders:
  query: {{use: transformers, of: caption, hub: {base}}}
  answer: {{use: same, weights: query, of: caption}}
parts: {{judge: {{use: score/transformers_pairs, hub: {base}}}}}
losses:
  near: {{use: infonce, of: [query, answer]}}
  judge: {{use: infonce, of: [query, answer], score: parts.judge, temperature: 1}}
train: {{data: train, steps: 80, batch_size: 8, micro_batch_size: 4, optimizer: {{use: adamw, lr: 1e-2}}}}
eval:
  before: {{use: reranking, data: train, of: [query, answer], second: parts.judge, top: 6, at: [1],
    model: init}}
  after: {{use: reranking, data: train, of: [query, answer], second: parts.judge, top: 6, at: [1]}}
"""


@pytest.fixture(scope="module")
def trained(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    torch.set_num_threads(1)
    store = str(tmp_path_factory.mktemp("store"))
    spec = load_text(SPEC.format(base=folders["bert-base"]))
    outcome = run_spec(spec, RunOptions(store=store, engine="local", device="cpu", workers=0))
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome, store


def test_it_is_trained_measured_and_used_in_one_spec(trained: tuple[Any, str]) -> None:
    metrics = {name: {m["name"]: m for m in found} for name, found in trained[0].metrics.items()}
    assert metrics["after"]["r1"]["value"] > 2 * metrics["before"]["r1"]["value"]


def test_a_search_is_ordered_again_by_it(trained: tuple[Any, str], tmp_path: Path) -> None:
    loaded = mmflow.load("latest", store=trained[1], device="cpu")
    assert loaded.parts == ("judge",)
    file, query = str(tmp_path / "v.parquet"), "a large red circle"
    mmflow.embed(loaded, "train", file, encoders=["answer"], fields=["caption"])
    options: dict[str, Any] = {"of": "answer", "by": "query", "most": 3}
    near = [dict(row) for row in mmflow.search(loaded, query, file, **{**options, "most": 5})]
    found = [dict(row) for row in mmflow.search(loaded, query, file, rerank="judge", top=5, **options)]
    sides = loaded.encodings(outputs=["ids"], query=[query] * 5, answer=[row["caption"] for row in near])
    judge: Any = loaded.modules.modules.at("parts.judge")
    with torch.no_grad():
        scores = judge.pairs(sides["query"], sides["answer"])
    order = scores.sort(descending=True, stable=True).indices[:3].tolist()
    assert [row["id"] for row in found] == [near[place]["id"] for place in order]
    assert [row["score"] for row in found] == pytest.approx(scores[order].tolist(), abs=1e-5)
    assert [row["first"] for row in found] == pytest.approx([near[place]["score"] for place in order])
    late = [dict(row) for row in mmflow.search(loaded, query, file, rerank="maxsim", top=5, **options)]
    assert [row["score"] for row in late] == sorted((row["score"] for row in late), reverse=True)


def test_what_cannot_be_ordered_again_is_told(trained: tuple[Any, str], tmp_path: Path) -> None:
    loaded, file = mmflow.load("latest", store=trained[1], device="cpu"), str(tmp_path / "v.npz")
    mmflow.embed(loaded, "train", file, encoders=["answer"])
    with pytest.raises(ComponentError, match="reads their caption, and the file has no such field") as caught:
        mmflow.search(loaded, "a", file, of="answer", by="query", rerank="judge")
    assert "--fields caption" in str(getattr(caught.value, "hint", ""))
    with pytest.raises(ComponentError, match="the model has no part 'jugde' that is a score"):
        mmflow.search(loaded, "a", file, of="answer", by="query", rerank="jugde")
    with pytest.raises(ComponentError, match="cross_encoder has weights of its own"):
        mmflow.search(loaded, "a", file, of="answer", by="query", rerank="cross_encoder")


def test_a_model_of_several_classes_is_no_reranker(folders: dict[str, Path], tmp_path: Path) -> None:
    config = T.BertConfig(**SMALL, vocab_size=30, num_labels=3)
    T.BertForSequenceClassification(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "bert")
    with pytest.raises(ComponentError, match="gives 3 numbers a pair"):
        TransformersPairs(hub=str(tmp_path)).build()
    with pytest.raises(SpecError, match=r"there is no folder \./nowhere"):
        load_text(SPEC.format(base="./nowhere"))
