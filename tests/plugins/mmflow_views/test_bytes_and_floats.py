"""Transforms of bytes after one that makes floats are refused where the view is checked, not in training."""

from __future__ import annotations

import pytest
from mmflow_views.images.flip import Flip
from mmflow_views.images.normalize import Normalize

from mmflow.plugin import TensorType
from mmflow.spec import SpecError, load_text

SPEC = """\
mmflow: 1
data: {{one: {{use: shapes, size: 16, pixels: 16}}}}
views: {{v: {{of: {of}, apply: {apply}}}}}
encoders: {{image: {{use: convnet4, of: v, width: 4}}}}
losses: {{loss: {{use: uniformity, of: image}}}}
train: {{data: one, steps: 2, batch_size: 8}}
"""


@pytest.mark.parametrize("first", ["normalize", "mixup", "{use: one_of, transforms: [normalize, gray]}"])
@pytest.mark.parametrize("then", ["color_jitter", "flip", "normalize", "rand_augment", "erase"])
def test_a_transform_of_bytes_does_not_come_after_floats(first: str, then: str) -> None:
    with pytest.raises(SpecError, match=f"{then} changes images of bytes") as caught:
        load_text(SPEC.format(of="image", apply=f"[{first}, {then}]"))
    assert str(caught.value).startswith("<text>:3:")


def test_a_mask_beside_the_image_hides_it_not() -> None:
    with pytest.raises(SpecError, match="color_jitter changes images of bytes"):
        load_text(SPEC.format(of="[image, masks.0]", apply="[normalize, color_jitter]"))


def test_floats_of_a_view_that_another_reads() -> None:
    text = SPEC.format(of="image", apply="[normalize]").replace("of: v,", "of: w,")
    with pytest.raises(SpecError, match="flip changes images of bytes"):
        load_text(text.replace("[normalize]}}", "[normalize]}, w: {of: v, apply: [flip]}}"))


def test_bytes_before_floats_are_right() -> None:
    load_text(SPEC.format(of="image", apply="[color_jitter, flip, normalize]"))
    assert Normalize().result(TensorType("image", size=(8, 8, 3), dtype="uint8")).dtype == "float32"
    assert set(Flip().added(TensorType("image", size=(8, 8, 3), dtype="uint8"))) == {"flip"}
