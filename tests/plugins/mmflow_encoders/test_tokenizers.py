"""Tokenizers: round trips, frames, truncation, what is unknown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_encoders.tokenizers import Byte, Word

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


@pytest.mark.parametrize("name", ["byte", "word"])
def test_padding_is_never_an_id_of_a_text(name: str) -> None:
    tokenizer = registry().get("tokenizer", name)()
    assert isinstance(tokenizer, Tokenizer)
    state = tokenizer.learn(["x\x00y"])
    assert 0 not in tokenizer.encode("x\x00y z", state, length=20)
