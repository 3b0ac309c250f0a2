"""Every stage that ships and is no evaluator keeps the promises of its kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmflow.plugin import Stage
from mmflow.plugin.registry import registry
from mmflow.testing import StageCase
from mmflow.testing.case import example_of

pytestmark = pytest.mark.slow

DATA = """\
mmflow: 1
name: kit
data:
  train: {use: shapes, size: 24, pixels: 16, objects: 1}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses: {align: {use: infonce, of: [image, text]}}
"""
VECTORS = "  vectors: {use: embed, data: train, of: [image], model: init}\n"
CLUSTERS = f"{VECTORS}  found: {{use: kmeans, of: vectors.image, k: 3}}\n"
STAGES = {
    "train": "  found: {use: train, data: train, steps: 2, batch_size: 8}\n",
    "embed": "  found: {use: embed, data: train, of: [image, text], model: init}\n",
    "kmeans": CLUSTERS,
    "class_means": "  found: {use: class_means, data: train, of: image, labels: label, model: init}\n",
    "mixed_radix": f"{CLUSTERS.replace('found', 'fine')}"
                   "  found: {use: mixed_radix, of: [fine.label, fine.label], base: 3}\n",
    "select": "  found: {use: select, data: train, keep: label}\n",
    "ask": '  found: {use: ask, data: train, of: [caption], prompt: "Is it red? {caption}", service: '
    '{use: scripted, rules: [{when: red, answer: "yes"}], otherwise: "no"}}\n',
}  # fmt: skip


def stage_of(use: str) -> Stage:
    made = example_of(registry().get("stage", use))
    assert isinstance(made, Stage)
    return made


CASES = [StageCase(stage_of(use), f"{DATA}stages:\n{stages}", "found") for use, stages in STAGES.items()]


@pytest.mark.components([], cases=CASES)
def test_promises(component_check: Callable[[], None]) -> None:
    component_check()
