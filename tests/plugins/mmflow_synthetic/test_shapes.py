"""Shapes: every factor can be read back from the pixels; samples depend on their address alone."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from mmflow_synthetic import captions, drawing, scenes
from mmflow_synthetic.shapes import Shapes
from pydantic import ValidationError

PIXELS = 64
SOURCE = Shapes(size=300, pixels=PIXELS)


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    reader = SOURCE.open()
    return [reader[index] for index in range(len(reader))]


def names(field: str) -> tuple[str, ...]:
    return SOURCE.fields()[field].names


def nearest(rgb: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: float(np.abs(np.array(palette[name]) - rgb).max()))


def background_of(image: np.ndarray) -> np.ndarray:
    """The color of the corner: no thing reaches it."""
    return image[0, 0].astype(int)


def foreground(image: np.ndarray) -> np.ndarray:
    return np.abs(image.astype(int) - background_of(image)).max(-1) > 30


def quarters(image: np.ndarray) -> dict[str, tuple[slice, slice]]:
    """The quarters of the image in which there is something."""
    half = PIXELS // 2
    found = {}
    for place in scenes.PLACES:
        rows = slice(0, half) if "top" in place else slice(half, PIXELS)
        columns = slice(0, half) if "left" in place else slice(half, PIXELS)
        if foreground(image)[rows, columns].sum() >= 8:
            found[place] = (rows, columns)
    return found


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def shape_of(mask: np.ndarray) -> str:
    """The shape, told by how a mask fills its box: its four quarters, its middle and its corners."""
    left, top, right, bottom = extent(mask)
    part = mask[top:bottom, left:right]
    height, width = part.shape
    if not part[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1].any():
        return "ring"
    upper, lower = part[: height // 3].mean(), part[-(height // 3) :].mean()
    if lower - upper > 0.3:
        return "triangle"
    fill = part.mean()
    if fill > 0.92:
        return "square"
    if fill > 0.67:
        return "circle"
    # Half way between the middle of a side and the corner a cross is empty, a diamond's edge is reached.
    diagonal = part[round(height * 0.3), round(width * 0.3)] or part[round(height * 0.7), round(width * 0.3)]
    return "diamond" if diagonal else "cross"


def test_everything_is_read_back_from_the_pixels(samples: list[Any]) -> None:
    for sample in samples:
        image = sample["image"]
        assert nearest(background_of(image), scenes.BACKGROUNDS) == names("background")[sample["background"]]
        found = quarters(image)
        assert names("count")[sample["count"]] == ("none", "one", "two", "three", "four")[len(found)]
        seen = {}
        for place, window in found.items():
            mask = np.zeros((PIXELS, PIXELS), dtype=bool)
            mask[window] = foreground(image)[window]
            inside = mask & (np.abs(image.astype(int) - np.median(image[mask], axis=0)).max(-1) < 20)
            seen[place] = nearest(np.median(image[inside], axis=0), scenes.COLORS)
        main = names("place")[sample["place"]]
        color = seen[main]
        assert color == names("color")[sample["color"]]
        things = [names("things")[number] for number in sample["things"]]
        assert sorted(thing.split()[0] for thing in things) == sorted(seen.values())
        assert things[0] == names("label")[sample["label"]] == f"{color} {names('shape')[sample['shape']]}"


def test_places_sizes_and_relations_of_all_things_are_read_back_from_the_pixels(samples: list[Any]) -> None:
    for sample in samples:
        found = quarters(sample["image"])
        places = [names("places")[number] for number in sample["places"]]
        assert sorted(places) == sorted(found)
        assert places[0] == names("place")[sample["place"]]
        half = PIXELS // 2
        centers = []
        for place, thing, size in zip(places, sample["things"], sample["scales"], strict=True):
            mask = np.zeros((PIXELS, PIXELS), dtype=bool)
            mask[found[place]] = foreground(sample["image"])[found[place]]
            left, top, right, bottom = extent(mask)
            centers.append(((left + right) / 2, (top + bottom) / 2))
            reach = drawing.EXTENTS[names("things")[thing].split()[1]]
            radius = (right - left) / (reach[0] + reach[2]) / PIXELS
            told = min(scenes.SIZES, key=lambda name, radius=radius: abs(scenes.SIZES[name] - radius))
            assert told == names("scales")[size]
        assert sample["relations"][0] is None
        (x, y), *others = centers
        for (right, down), number in zip(others, sample["relations"][1:], strict=True):
            vertical = "" if (y < half) == (down < half) else "above" if y < down else "below"
            horizontal = "" if (x < half) == (right < half) else "left of" if x < right else "right of"
            assert names("relations")[number] == " and ".join(word for word in (vertical, horizontal) if word)


PILES = Shapes(size=150, pixels=96, objects=(2, 4), overlap=True)


def test_who_is_in_front_is_read_back_from_what_is_hidden() -> None:
    reader, types = PILES.open(), PILES.fields()
    seen = set()
    for index in range(len(reader)):
        sample, scene = reader[index], PILES.scene(PILES.generator(index))
        image = sample["image"].astype(int)
        whole = [drawing.mask(thing, 96) for thing in scene.things]
        main, rgb = whole[0], np.median(image[sample["masks"][0]], axis=0)
        for number, other in enumerate(whole[1:], start=1):
            rest = [one for place, one in enumerate(whole) if place not in (0, number)]
            both = main & other & ~np.any([np.zeros_like(main), *rest], axis=0)
            assert both.sum() >= 8
            shown = np.median(image[both], axis=0)
            mine = np.abs(shown - rgb).max() < np.abs(shown - np.median(image[other & ~main], axis=0)).max()
            told = "in front of" if mine else "behind"
            assert types["relations"].names[sample["relations"][number]] == told
            assert types["depths"].names[sample["depths"][number]] == {"in front of": "back", "behind": "front"}[told]
            thing = scene.things[number]
            assert f"{told} {captions.with_article(thing.words())}" in sample["caption"]
            seen.add(told)
        assert types["depths"].names[sample["depths"][0]] == "middle"
        assert types["place"].names[sample["place"]] == "center"
    assert seen == {"in front of", "behind"}


def told(caption: str) -> tuple[str, Counter[tuple[str, str]]]:
    """What a caption claims: the main thing, and each other with where the main one stands to it (or its own place)."""
    text = re.sub(r"^(an image of |there is |we see )", "", caption)
    text = re.sub(r" on an? (black|gray|brown|navy) background$", "", text)
    things = list(re.finditer(r"\ban? ((?:small|medium|large) \w+ \w+)", text))
    claims: Counter[tuple[str, str]] = Counter()
    for before, thing in pairwise(things):
        words = text[before.end() : thing.start()].strip(" ,").removeprefix("and ").removeprefix("to the ")
        claims[words.replace("over", "above").replace("under", "below"), thing[1]] += 1
    if len(things) == 1:
        claims[text[things[0].end() :].strip().removeprefix("in the ").removeprefix("at the "), ""] += 1
    return things[0][1], claims


@pytest.mark.parametrize("source", [SOURCE, PILES], ids=["apart", "piles"])
def test_captions_are_true_and_hard_captions_are_not(source: Shapes) -> None:
    reader, types = source.open(), source.fields()
    for index in range(len(reader)):
        sample = reader[index]
        scales = [types["scales"].names[number] for number in sample["scales"]]
        words = [f"{s} {types['things'].names[n]}" for s, n in zip(scales, sample["things"], strict=True)]
        truth = Counter(
            (types["relations"].names[number], other)
            for number, other in zip(sample["relations"][1:], words[1:], strict=True)
        ) or Counter([(types["place"].names[sample["place"]], "")])
        assert told(sample["caption"]) == (words[0], truth)
        for hard in sample["hard_captions"]:
            assert told(hard) != (words[0], truth)


def test_depth_maps_and_visible_masks_say_what_each_pixel_shows() -> None:
    reader, types = PILES.open(), PILES.fields()
    for index in range(len(reader)):
        sample = reader[index]
        image = sample["image"].astype(int)
        drawn = np.any(sample["masks"], axis=0)
        assert (np.sum(sample["masks"], axis=0) <= 1).all()
        assert (sample["depth"][~drawn] == len(scenes.LAYERS)).all()
        # Mixed colors at an edge may come near the background's.
        away = np.abs(image - background_of(image)).max(-1)
        assert (away[sample["depth"] < 3] > 20).mean() > 0.95
        for mask, layer, thing, box in zip(
            sample["masks"], sample["depths"], sample["things"], sample["boxes"], strict=True
        ):
            assert (sample["depth"][mask] == layer).all()
            inner = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
            color = types["things"].names[thing].split()[0]
            assert nearest(np.median(image[inner if inner.any() else mask], axis=0), scenes.COLORS) == color
            left, top, right, bottom = extent(mask)
            assert left >= box[0] - 1.5
            assert top >= box[1] - 1.5
            assert right <= box[2] + 1.5
            assert bottom <= box[3] + 1.5


def test_hard_captions_and_pairs_of_piles_change_who_is_in_front() -> None:
    reader = PILES.open()
    for index in range(len(reader)):
        sample, scene = reader[index], PILES.scene(PILES.generator(index))
        attribute, thing, order, number = sample["hard_captions"]
        assert len({sample["caption"], *sample["hard_captions"]}) == 5
        for text, vocabulary in ((attribute, scenes.COLORS), (thing, scenes.SHAPES)):
            words = zip(sample["caption"].replace(",", "").split(), text.replace(",", "").split(), strict=True)
            assert all({old, new} <= {*vocabulary, "a", "an"} for old, new in words if old != new)
        before, after = (text.count("behind") for text in (sample["caption"], order))
        assert abs(before - after) == 1
        for change in scenes.CHANGES:
            pair = PILES.altered(scene, change)
            assert not np.array_equal(drawing.render(pair, 96), sample["image"])
            for other in pair.things[1:]:
                covered = drawing.mask(pair.things[0], 96) & drawing.mask(other, 96)
                assert covered.sum() >= 0.15 * drawing.mask(other, 96).sum()
        assert number.count(scene.things[-1].words()) != sample["caption"].count(scene.things[-1].words())


def test_shapes_and_sizes_are_told_by_a_simple_rule() -> None:
    source = Shapes(size=300, pixels=160, objects=(1, 1))
    reader = source.open()
    wrong = 0
    for index in range(len(reader)):
        sample = reader[index]
        mask = foreground(sample["image"])
        wrong += shape_of(mask) != source.fields()["shape"].names[sample["shape"]]
        left, _, right, _ = extent(mask)
        reach = drawing.EXTENTS[source.fields()["shape"].names[sample["shape"]]]
        radius = (right - left) / (reach[0] + reach[2]) / 160
        name = min(scenes.SIZES, key=lambda size, radius=radius: abs(scenes.SIZES[size] - radius))
        assert name == source.fields()["scale"].names[sample["scale"]]
    assert wrong == 0


def test_boxes_and_masks_bound_what_is_drawn(samples: list[Any]) -> None:
    for sample in samples:
        drawn = np.zeros((PIXELS, PIXELS), dtype=bool)
        for box, mask in zip(sample["boxes"], sample["masks"], strict=True):
            # The tip of a triangle covers less than half of its last pixel.
            assert np.allclose(extent(mask), box, atol=1.5)
            assert not (drawn & mask).any()
            drawn |= mask
        seen = np.abs(sample["image"].astype(int) - background_of(sample["image"])).max(-1)
        assert (seen[~drawn] < 140).all()
        assert (seen[drawn] > 20).all()
        if len(sample["masks"]) > 1:
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in sample["boxes"]]
            assert int(np.argmax(areas)) == 0


def test_captions_begin_with_the_main_thing_and_differ(samples: list[Any]) -> None:
    for index, sample in enumerate(samples):
        caption, scene = sample["caption"], SOURCE.scene(SOURCE.generator(index))
        position = caption.index(scene.things[0].words())
        assert all(position <= caption.index(thing.words()) for thing in scene.things)
    assert len({sample["caption"] for sample in samples}) > 0.95 * len(samples)


def test_classes_make_prompts_with_the_words_of_the_captions(samples: list[Any]) -> None:
    for sample in samples:
        assert names("label")[sample["label"]] in sample["caption"]


def test_every_value_of_every_factor_occurs(samples: list[Any]) -> None:
    for field in ("shape", "color", "scale", "place", "background"):
        assert {sample[field] for sample in samples} == set(range(len(names(field))))
    assert {sample["count"] for sample in samples} == {1, 2, 3, 4}


def test_a_sample_depends_on_seed_split_and_number_alone() -> None:
    longer = Shapes(size=10**9, pixels=PIXELS).open()
    for index in (0, 17, 299):
        assert np.array_equal(longer[index]["image"], SOURCE.open()[index]["image"])
        assert longer.id(index) == SOURCE.open().id(index)
    for other in (Shapes(pixels=PIXELS, split="test"), Shapes(pixels=PIXELS, seed=1)):
        assert not np.array_equal(other.open()[0]["image"], longer[0]["image"])
        assert other.open().id(0) != longer.id(0)


def test_splits_share_no_image() -> None:
    images = [
        {reader.read(index, ("image",))["image"].tobytes() for index in range(400)}
        for reader in (Shapes(size=400, split=split).open() for split in ("train", "test"))
    ]
    assert not images[0] & images[1]
    assert len(images[0]) == 400


def test_only_what_is_wanted_is_drawn() -> None:
    assert not {"image", "masks"} & set(SOURCE.open().read(0, ("caption",)))


@pytest.mark.parametrize(
    "fields", [{"objects": (0, 2)}, {"objects": (3, 2)}, {"objects": 5}, {"colors": []}, {"shapes": ["ring", "ring"]},
               {"pixels": 4}, {"split": ""}, {"shapes": ["blob"]}, {"overlap": True}]
)  # fmt: skip
def test_impossible_scenes_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shapes.model_validate(fields)


def test_a_smaller_world_has_fewer_classes() -> None:
    source = Shapes.model_validate({"objects": 1, "colors": ["red", "blue"], "shapes": ["circle", "square", "ring"]})
    assert source.classes() == ("red circle", "red square", "red ring", "blue circle", "blue square", "blue ring")
    assert {source.open()[index]["label"] for index in range(100)} == set(range(6))


def test_hard_captions_are_wrong_in_one_way_each(samples: list[Any]) -> None:
    for sample in samples:
        words = sample["caption"].replace(",", "").split()
        attribute, thing, order, number = (caption.replace(",", "").split() for caption in sample["hard_captions"])
        assert sample["caption"] not in sample["hard_captions"]
        assert len(set(sample["hard_captions"])) == 4
        for changed, vocabulary in ((attribute, scenes.COLORS), (thing, scenes.SHAPES)):
            assert len(changed) == len(words)
            different = [(old, new) for old, new in zip(words, changed, strict=True) if old != new]
            assert 1 <= len(different) <= 2 + 2
            for old, new in different:
                assert {old, new} <= {*vocabulary, "a", "an"}
        nouns = {*scenes.COLORS, *scenes.SHAPES, *scenes.SIZES}
        assert [word for word in order if word in nouns] == [word for word in words if word in nouns]
        said = [word for word in words if word in scenes.SHAPES]
        told = [word for word in number if word in scenes.SHAPES]
        assert told == (said[:-1] if len(said) == 4 else [*said, said[-1]])


def test_a_minimal_pair_differs_in_what_it_says(samples: list[Any]) -> None:
    for index, sample in enumerate(samples):
        scene = SOURCE.scene(SOURCE.generator(index))
        change = scenes.CHANGES[sample["pair_change"]]
        pair = SOURCE.altered(scene, change)
        assert sample["pair_caption"] == captions.caption(pair) in sample["hard_captions"]
        assert np.array_equal(sample["pair_image"], drawing.render(pair, PIXELS))
        assert not np.array_equal(sample["pair_image"], sample["image"])
        if change == "number":
            assert abs(len(quarters(sample["pair_image"])) - len(quarters(sample["image"]))) == 1
            continue
        factor = {"attribute": "color", "object": "shape", "order": "place"}[change]
        for one, other in zip(scene.things, pair.things, strict=True):
            for name in {"color", "shape", "place", "size"} - {factor}:
                assert getattr(one, name) == getattr(other, name)
        assert getattr(scene.things[0], factor) != getattr(pair.things[0], factor)
    assert {sample["pair_change"] for sample in samples} == {0, 1, 2, 3}
