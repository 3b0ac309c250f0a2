"""Views that draw in evaluation too draw at the ids of the rows; all others have one form there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmflow.data import ColumnRequest, scan
from mmflow.identity.keys import Keys
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target
from mmflow.spec import load_text

SPEC = """
mmflow: 1
data: {test: {use: shapes, size: 20, pixels: 16}}
views:
  crop: {of: image, copies: 2, apply: [{use: random_resized_crop, size: 8}, flip], draws: DRAWS}
encoders: {image: {use: convnet4, of: crop, width: 4}}
stages: {measured: {use: knn, data: test, of: image.0, labels: label, model: init}}
"""


def read(draws: str, size: int, seed: int = 0) -> torch.Tensor:
    spec = load_text(SPEC.replace("DRAWS", draws))
    views = spec.views
    request = ColumnRequest("x", Target("views", "crop"))
    batches = scan(spec.data["test"], views, [request], batch_size=size, seed=seed)
    values: list[Any] = [batch.columns["x"].values for batch in batches]
    return torch.cat(values)


def test_draws_stand_at_the_ids_of_rows() -> None:
    found = read("always", 20)
    assert torch.equal(found, read("always", 7)), "the batches of an evaluation change nothing"
    assert not torch.equal(found[:, 0], found[:, 1]), "copies draw apart"
    assert not torch.equal(found, read("always", 20, seed=1))
    plain = read("training", 20)
    assert torch.equal(plain[:, 0], plain[:, 1])
    assert torch.equal(plain, read("training", 20, seed=1))
    assert not torch.equal(found, plain)


def test_a_view_that_draws_is_another_view() -> None:
    keys = {Keys(load_text(SPEC.replace("DRAWS", draws))).stage("measured") for draws in ("training", "always")}
    assert len(keys) == 2


def test_rows_that_are_mixed_cannot_be_drawn_one_by_one() -> None:
    made = {"of": ["image", "label"], "apply": [{"use": "mixup"}], "draws": "always"}
    with pytest.raises(ValueError, match="mixup mixes the rows of a batch"):
        View.model_validate(made)
