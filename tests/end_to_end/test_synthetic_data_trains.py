"""Worlds of sounds and of series train what they are for, in seconds: three modalities of one beat, motifs in noise."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.spec import load_text

pytestmark = pytest.mark.slow


def run(text: str, store: Path) -> RunOutcome:
    outcome = run_spec(load_text(dedent(text)), RunOptions(store=str(store), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome


def metric(outcome: RunOutcome, stage: str, name: str) -> tuple[float, float]:
    (found,) = (m for m in outcome.metrics[stage] if m["name"] == name)
    return found["value"], found["chance"]


def test_sounds_meet_their_words_and_images(tmp_path: Path) -> None:
    outcome = run(
        """
        mmflow: 1
        name: beats
        data:
          train: {use: sounds, size: 800, rate: 4000}
          test: {use: sounds, size: 200, rate: 4000, split: test}
        views:
          mel: {of: audio, apply: [{use: log_mel, rate: 4000, window: 256, hop: 64, mels: 32}]}
        encoders:
          sound: {use: series_conv, of: mel, width: 64, depth: 3, head: {use: linear, dim: 32}}
          image: {use: convnet4, of: image, size: 32, width: 16, norm: group, head: {use: linear, dim: 32}}
          words: {use: text_transformer, of: caption, width: 32, depth: 1, heads: 2, head: {use: linear, dim: 32}}
        losses:
          sound_words: {use: infonce, of: [sound, words]}
          sound_image: {use: infonce, of: [sound, image]}
        train:
          data: train
          steps: 120
          batch_size: 64
          optimizer: {use: adamw, lr: 3e-3}
          schedule: {use: cosine, warmup: 0.1}
        eval:
          words: {use: retrieval, data: test, of: [sound, words], at: [1], match: caption}
          images: {use: retrieval, data: test, of: [sound, image], at: [5]}
        """,
        tmp_path,
    )
    for stage, name in (("words", "sound_to_words_r1"), ("images", "sound_to_image_r5")):
        value, chance = metric(outcome, stage, name)
        assert value > 5 * chance, (stage, value)


def test_motifs_are_told_in_noise_with_gaps(tmp_path: Path) -> None:
    outcome = run(
        """
        mmflow: 1
        name: motifs
        data:
          train: {use: series, size: 1200}
          test: {use: series, size: 300, split: test}
        encoders:
          motif: {use: series_conv, of: series, width: 64, depth: 3, pool: max}
          guess: {use: linear, of: motif, dim: 6}
        losses:
          classify: {use: cross_entropy, of: guess, labels: label}
        train:
          data: train
          steps: 120
          batch_size: 64
          optimizer: {use: adamw, lr: 3e-3}
          schedule: {use: cosine, warmup: 0.1}
        eval:
          motif: {use: linear_probe, data: train, test: test, of: motif, labels: label}
        """,
        tmp_path,
    )
    value, _ = metric(outcome, "motif", "accuracy")
    assert value > 0.7
