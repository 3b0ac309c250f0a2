"""Tokenizers of our own: round trips, frames, truncation, unknown words, independence of the order of texts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_encoders.tokenizers.bpe import Bpe
from mmflow_encoders.tokenizers.byte import Byte
from mmflow_encoders.tokenizers.framing import well_formed
from mmflow_encoders.tokenizers.word import Word

from mmflow.plugin import Tokenizer
from mmflow.plugin.registry import registry

TEXTS = ["a red circle", "a blue square, small", "a red square"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_bytes_give_back_any_text(text: str) -> None:
    ids = Byte().encode(text, {}, length=500)
    assert Byte().decode(ids, {}) == text
    assert max(ids) < Byte().size(None)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.integers(2, 12))
def test_truncated_bytes_keep_the_frame_and_decode_to_a_beginning(text: str, length: int) -> None:
    ids = Byte().encode(text, {}, length=length)
    assert len(ids) <= length
    assert (ids[0], ids[-1]) == (Byte.special["begin"], Byte.special["end"])
    assert text.startswith(Byte().decode(ids, {}))


def test_words_give_back_known_texts() -> None:
    word = Word()
    state = json.loads(json.dumps(word.learn(TEXTS)))
    for text in TEXTS:
        assert word.decode(word.encode(text, state, length=20), state) == text.replace(",", " ,")
    assert word.size(state) == 4 + len({"a", "red", "circle", "blue", "square", ",", "small"})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5), st.integers(2, 10), st.integers(5, 9))
def test_words_stay_within_length_and_vocabulary(texts: list[str], length: int, vocabulary: int) -> None:
    word = Word(vocabulary=vocabulary)
    state = word.learn(texts)
    assert word.size(state) <= vocabulary == word.size(None)
    for text in texts:
        ids = word.encode(text, state, length=length)
        assert len(ids) <= length
        assert (ids[0], ids[-1]) == (1, 2)
        assert all(0 < i < word.size(state) for i in ids)


def test_the_commonest_words_are_kept_and_the_rest_is_unknown() -> None:
    word = Word(vocabulary=6)
    state = word.learn(TEXTS)
    assert state == {"ids": {"a": 4, "red": 5}}
    assert word.encode("a red circle", state, length=10) == [1, 4, 5, 3, 2]


def test_learning_does_not_depend_on_the_order_of_texts() -> None:
    assert Word().learn(TEXTS) == Word().learn(reversed(TEXTS))


def test_rare_words_and_capitals() -> None:
    assert set(Word(least=2).learn(TEXTS)["ids"]) == {"a", "red", "square"}
    assert set(Word(lowercase=False).learn(["A a"])["ids"]) == {"A", "a"}


LEARNED = Bpe(vocabulary=300).learn([f"{text} and {text}" for text in TEXTS] * 3)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_byte_pairs_give_back_any_text(text: str) -> None:
    bpe = Bpe(vocabulary=300)
    ids = bpe.encode(text, LEARNED, length=500)
    assert bpe.decode(ids, LEARNED) == text
    assert (ids[0], ids[-1]) == (1, 2)
    assert all(2 < i < bpe.size(LEARNED) for i in ids[1:-1])
    cut = bpe.encode(text, LEARNED, length=6)
    assert cut == (ids if len(ids) <= 6 else [*ids[:5], 2])


@pytest.mark.parametrize("text", ["[PAD] <|endoftext|> </s>", "\x00\x01", "  two  spaces \n", "ﬁ Å Å 😀🏽", ""])
def test_marks_and_rare_characters_are_text_like_any_other(text: str) -> None:
    bpe = Bpe(vocabulary=300)
    assert bpe.decode(bpe.encode(text, LEARNED, length=100), LEARNED) == text


@given(st.text(max_size=20))
def test_half_a_surrogate_pair_is_a_character_like_any_other(text: str) -> None:
    broken = text + "\ud83d" + text
    for tokenizer in (Byte(), Bpe(vocabulary=300)):
        ids = tokenizer.encode(broken, LEARNED, length=500)
        assert tokenizer.decode(ids, LEARNED) == text + "\ufffd" + text
    assert well_formed("\ud83d\ude00") == "😀"
    Bpe(vocabulary=300).learn([broken])


def test_byte_pairs_join_frequent_pairs() -> None:
    bpe = Bpe(vocabulary=300)
    assert bpe.size(None) == 300 >= bpe.size(LEARNED) > 259
    assert len(bpe.encode("a red circle", LEARNED, length=99)) == 2 + 3
    assert len(bpe.encode("zzq", LEARNED, length=99)) == 2 + 3
    assert Bpe(vocabulary=259).size(Bpe(vocabulary=259).learn(TEXTS)) == 259


def test_learning_byte_pairs_depends_on_the_texts_alone() -> None:
    script = (
        "import json, sys; from mmflow_encoders.tokenizers.bpe import Bpe;"
        "print(json.dumps(Bpe(vocabulary=300).learn(json.loads(sys.argv[1]))))"
    )
    texts = [f"{text} and {text}" for text in TEXTS] * 3
    for order in (texts, texts[::-1]):
        run = subprocess.run(
            [sys.executable, "-c", script, json.dumps(order)], capture_output=True, text=True, check=True
        )
        assert json.loads(run.stdout) == LEARNED


@pytest.mark.parametrize("name", ["byte", "word", "bpe"])
def test_padding_is_never_an_id_of_a_text(name: str) -> None:
    tokenizer = registry().get("tokenizer", name)()
    assert isinstance(tokenizer, Tokenizer)
    state = tokenizer.learn(["x\x00y"])
    assert 0 not in tokenizer.encode("x\x00y z", state, length=20)
