"""Transforms: draws, facts about the change, and one draw for all fields of a view."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_samplers.shuffle import Shuffle
from mmflow_synthetic.shapes import Shapes
from mmflow_views.choices.choose import Choose
from mmflow_views.choices.one_of import OneOf
from mmflow_views.images.blur import Blur
from mmflow_views.images.center_crop import CenterCrop
from mmflow_views.images.color_jitter import ColorJitter
from mmflow_views.images.erase import Erase
from mmflow_views.images.flip import Flip
from mmflow_views.images.gray import Gray
from mmflow_views.images.normalize import Normalize
from mmflow_views.images.placement import Placement
from mmflow_views.images.quarter_turn import QuarterTurn
from mmflow_views.images.random_resized_crop import RandomResizedCrop
from mmflow_views.images.resize import Resize
from mmflow_views.images.solarize import Solarize
from mmflow_views.images.torchvision_transforms import RandAugment, Torchvision
from mmflow_views.mixing.mixup import Mixup
from mmflow_views.texts.crop_words import CropWords
from mmflow_views.texts.drop_words import DropWords
from mmflow_views.texts.lower import Lower
from mmflow_views.texts.mask_words import MaskWords
from mmflow_views.texts.replace_words import ReplaceWords
from mmflow_views.texts.swap_words import SwapWords
from mmflow_views.texts.template import Template
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from torchvision.transforms import v2

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import TensorType, Transform
from mmflow.plugin.kinds import View
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target

SAMPLES = [Shapes(size=40, pixels=60).open()[index] for index in range(40)]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards: a pixel tells where it came from."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.arange(width)[None, :] * 255 // max(1, width - 1)
    image[..., 1] = np.arange(height)[:, None] * 255 // max(1, height - 1)
    return image


def changed(transform: Transform, value: Any, draw: np.random.Generator | None) -> Any:
    """The changed value, without the facts about the change."""
    result = transform.apply(value, draw)
    return result[0] if isinstance(result, tuple) else result


MAKERS: dict[str, Any] = {
    "random_resized_crop": lambda: RandomResizedCrop(size=16), "center_crop": lambda: CenterCrop(size=16),
    "resize": lambda: Resize(size=16), "flip": Flip, "quarter_turn": QuarterTurn, "crop_words": CropWords,
    "one_of": lambda: OneOf(transforms=(Gray(p=1.0), Solarize(p=1.0))),
    "color_jitter": ColorJitter, "gray": Gray, "blur": Blur,
    "solarize": Solarize, "erase": Erase, "normalize": Normalize, "drop_words": DropWords, "mask_words": MaskWords,
    "swap_words": SwapWords, "replace_words": lambda: ReplaceWords(table={"red": ("crimson",)}),
    "rand_augment": RandAugment, "torchvision": lambda: Torchvision(name="RandomRotation", options={"degrees": 30}),
    "template": lambda: Template(texts=("a {}", "{}")), "lower": Lower, "choose": Choose,
}  # fmt: skip


def value_for(name: str) -> Any:
    if name == "choose":
        return ["one", "two", "three"]
    return "a Red cat on the mat" if "words" in name or name in ("template", "lower") else gradient(24, 32)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_transform_is_registered_deterministic_and_leaves_its_input_alone(name: str) -> None:
    transform: Transform = MAKERS[name]()
    assert isinstance(transform, registry().get("transform", name))
    value = value_for(name)
    before = copy.deepcopy(value)
    for draw in (lambda: generator(3), lambda: None):
        first, second = transform.apply(value, draw()), transform.apply(value, draw())
        np.testing.assert_equal(first, second)
    np.testing.assert_equal(value, before)


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"choose", "normalize"}))
def test_in_evaluation_nothing_random_happens(name: str) -> None:
    transform: Transform = MAKERS[name]()
    value = value_for(name)
    result = transform.apply(value, None)
    result, facts = result if isinstance(result, tuple) else (result, {})
    if name == "template":
        assert result == f"a {value}"
    elif name == "lower":
        assert result == value.lower()
    elif name in ("random_resized_crop", "center_crop", "resize"):
        assert result.shape[:2] in ((16, 16), (16, 21))
    else:
        np.testing.assert_equal(result, value)
    assert facts.get("flip", False) is False


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(20, 80), width=st.integers(20, 80), seed=st.integers(0, 10**6),
    low=st.floats(0.05, 1.0), size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
)  # fmt: skip
def test_a_random_crop_keeps_its_bounds_and_its_box_is_true(
    height: int, width: int, seed: int, low: float, size: tuple[int, int]
) -> None:
    crop = RandomResizedCrop(size=size, scale=(low, 1.0))
    image, facts = crop.apply(gradient(height, width), generator(seed))
    left, top, right, bottom = facts["box"].tolist()
    assert 0 <= left < right <= 1 + 1e-6
    assert 0 <= top < bottom <= 1 + 1e-6
    assert image.shape == (*size, 3)
    area, ratio = (right - left) * (bottom - top), (right - left) * width / ((bottom - top) * height)
    assert ratio == pytest.approx(np.clip(ratio, 3 / 4, 4 / 3), abs=1e-4)
    assert area <= 1 + 1e-6
    if (right - left) < 0.999 and (bottom - top) < 0.999:
        assert area >= low - 1e-4
    # The color at the middle of the crop is that of the box's middle.
    middle = image[size[0] // 2 - 1 : size[0] // 2 + 1, size[1] // 2 - 1 : size[1] // 2 + 1].mean((0, 1))
    expected = np.array([(left + right) / 2 * width - 0.5, (top + bottom) / 2 * height - 0.5])
    expected *= 255 / np.array([width - 1, height - 1])
    tolerance = 255 * np.array([(right - left) / size[1], (bottom - top) / size[0]]) / 2 + 3
    assert (np.abs(middle[:2] - expected) <= tolerance + 255 / np.array([width, height])).all()


def test_in_evaluation_the_crop_is_the_largest_in_the_middle() -> None:
    image, facts = RandomResizedCrop(size=20).apply(gradient(20, 60), None)
    assert facts["box"].tolist() == pytest.approx([1 / 3, 0, 2 / 3, 1])
    np.testing.assert_array_equal(image, gradient(20, 60)[:, 20:40])
    _, facts = RandomResizedCrop(size=(10, 40)).apply(gradient(40, 40), None)
    assert facts["box"].tolist() == pytest.approx([0, 3 / 8, 1, 5 / 8])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "transforms",
    [[RandomResizedCrop(size=72, scale=(0.3, 1.0))], [QuarterTurn()], [QuarterTurn(), Resize(size=(70, 90))],
     [Flip(p=1.0)], [Flip(p=1.0, direction="vertical")],
     [Resize(size=(90, 70))], [CenterCrop(size=40)], [CenterCrop(size=80)],
     [RandomResizedCrop(size=96), Flip(p=0.5)]],
)  # fmt: skip
def test_boxes_and_masks_follow_the_image(transforms: list[Transform], seed: int) -> None:
    sample = SAMPLES[seed]
    parts: Any = {name: sample[name] for name in ("image", "boxes", "masks", "label")}
    for place, transform in enumerate(transforms):
        result = transform.apply(parts, generator(100 * seed + place))
        parts = result[0] if isinstance(result, tuple) else result
    height, width = parts["image"].shape[:2]
    corner = sample["image"][0, 0].astype(int)
    seen = (np.abs(parts["image"].astype(int) - corner).max(-1) > 45) & (parts["image"].max(-1) > 0)
    drawn = np.zeros((height, width), dtype=bool)
    for box, mask in zip(parts["boxes"], parts["masks"], strict=True):
        assert mask.shape == (height, width)
        if box is None:
            assert mask.sum() <= 2 * max(height, width)
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        slack = 3.5 * max(1.0, max(height, width) / 60) + 1
        left, top, right, bottom = box
        if len(rows):
            assert (columns[0] >= left - slack) & (columns[-1] < right + slack)
            assert (rows[0] >= top - slack) & (rows[-1] < bottom + slack)
        # Where an edge cuts a thing, its box says how far the whole would reach along that edge.
        if left > 0 and top > 0 and right < width and bottom < height:
            extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert np.abs(extent - box).max() <= slack
        drawn |= mask
    assert parts["label"] == sample["label"]
    # Drawn shapes and masks differ at edges only.
    assert (seen ^ drawn).sum() <= 0.25 * max(drawn.sum(), 1) + 60


def test_a_box_that_is_cut_away_is_absent() -> None:
    placement = Placement((0, 0, 10, 10), 20, 20)
    assert placement.boxes(np.array([2.0, 3.0, 14.0, 5.0])).tolist() == [4.0, 6.0, 20.0, 10.0]
    assert placement.boxes(np.array([12.0, 3.0, 14.0, 5.0])) is None
    mirrored = Placement((0, 0, 10, 10), 10, 10, flip="horizontal")
    assert mirrored.boxes(np.array([[1.0, 2.0, 4.0, 5.0]])).tolist() == [[6.0, 2.0, 9.0, 5.0]]


def test_a_flip_happens_as_often_as_it_says_and_tells() -> None:
    image = gradient(6, 9)
    results = [Flip(p=0.3).apply(image, generator(seed)) for seed in range(1000)]
    told = [facts["flip"] for _, facts in results]
    assert 240 < sum(told) < 360
    for (flipped, _), was in zip(results, told, strict=True):
        np.testing.assert_array_equal(flipped, image[:, ::-1] if was else image)


def test_all_frames_of_a_clip_share_one_draw() -> None:
    clip = np.stack([gradient(30, 30)] * 4)
    result, facts = RandomResizedCrop(size=12).apply(clip, generator())
    assert result.shape == (4, 12, 12, 3)
    assert (result == result[:1]).all()
    assert facts["box"].shape == (4,)
    jittered = changed(ColorJitter(p=1.0), clip, generator(1))
    assert (jittered == jittered[:1]).all()
    assert (jittered != clip).any()


def test_colors_change_as_their_names_say() -> None:
    image = SAMPLES[0]["image"]
    gray = changed(Gray(p=1.0), image, generator())
    assert (gray[..., 0] == gray[..., 2]).all()
    np.testing.assert_allclose(gray[..., 0], image @ np.array([0.299, 0.587, 0.114]), atol=0.51)
    np.testing.assert_array_equal(
        changed(Solarize(p=1.0, threshold=100), image, generator()), np.where(image >= 100, 255 - image, image)
    )
    nothing = changed(ColorJitter(brightness=0, contrast=0, saturation=0, hue=0, p=1.0), image, generator())
    np.testing.assert_array_equal(nothing, image)
    bright = ColorJitter(brightness=0.5, contrast=0, saturation=0, hue=0, p=1.0)
    order, (factor, *_) = bright.draw(60, 60, generator(4))
    expected = np.clip(image * np.float32(factor), 0, 255)
    np.testing.assert_allclose(changed(bright, image, generator(4)), expected, atol=0.51)
    assert sorted(order) == [0, 1, 2, 3]
    turned = changed(ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.5, p=1.0), image, generator(2))
    assert np.abs(turned.max(-1).astype(int) - image.max(-1)).max() <= 2
    blurred = changed(Blur(p=1.0, sigma=(2.0, 2.0)), image, generator())
    expected = gaussian_filter(image.astype(np.float64), (2.0, 2.0, 0), mode="reflect", truncate=3.0)
    np.testing.assert_allclose(blurred, expected, atol=0.51)
    erased, facts = Erase(p=1.0, area=(0.25, 0.25)).apply(np.full((40, 50, 3), 9, np.uint8), generator(1))
    assert 0.2 < (erased == 0).mean() < 0.3
    rows, columns = np.nonzero(erased[..., 0] == 0)
    box = [columns.min() / 50, rows.min() / 40, (columns.max() + 1) / 50, (rows.max() + 1) / 40]
    np.testing.assert_allclose(facts["erased"], box, atol=1e-6)


def test_normalized_values_have_the_stated_scale() -> None:
    image = SAMPLES[1]["image"]
    result = Normalize(mean=(0.5,), std=(0.25,)).apply(image, None)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, (image / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="2 means"):
        Normalize(mean=(0.5, 0.5), std=(1.0, 1.0)).apply(image, None)


TEXT = st.lists(st.text("abcde", min_size=1, max_size=4), min_size=1, max_size=12).map(" ".join)


@given(TEXT, st.integers(0, 1000), st.floats(0, 1))
def test_corrupted_words_are_those_of_the_text(text: str, seed: int, p: float) -> None:
    words = text.split()
    for spans in (None, 2.0):
        kept, facts = DropWords(p=p, spans=spans).apply(text, generator(seed))
        assert kept.split() == [words[place] for place in facts["kept"]] != []
        swapped, facts = SwapWords(p=p, spans=spans).apply(text, generator(seed))
        assert swapped.split() == [words[place] for place in facts["order"]]
        assert sorted(facts["order"]) == list(range(len(words)))
        masked, facts = MaskWords(p=p, mark="#", spans=spans).apply(text, generator(seed))
        assert masked.split() == ["#" if n in facts["masked"] else word for n, word in enumerate(words)]
        assert spans is None or len(facts["masked"]) == round(p * len(words))
        filled, same = MaskWords(p=p, mark="#", spans=spans, merge=True).apply(text, generator(seed))
        assert same == facts
        assert re.sub(r"#( #)*", "#", masked) == filled
        cropped, facts = CropWords(share=(p / 2 + 0.01, p / 2 + 0.5)).apply(text, generator(seed))
        assert cropped.split() == [words[place] for place in facts["kept"]]
        assert len(facts["kept"]) == max(1, facts["kept"][-1] - facts["kept"][0] + 1) <= max(1, len(words))
        table = {"a": ("x", "y")}
        replaced, facts = ReplaceWords(p=p, table=table, spans=spans).apply(text, generator(seed))
        for place, (old, new) in enumerate(zip(words, replaced.split(), strict=True)):
            assert (new in table["a"] and old == "a") if place in facts["replaced"] else new == old


def test_share_of_masked_words() -> None:
    text = " ".join(["word"] * 5000)
    masked = changed(MaskWords(p=0.2), text, generator())
    assert 850 < masked.count("[MASK]") < 1150
    _, facts = MaskWords(p=0.2, spans=4).apply(text, generator())
    assert len(facts["masked"]) == 1000
    lengths = [len(run) for run in "".join("#" if n in set(facts["masked"]) else " " for n in range(5000)).split()]
    assert 3.5 < sum(lengths) / len(lengths) < 6


def test_templates_and_choices_are_all_used() -> None:
    template = Template(texts=("an image of {}", "{} it is"))
    said = [template.apply("x", generator(seed)) for seed in range(20)]
    assert {(text, facts["template"]) for text, facts in said} == {("an image of x", 0), ("x it is", 1)}
    choose = Choose()
    said = [choose.apply(["a", None, "b"], generator(seed)) for seed in range(20)]
    assert {(text, facts["chosen"]) for text, facts in said} == {("a", 0), ("b", 2)}
    assert changed(choose, [None, None], generator()) is None
    captions = TensorType("text", ("sample", "caption"), groups=(None,))
    assert choose.result(captions) == TensorType("text")
    with pytest.raises(ValueError, match="group axis"):
        choose.result(TensorType("text"))


def test_declared_sizes_are_those_of_the_result() -> None:
    declared = TensorType("image", size=(24, 32, 3), dtype="uint8")
    for transform in (
        RandomResizedCrop(size=16),
        CenterCrop(size=(8, 12)),
        Resize(size=12),
        Resize(size=(5, 6)),
        Flip(),
    ):
        result = transform.apply(gradient(24, 32), generator())
        image = result[0] if isinstance(result, tuple) else result
        assert transform.result(declared).size == image.shape


@pytest.mark.parametrize(
    ("name", "fields"),
    [("random_resized_crop", {}), ("random_resized_crop", {"size": 0}), ("flip", {"p": 1.5}),
     ("random_resized_crop", {"size": 8, "scale": [0.5, 2.0]}), ("random_resized_crop", {"size": 8, "ratio": [2, 1]}),
     ("blur", {"sigma": [0, 1]}), ("normalize", {"std": [0.0]}), ("template", {"texts": ["none"]}),
     ("replace_words", {"table": {"a": []}}), ("color_jitter", {"hue": 0.7})],
)  # fmt: skip
def test_impossible_settings_are_refused(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        registry().get("transform", name).model_validate(fields)


def test_values_that_are_no_images_are_named() -> None:
    with pytest.raises(ValueError, match=r"flip needs an image.*str"):
        Flip().apply("text", generator())
    with pytest.raises(ValueError, match=r"float32 \[4, 4, 3\]"):
        Resize(size=2).apply(np.zeros((4, 4, 3), np.float32), generator())


def test_facts_describe_the_change() -> None:
    image = SAMPLES[2]["image"]
    jitter, gray, blur, solarize = ColorJitter(p=0.5), Gray(p=0.5), Blur(p=0.5), Solarize(p=0.5, threshold=1)
    for seed in range(20):
        for transform, fact, nothing in ((gray, "gray", False), (blur, "blur", 0.0), (solarize, "solarize", False)):
            result, facts = transform.apply(image, generator(seed))
            assert (facts[fact] != nothing) == (not np.array_equal(result, image))
        result, facts = jitter.apply(image, generator(seed))
        assert (facts["jitter"].tolist() == [1, 1, 1, 0]) == np.array_equal(result, image)
        assert (np.abs(facts["jitter"][:3] - 1) <= 0.4).all()
    sigma = Blur(p=1.0).apply(image, generator(1))[1]["blur"]
    np.testing.assert_array_equal(
        changed(Blur(p=1.0, sigma=(sigma, sigma)), image, generator(2)), changed(Blur(p=1.0), image, generator(1))
    )


def test_images_as_torchvision_makes_them() -> None:
    image, clip = SAMPLES[0]["image"], np.stack([SAMPLES[0]["image"]] * 3)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for ours, theirs in (
        (RandAugment(operations=3, magnitude=12), v2.RandAugment(num_ops=3, magnitude=12)),
        (Torchvision(name="RandomPerspective", options={"p": 1.0}), v2.RandomPerspective(p=1.0)),
    ):
        for seed in range(5):
            state = torch.get_rng_state()
            found = ours.apply(image, generator(seed))
            assert torch.equal(torch.get_rng_state(), state)
            torch.manual_seed(int(generator(seed).integers(2**32)))
            np.testing.assert_array_equal(found, theirs(tensor).permute(1, 2, 0).numpy())
            frames = ours.apply(clip, generator(seed))
            assert (frames == frames[:1]).all()
        assert ours.apply(image, None) is image
    padded = Torchvision(name="Pad", options={"padding": 2}, always=True).apply(image, None)
    assert padded.shape == (64, 64, 3)
    declared = TensorType("image", size=(60, 60, 3), dtype="uint8")
    for wrong, words in (
        (Torchvision(name="Pads"), "no transform 'Pads'; did you mean Pad"),
        (Torchvision(name="Pad", options={"x": 1}), "Pad refuses these options"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong.result(declared)
    with pytest.raises(ValueError, match="must give uint8 images"):
        Torchvision(name="ToDtype", options={"dtype": torch.float32}, always=True).apply(image, None)
    with pytest.raises(ValueError, match="torchvision needs an image or a clip"):
        Torchvision(name="Pad").apply({"image": image}, None)


def test_crops_of_several_sizes_are_views_of_their_own() -> None:
    crop = {"use": "random_resized_crop"}
    views = {
        "large": View.model_validate({"of": "image", "copies": 2, "apply": [{**crop, "size": 32, "scale": [0.4, 1]}]}),
        "small": View.model_validate(
            {"of": "image", "copies": 6, "apply": [{**crop, "size": 16, "scale": [0.05, 0.4]}]}
        ),
    }
    requests = [ColumnRequest(f"{v}{o}", Target("views", v, output=o or None)) for v in views for o in ("", "box")]
    loader = Loader(Shapes(size=4, pixels=60), views, requests, sampler=Shuffle(), batch_size=4, seed=0)
    (batch,) = loader.epoch(0)
    assert batch.columns["large"].values.shape == (4, 2, 3, 32, 32)
    assert batch.columns["small"].values.shape == (4, 6, 3, 16, 16)
    for name, low, high in (("large", 0.4, 1), ("small", 0.05, 0.4)):
        left, top, right, bottom = batch.columns[f"{name}box"].values.unbind(-1)
        area = (right - left) * (bottom - top)
        assert low - 1e-3 <= float(area.min()) < float(area.max()) <= high + 1e-3
        assert len(set(area.flatten().tolist())) == area.numel()


def test_a_turned_image_is_turned_as_often_as_it_says() -> None:
    image = gradient(20, 30)
    for seed in range(12):
        turned, facts = QuarterTurn().apply(image, generator(seed))
        np.testing.assert_array_equal(turned, np.rot90(image, facts["turn"]))
        assert turned.shape == ((20, 30, 3) if facts["turn"] % 2 == 0 else (30, 20, 3))
    square = TensorType("image", size=(20, 20, 3))
    assert QuarterTurn().result(square) == square
    assert QuarterTurn().result(TensorType("image", size=(20, 30, 3))).size == (None, None, 3)


def test_one_of_several_is_drawn_as_often_as_its_odds_say() -> None:
    image = SAMPLES[0]["image"]
    gray, turned = changed(Gray(p=1.0), image, generator()), changed(Solarize(p=1.0), image, generator())
    choice = OneOf(transforms=(Gray(p=1.0), Solarize(p=1.0), Flip(p=1.0)), odds=(3, 1, 0), p=0.8)
    counts = {-1: 0, 0: 0, 1: 0}
    for seed in range(800):
        found, facts = choice.apply(image, generator(seed))
        counts[facts["which"]] += 1
        assert np.array_equal(found, {-1: image, 0: gray, 1: turned}[facts["which"]])
        assert facts["gray"] == {-1: False, 0: True, 1: None}[facts["which"]]
        assert facts["flip"] is None
    assert [counts[n] / 800 for n in (-1, 0, 1)] == pytest.approx([0.2, 0.6, 0.2], abs=0.06)
    assert set(choice.added(TensorType("image", dtype="uint8"))) == {"gray", "solarize", "flip", "which"}
    with pytest.raises(ValueError, match="give different types"):
        OneOf(transforms=(Resize(size=(4, 4)), Resize(size=(5, 5)))).result(TensorType("image", size=(9, 9, 3)))
    with pytest.raises(ValidationError, match="transforms of a batch"):
        OneOf(transforms=(Mixup(), Flip()))
    with pytest.raises(ValidationError, match="one number a transform"):
        OneOf(transforms=(Gray(), Flip()), odds=(1,))
