"""Tokenizers of other libraries give those libraries' own ids, from files that the tests write."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_encoders.tokenizers.byte import Byte
from mmflow_open_clip.tokenizer import OpenClipTokenizer
from mmflow_transformers.tokenizer import HfTokenizer
from mmflow_transformers.tokenizer_file import TokenizerFile
from pydantic import ValidationError

from mmflow.artifacts import ModelArtifact
from mmflow.data import collate
from mmflow.identity.keys import Keys
from mmflow.model.model import Model
from mmflow.plugin import ComponentError, TensorType
from mmflow.plugin.registry import registry
from mmflow.spec import SpecError, load_text

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

TEXTS = ["a red circle", "a blue square, small", "the red square above a circle", "Größe 😀!"]
CASES = [*TEXTS, "", "unknown wörds " * 20]


def trained(folder: Path, *, padding: int = 0) -> Path:
    """A word-piece tokenizer with the frame of BERT, saved as transformers saves it; `padding` is its padding id."""
    marks = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    marks.insert(padding, "[PAD]")
    pieces = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    pieces.train_from_iterator(
        TEXTS, tokenizers.trainers.WordPieceTrainer(vocab_size=120, special_tokens=marks, show_progress=False)
    )
    ids = [(mark, pieces.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    pieces.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("padding", [0, 3])
def test_ids_of_transformers(tmp_path: Path, padding: int) -> None:
    ours = HfTokenizer(hub=str(trained(tmp_path / "bert", padding=padding)))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "bert")
    for length in (4, 16):
        for text in CASES:
            assert ours.encode(text, {}, length=length) == theirs(text, truncation=True, max_length=length).input_ids
    assert ours.special == {
        "padding": padding, "begin": theirs.cls_token_id, "end": theirs.sep_token_id,
        "unknown": theirs.unk_token_id, "mask": theirs.mask_token_id,
    }  # fmt: skip
    assert ours.encode("a \ud83d", {}, length=16) == ours.encode("a \ufffd", {}, length=16)
    assert ours.size(None) == len(theirs) == max(theirs.get_vocab().values()) + 1
    assert ours.decode(ours.encode("a red circle", {}, length=16), {}) == "a red circle"


def test_the_mask_tells_padding_where_zero_is_an_id(tmp_path: Path) -> None:
    ours = HfTokenizer(hub=str(trained(tmp_path, padding=3)))
    rows = [ours.encode(text, {}, length=16) for text in ("zzz", "a red zzz circle")]
    assert ours.special["unknown"] == 0
    assert all(0 in row for row in rows)
    ids, mask = collate(rows, TensorType("text")).values
    assert mask.sum(1).tolist() == [len(row) for row in rows]
    assert [ids[n][mask[n]].tolist() for n in range(2)] == rows


def test_ids_of_a_file(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    ours = TokenizerFile(url=str(folder / "tokenizer.json"), end="[SEP]")
    theirs = HfTokenizer(hub=str(folder))
    for text in CASES:
        for length in (4, 16):
            assert ours.encode(text, {}, length=length) == theirs.encode(text, {}, length=length)
        ids = ours.encode(text, {}, length=16)
        assert ours.decode(ids, {}) == theirs.decode(ids, {})
    assert ours.size(None) == theirs.size(None)
    assert ours.special == {"end": theirs.special["end"]}


@pytest.fixture(scope="module")
def open_clip() -> Any:
    return pytest.importorskip("open_clip")


def test_ids_of_open_clip_with_the_vocabulary_that_it_brings(open_clip: Any) -> None:
    ours, theirs = OpenClipTokenizer(), open_clip.get_tokenizer("ViT-B-32")
    for text in [*CASES, "!=!x", "hello world!!!"]:
        for length in (5, 77):
            row = theirs([text], context_length=length)[0]
            ids = ours.encode(text, {}, length=length)
            assert ids == row[: len(ids)].tolist()
            assert not row[len(ids) :].any()
            assert (ids[0], ids[-1]) == (ours.special["begin"], ours.special["end"])
    assert 0 in ours.encode("!=!x", {}, length=77)
    assert ours.size(None) == 49408
    assert ours.decode(ours.encode("a red circle!!", {}, length=77), {}) == "a red circle !!"


def test_ids_of_open_clip_from_a_folder(tmp_path: Path, open_clip: Any) -> None:
    folder = trained(tmp_path, padding=2)
    config = {"model_cfg": {"embed_dim": 8, "text_cfg": {"context_length": 12, "hf_tokenizer_name": "any"}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    ours, theirs = OpenClipTokenizer(hub=str(folder)), open_clip.get_tokenizer(f"local-dir:{folder}")
    for text in CASES:
        row = theirs([text])[0].tolist()
        ids = ours.encode(text, {}, length=12)
        assert row == ids + [2] * (12 - len(ids))
    assert ours.size(None) == len(theirs.tokenizer)


@pytest.mark.parametrize(
    ("made", "words"),
    [(lambda at: HfTokenizer(hub=f"{at}/no"), "there is no folder"),
     (lambda at: HfTokenizer(hub=str(at)), "transformers finds no tokenizer"),
     (lambda at: TokenizerFile(url=f"{at}/no.json"), "cannot be read"),
     (lambda at: TokenizerFile(url=str(Path(__file__))), "no tokenizer.json"),
     (lambda at: OpenClipTokenizer(hub="ViT-B-23"), "open_clip has no model 'ViT-B-23'"),
     (lambda at: OpenClipTokenizer(hub=str(at)), "holds none of open_clip_config.json")],
)  # fmt: skip
def test_missing_files_and_unknown_names_are_named(tmp_path: Path, made: Any, words: str) -> None:
    with pytest.raises(ComponentError, match=words):
        made(tmp_path).size(None)
    with pytest.raises(ValidationError):
        HfTokenizer()  # type: ignore[call-arg]


SPEC = """
mmflow: 1
name: own
data: {{train: {{use: shapes, size: 8}}}}
encoders:
  text: {{use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, pool: eos, tokenizer: {tokenizer}}}
losses: {{align: {{use: infonce, of: [text, text]}}}}
train: {{data: train, epochs: 1, batch_size: 4}}
"""


OURS = ["{use: bpe, vocabulary: 300}", "open_clip_tokenizer", "{use: hf_tokenizer, hub: HUB}"]


@pytest.mark.parametrize("tokenizer", OURS)
def test_a_stored_model_reads_texts_as_before(tmp_path: Path, tokenizer: str) -> None:
    tokenizer = tokenizer.replace("HUB", str(trained(tmp_path / "bert")))
    scope = load_text(SPEC.format(tokenizer=tokenizer)).scope("train")
    roots = scope.roots()
    model = Model.create(scope, roots, seed=0, states=Model.learn_states(scope, roots, scope.source))
    model.save(ModelArtifact(tmp_path))
    again = Model.load(ModelArtifact(tmp_path), scope, roots, seed=1)
    found = [made.encode_values("text", [*TEXTS, "zzz"], ("pooled", "ids")) for made in (model, again)]
    assert torch.equal(found[0].pooled, found[1].pooled)
    assert torch.equal(found[0]["ids"].values, found[1]["ids"].values)
    assert found[0]["ids"].mask.sum(1).tolist() != [found[0]["ids"].mask.shape[1]] * 5


def test_a_key_follows_the_files_and_not_their_place(tmp_path: Path) -> None:
    def key(folder: Path) -> str:
        return Keys(load_text(SPEC.format(tokenizer=f"{{use: hf_tokenizer, hub: {folder}}}"))).stage("train")

    first, same, other = (tmp_path / name for name in ("first", "same", "other"))
    shutil.copytree(trained(first), same)
    trained(other, padding=3)
    assert key(first) == key(same) != key(other)


def test_a_missing_file_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no folder"):
        load_text(SPEC.format(tokenizer=f"{{use: hf_tokenizer, hub: {tmp_path}/no}}"))


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("tokenizers", "transformers", "open_clip"):
        monkeypatch.setitem(sys.modules, name, None)
    for tokenizer, extra in (
        ("bpe", "hf"), (f"{{use: hf_tokenizer, hub: {tmp_path}}}", "hf"), ("open_clip_tokenizer", "open_clip")
    ):  # fmt: skip
        with pytest.raises(SpecError, match=rf"not installed.*mmflow-kit\[{extra}\]") as caught:
            load_text(SPEC.format(tokenizer=tokenizer))
        assert len(caught.value.problems) == 1


def test_all_are_registered() -> None:
    for name in ("bpe", "tokenizer_file", "hf_tokenizer", "open_clip_tokenizer"):
        assert registry().get("tokenizer", name).kind == Byte.kind
