"""`two.0` and `two.1` are the first and the second copy of a view, for nodes that share weights too."""

from __future__ import annotations

import torch

from mmflow.data import Loader
from mmflow.model.model import Model
from mmflow.spec import Owner, load_text

SPEC = """
mmflow: 1
data:
  train: {use: shapes, size: 8, pixels: 32}
views:
  two: {of: image, apply: [{use: random_resized_crop, size: 16}], copies: 2}
encoders:
  first: {use: vit, of: two.0, size: 16, patch: 8, width: 16, depth: 1, heads: 2}
  second: {use: same, weights: first, of: two.1}
  both: {use: same, weights: first, of: two}
losses:
  align: {use: infonce, of: [first, second]}
train: {data: train, epochs: 1, batch_size: 4}
"""


def test_each_copy_is_read_by_its_number():
    scope = load_text(SPEC).scope("train")
    names = ["first", "second", "both"]
    model = Model.create(scope, [Owner("encoders", name) for name in names], seed=0, states={})
    assert scope.source is not None
    loader = Loader(
        scope.source, scope.views, model.requests(), sampler=scope.declaration.sampler, batch_size=4, seed=0
    )
    batch = next(iter(loader.epoch(0)))
    found = {name: encoding.pooled for name, encoding in model.encode(names, batch).items()}
    assert found["both"].shape == (4, 2, 16)
    torch.testing.assert_close(found["first"], found["both"][:, 0])
    torch.testing.assert_close(found["second"], found["both"][:, 1])
    assert not torch.allclose(found["first"], found["second"])
