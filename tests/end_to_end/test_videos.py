"""Videos are encoded frame by frame and told by what happens in them: order, which no single frame shows."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from mmflow.flow.run import RunOptions, run_spec
from mmflow.spec import load_text

pytestmark = pytest.mark.slow

SPEC = """
    mmflow: 1
    name: motions
    data:
      train: {use: motions, size: 1200, pixels: 32, frames: 8, steps: 1}
      test: {use: motions, size: 200, pixels: 32, frames: 8, steps: 1, split: test}
    encoders:
      frames: {use: convnet4, of: video, size: 32, channels: 1, width: 16, norm: group}
      clip: {use: members, of: frames}
      video: {use: series_conv, of: clip.tokens, width: 64, depth: 2, normalize: false, head: {use: linear, dim: 32}}
      verb: {use: linear, of: video, dim: 7}
    losses:
      classify: {use: cross_entropy, of: verb, labels: label}
    train:
      data: train
      epochs: 4
      batch_size: 64
      optimizer: {use: adamw, lr: 3e-3}
      schedule: {use: cosine, warmup: 0.1}
    eval:
      order: {use: linear_probe, data: train, test: test, of: video, labels: label}
      frames: {use: linear_probe, data: train, test: test, of: clip, labels: label}
    """


def test_what_happens_is_told_by_frames_in_their_order(tmp_path: Path) -> None:
    outcome = run_spec(load_text(dedent(SPEC)), RunOptions(store=str(tmp_path), engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    accuracy = {
        stage: next(m["value"] for m in outcome.metrics[stage] if m["name"] == "accuracy")
        for stage in ("order", "frames")
    }
    assert accuracy["order"] > 0.5
    assert accuracy["order"] > accuracy["frames"] + 0.2
