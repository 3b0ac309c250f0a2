"""Plugins from outside the repository, installed with pip, take part in runs; a broken one stops nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SPEC = """
mmflow: 1
name: with-plugins
data:
  train: {use: shapes, split: train, size: 64, pixels: 16}
  test: {use: shapes, split: test, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
  gap: {use: gap, of: [image, text], weight: 0.1}
train: {data: train, epochs: 1, batch_size: 32, optimizer: {use: adamw, lr: 1e-3}, log_every: 1}
eval:
  spread: {use: spread, data: test, of: [image, text], digits: 3}
"""


def test_a_loss_and_an_evaluator_of_plugins_are_used(mmflow, plugins: Path, tmp_path: Path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    done = mmflow("run", "spec.yaml", "--local", "--json", "--store", "kept", path=plugins)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    key = result["stages"]["train"]["key"]
    (history,) = (tmp_path / "kept" / "entries" / key).rglob("history.jsonl")
    steps = [json.loads(line) for line in history.read_text().splitlines()]
    assert all(step["loss/gap"] > 0 for step in steps)
    spread = {metric["name"]: metric["value"] for metric in result["metrics"]["spread"]}
    assert set(spread) == {"image", "text"}
    assert all(value > 0 and value == round(value, 3) for value in spread.values())


def test_a_spec_with_plugins_that_are_not_installed_is_two_messages(mmflow, tmp_path: Path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    done = mmflow("check", "spec.yaml")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "gap" in lines[0]
    assert "spread" in lines[1]


def test_the_shapes_of_plugins_are_checked(mmflow, plugins: Path, tmp_path: Path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    done = mmflow("check", "--shapes", "spec.yaml", path=plugins)
    assert done.returncode == 0, done.stderr
    wrong = mmflow("check", "--shapes", "spec.yaml", "--set", "encoders.text.head.dim=9", path=plugins)
    assert wrong.returncode == 2
    assert "losses.gap" in wrong.stderr
