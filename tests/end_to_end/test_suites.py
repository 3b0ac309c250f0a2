"""The suites that ship measure vectors, a pretrained model, and a model whose training is stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.spec import load_spec

pytestmark = pytest.mark.slow

SUITES = Path(__file__).parents[2] / "specs" / "suites"
MODEL = """
mmflow: 1
name: small
data:
  train: {use: shapes, split: train, size: 96, pixels: 16}
  test: {use: shapes, split: test, size: 60, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
train: {data: train, steps: 2, batch_size: 32}
eval:
  own: {use: retrieval, data: test, of: [image, text], at: [5]}
"""


def run(folder: Path, file: Path, *overrides: str) -> RunOutcome:
    options = RunOptions(store=str(folder / "store"), engine="local", device="cpu")
    outcome = run_spec(load_spec(str(file), overrides), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome


def test_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(80) % 4
    base = rng.normal(size=(4, 8))[label] + rng.normal(size=(80, 8))
    image, text = (base + 0.5 * rng.normal(size=base.shape) for _ in range(2))
    captions = np.array([f"caption {n}" for n in range(80)])
    np.savez(tmp_path / "v.npz", image=image.astype("f4"), text=text.astype("f4"), label=label, caption=captions)
    outcome = run(tmp_path, SUITES / "vectors.yaml", f"vars.url={tmp_path / 'v.npz'}")
    assert set(outcome.outcome.stages.values()) == {"done"}
    assert len(outcome.metrics) == 7


def test_a_model_of_ones_own_is_not_trained_again(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(MODEL)
    run(tmp_path, tmp_path / "model.yaml")
    (tmp_path / "all.yaml").write_text(f"extends: [model.yaml, {SUITES / 'image_text.yaml'}]\n")
    outcome = run(tmp_path, tmp_path / "all.yaml")
    states = dict(outcome.outcome.stages)
    assert (states.pop("train"), states.pop("own")) == ("cached", "cached")
    assert list(states.values()) == ["done"] * 8
    assert set(outcome.metrics) == {"own", *states}


def test_a_pretrained_model(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 1},
    }
    folder = tmp_path / "clip"
    folder.mkdir()
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 36)):
        lines = ["image,caption,label"]
        for number in range(count):
            color = number % 3
            pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8)
            pixels[..., color] += 150
            Image.fromarray(pixels).save(tmp_path / f"{split}{number}.png")
            name = ("red", "green", "blue")[color]
            lines.append(f"{split}{number}.png,a {name} square number {number},{name}")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    files = [f"vars.{split}={tmp_path / f'{split}.csv'}" for split in ("train", "test")]
    outcome = run(tmp_path, SUITES / "open_clip.yaml", f"vars.model={folder}", *files)
    assert len(outcome.metrics) == 8
    probe = {metric["name"]: metric["value"] for metric in outcome.metrics["probe"]}
    assert probe["image_accuracy"] > 0.6
