"""Tokenizers learn from what their encoder reads: the view, not the field behind it."""

from __future__ import annotations

from textwrap import dedent

from mmflow.model.model import Model
from mmflow.spec import Owner, load_text

SPEC = """
    mmflow: 1
    name: learning
    data:
      train: {use: shapes, size: 40, pixels: 16, objects: 1}
      test: {use: shapes, size: 8, pixels: 16, objects: 1, split: test}
    views:
      word: {of: color, apply: [{use: class_name, names: [rot, gruen, blau, gelb, lila, orange, weiss, tuerkis]}]}
      two: {of: caption, copies: 2, apply: [{use: template, texts: ["there {}", "here {}"]}]}
    encoders:
      image: {use: vit, of: image, size: 16, width: 16, depth: 1, head: {use: linear, dim: 8}}
      word: {use: text_transformer, of: word, width: 16, depth: 1, head: {use: linear, dim: 8}}
      text: {use: text_transformer, of: two, width: 16, depth: 1, head: {use: linear, dim: 8}}
      hard: {use: text_transformer, of: hard_captions, width: 16, depth: 1, head: {use: linear, dim: 8}}
    losses:
      word: {use: infonce, of: [image, word]}
      text: {use: supcon, of: [text, hard]}
    train: {data: train, epochs: 1, batch_size: 8}
    """


def test_words_of_a_view_of_a_label_of_copies_and_of_a_group_are_learned() -> None:
    scope = load_text(dedent(SPEC)).scope("train")
    states = Model.learn_states(scope, scope.roots(), scope.source)
    colors = set(states["encoders.word"]["ids"])
    assert colors == {"rot", "gruen", "blau", "gelb", "lila", "orange", "weiss", "tuerkis"}
    assert {"there", "circle"} <= set(states["encoders.text"]["ids"])
    # In the order of what is read, the deterministic form has the first template alone.
    assert "here" not in states["encoders.text"]["ids"]
    assert {"circle", "red"} <= set(states["encoders.hard"]["ids"])
    few = Model.learn_states(scope, [Owner("losses", "word")], scope.source, limit=1)
    assert len(few["encoders.word"]["ids"]) == 1
