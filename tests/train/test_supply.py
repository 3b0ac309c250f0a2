"""What a training that goes on knows of the samples that were left out before."""

from __future__ import annotations

from mmflow.spec import load_text
from mmflow.train.settings import Training
from mmflow.train.supply import Supply

SPEC = """\
mmflow: 1
data: {one: {use: shapes, size: 24, pixels: 16}}
encoders: {image: {use: convnet4, of: image, width: 4}}
losses: {it: {use: uniformity, of: image}}
train: {data: one, steps: 2, batch_size: 8}
"""


def supply() -> Supply:
    spec = load_text(SPEC)
    declaration, scope = spec.stages["train"], spec.scope("train")
    assert isinstance(declaration, Training)
    assert scope.source is not None
    return Supply(declaration, scope, scope.source, workers=0, pin=False)


def test_samples_that_were_left_out_before_are_known_after_a_restart() -> None:
    before, after = supply(), supply()
    before._skipped = {"a": "cannot be read"}
    after.restore(before.state())
    assert after.skipped == {"a": "cannot be read"}
