"""A cross-encoder in one spec: trained, measured, and used to order again what cheap vectors have found.

It learns its pairs by heart: what is tested is the way from the loss to the measurement.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmflow.flow.run import RunOptions, run_spec
from mmflow.spec import SpecError, load_text

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: reranked
data:
  train: {use: shapes, split: train, size: 32, pixels: 16, objects: [1, 1]}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, tokenizer: word}
parts:
  judge: {use: score/cross_encoder, width: 16, depth: 1}
losses:
  align: {use: infonce, of: [text, image]}
  judge: {use: infonce, of: [text, image], score: parts.judge, temperature: 1}
train: {data: train, steps: 60, batch_size: 32, micro_batch_size: 16, optimizer: {use: adamw, lr: 2e-3}}
eval:
  before: {use: reranking, data: train, of: [text, image], second: parts.judge, top: 20, at: [5], model: init}
  after: {use: reranking, data: train, of: [text, image], second: parts.judge, top: 20, at: [5]}
"""


def test_a_cross_encoder_is_trained_measured_and_used(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options = RunOptions(store=str(tmp_path), engine="local", device="cpu", workers=0)
    outcome = run_spec(load_text(SPEC), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    numbers = {stage: {m["name"]: m for m in outcome.metrics[stage]} for stage in ("before", "after")}
    after = numbers["after"]["r5"]
    assert after["value"] > numbers["before"]["r5"]["value"]
    assert after["value"] > 2 * after["chance"]


def test_its_heads_divide_its_width() -> None:
    with pytest.raises(SpecError, match="3 do not divide the width 16"):
        load_text(SPEC, overrides=["parts.judge.heads=3"])


def test_an_evaluation_has_no_score_with_weights_of_its_own() -> None:
    with pytest.raises(SpecError, match="no model of its own that could train the score cross_encoder") as refused:
        load_text(SPEC, overrides=["eval.after.second={use: cross_encoder, width: 16, depth: 1}"])
    assert "score: parts.NAME" in str(refused.value)
