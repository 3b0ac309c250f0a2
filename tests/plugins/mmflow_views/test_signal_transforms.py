"""Transforms along time, spectrograms and masks over patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmflow_samplers.shuffle import Shuffle
from mmflow_synthetic.motions import Motions
from mmflow_synthetic.sounds import Sounds
from mmflow_views.images.patch_mask import PatchMask
from mmflow_views.texts.mask_tokens import MaskTokens
from mmflow_views.time.crop_time import CropTime
from mmflow_views.time.log_mel import LogMel
from mmflow_views.time.loudness import AddNoise, Gain
from mmflow_views.time.permute_time import PermuteTime
from mmflow_views.time.reverse_time import ReverseTime
from mmflow_views.time.sample_frames import SampleFrames
from mmflow_views.time.shift_time import ShiftTime
from mmflow_views.time.span_masks import MaskBands, MaskTime
from mmflow_views.time.warp_time import WarpTime

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import TensorType, Transform
from mmflow.plugin.kinds import View
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target
from mmflow.spec.references.views import ViewTypes


def changed(transform: Transform, value: Any, draw: np.random.Generator | None) -> Any:
    """The changed value, without the facts about the change."""
    result = transform.apply(value, draw)
    return result[0] if isinstance(result, tuple) else result


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(1, 50), st.integers(1, 50), st.one_of(st.none(), st.integers(0, 99)))
def test_a_crop_in_time_is_where_it_says(length: int, wanted: int, seed: int | None) -> None:
    values = np.arange(1, length + 1, dtype=np.float32)
    part, facts = CropTime(length=wanted).apply(values, None if seed is None else generator(seed))
    assert len(part) == wanted
    start, end = (round(float(share) * length) for share in facts["span"])
    np.testing.assert_array_equal(part[: end - start], values[start:end])
    assert end - start == min(length, wanted)
    assert not part[end - start :].any()
    if seed is None:
        assert start == max(0, length - wanted) // 2


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_frames_come_from_their_segments(length: int, count: int, seed: int) -> None:
    clip = np.arange(length)
    drawn, facts = SampleFrames(count=count).apply(clip, generator(seed))
    np.testing.assert_array_equal(facts["frames"], drawn)
    low, high = np.arange(count) * length // count, -(-(np.arange(count) + 1) * length // count)
    assert ((drawn >= low) & (drawn <= high)).all()
    assert (np.diff(drawn) >= 0).all()
    dense = changed(SampleFrames(count=count, how="dense", stride=2), clip, generator(seed))
    if length >= 2 * count:
        assert (np.diff(dense) == 2).all()
    middle = np.minimum(((np.arange(count) + 0.5) * length / count).astype(int), length - 1)
    np.testing.assert_array_equal(changed(SampleFrames(count=count), clip, None), middle)


def test_all_fields_of_a_joint_view_share_one_draw() -> None:
    source = Motions(size=6, frames=12)
    views = {"clip": View.model_validate({"of": ["video", "boxes"], "apply": [{"use": "sample_frames", "count": 4}]})}
    requests = [
        ColumnRequest("clip", Target("views", "clip")), ColumnRequest("boxes", Target("views", "clip", output="boxes"))
    ]  # fmt: skip
    loader = Loader(source, views, requests, sampler=Shuffle(), batch_size=6, seed=0)
    (batch,) = loader.epoch(0)
    clip, boxes = batch.columns["clip"].values, batch.columns["boxes"].values
    assert clip.shape == (6, 4, 3, 32, 32)
    assert ViewTypes(views, source.fields()).column(requests[0].target).groups == (4,)
    for video, track in zip(clip, boxes, strict=True):
        for frame, (left, top, right, bottom) in zip(video, track.tolist(), strict=True):
            seen = (frame - frame[:, :1, :1]).abs().amax(0) > 0.15
            rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
            extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.allclose(extent, [left, top, right, bottom], atol=2.1)


@pytest.mark.parametrize(
    "transform",
    [
        Gain(),
        AddNoise(),
        MaskTime(),
        MaskTime(fill="mean"),
        ShiftTime(),
        WarpTime(),
        PermuteTime(parts=9),
        ReverseTime(p=0.9),
    ],
    ids=lambda transform: transform.use,
)
def test_nothing_changes_in_evaluation_and_each_draw_differs(transform: Transform) -> None:
    sound = np.sin(np.arange(2000, dtype=np.float32))
    np.testing.assert_array_equal(changed(transform, sound, None), sound)
    np.testing.assert_equal(transform.apply(sound, generator(1)), transform.apply(sound, generator(1)))
    found = changed(transform, sound, generator(1))
    assert (found.shape, found.dtype) == (sound.shape, sound.dtype)
    assert not np.array_equal(found, sound)
    assert isinstance(transform, registry().get("transform", transform.use))


def test_loudness_and_noise() -> None:
    sound = np.sin(np.arange(2000, dtype=np.float32))
    louder, facts = Gain(low=6.0206, high=6.0206).apply(sound, generator())
    np.testing.assert_allclose(louder, 2 * sound, rtol=1e-4)
    assert facts["gain"] == pytest.approx(6.0206)
    noise = AddNoise(std=0.3).apply(np.zeros(20000, np.float32), generator())
    assert noise.std() == pytest.approx(0.3, rel=0.03)
    assert noise.dtype == np.float32


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 4), st.floats(0.01, 1), st.integers(0, 99))
def test_hidden_spans_are_where_it_says(length: int, bands: int, count: int, longest: float, seed: int) -> None:
    values = np.random.default_rng(5).uniform(1, 2, (length, bands)).astype(np.float32)
    for transform, axis in ((MaskTime(count=count, longest=longest), 0), (MaskBands(count=count, longest=longest), 1)):
        found, facts = transform.apply(values, generator(seed))
        size = values.shape[axis]
        hidden = np.zeros(size, dtype=bool)
        for start, end in np.round(facts["hidden"] * size).astype(int):
            assert 1 <= end - start <= max(1, round(longest * size))
            hidden[start:end] = True
        zero = (found == 0).all(1 - axis)
        np.testing.assert_array_equal(zero, hidden)
        np.testing.assert_array_equal(found.compress(~hidden, axis), values.compress(~hidden, axis))
        assert transform.added()["hidden"].size == facts["hidden"].shape == (count, 2)
        np.testing.assert_array_equal(transform.apply(values, None)[0], values)
    filled, facts = MaskTime(count=1, longest=0.5, fill="mean").apply(values, generator(seed))
    start, end = np.round(facts["hidden"][0] * length).astype(int)
    if length > 1:
        rest = np.delete(values, slice(start, end), 0)
        np.testing.assert_allclose(filled[start:end], rest.mean() if len(rest) else 0, rtol=1e-5)


@given(st.integers(2, 40), st.floats(0, 1), st.integers(0, 99))
def test_shifted_shuffled_and_reversed_series_can_be_put_back(length: int, most: float, seed: int) -> None:
    values = np.arange(length * 2, dtype=np.float32).reshape(length, 2)
    moved, facts = ShiftTime(most=most).apply(values, generator(seed))
    shift = round(facts["shift"] * length)
    assert abs(shift) <= most * length
    np.testing.assert_array_equal(np.roll(moved, -shift, 0), values)
    shuffled, facts = PermuteTime(parts=3).apply(values, generator(seed))
    parts = np.array_split(values, 3)
    np.testing.assert_array_equal(shuffled, np.concatenate([parts[n] for n in facts["order"]]))
    backwards, facts = ReverseTime().apply(values, generator(seed))
    np.testing.assert_array_equal(backwards, values[::-1] if facts["reversed"] else values)


@given(st.integers(2, 80), st.integers(1, 6), st.floats(0, 3), st.integers(0, 99))
def test_a_warped_series_is_read_along_the_stated_map(length: int, knots: int, most: float, seed: int) -> None:
    steps = np.arange(length, dtype=np.float64)
    transform = WarpTime(knots=knots, most=most)
    warped, facts = transform.apply(steps, generator(seed))
    map_ = np.concatenate([[0], facts["warp"], [1]])
    assert (np.diff(map_) > 0).all()
    assert (np.diff(map_) <= (1 + most) ** 2 / (knots + 1) + 1e-6).all()
    expected = np.interp(np.linspace(0, 1, length), np.linspace(0, 1, knots + 2), map_) * (length - 1)
    np.testing.assert_allclose(warped, expected, atol=1e-4 * length)
    assert transform.added()["warp"].size == facts["warp"].shape


@given(
    st.lists(st.integers(0, 20), min_size=0, max_size=60), st.floats(0, 1), st.one_of(st.none(), st.floats(1, 5)),
    st.integers(0, 99),
)  # fmt: skip
def test_hidden_ids_are_the_targets(ids: list[int], p: float, spans: float | None, seed: int) -> None:
    transform = MaskTokens(mask=3, vocabulary=21, first=4, p=p, spans=spans)
    found, facts = transform.apply(ids, generator(seed))
    targets = facts["targets"]
    allowed = sum(id >= 4 for id in ids)
    assert sum(target >= 0 for target in targets) == round(p * allowed)
    for before, after, target in zip(ids, found, targets, strict=True):
        assert target in (-1, before)
        assert after == before if target < 0 else before >= 4 and (after == 3 or 4 <= after < 21)
    assert transform.apply(ids, None) == (ids, {"targets": [-1] * len(ids)})


def test_most_hidden_ids_become_the_mask() -> None:
    found, facts = MaskTokens(mask=1, vocabulary=1000, first=2, p=0.5).apply([7] * 20000, generator())
    hidden = np.array(facts["targets"]) == 7
    after = np.array(found)[hidden]
    assert hidden.sum() == 10000
    assert (after == 1).mean() == pytest.approx(0.8, abs=0.02)
    assert (after == 7).mean() == pytest.approx(0.1, abs=0.02)


def test_a_tone_lies_in_its_mel_band() -> None:
    transform = LogMel(rate=8000, mels=40, window=256, hop=128)
    for hertz in (300, 1000, 2500):
        sound = np.sin(2 * np.pi * hertz * np.arange(8000) / 8000).astype(np.float32)
        bands = transform.apply(sound, None)
        assert bands.shape == (1 + (8000 - 256) // 128, 40)
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42) / 2595) - 1)
        expected = int(np.abs(edges[1:-1] - hertz).argmin())
        assert abs(int(bands[10].argmax()) - expected) <= 1
    declared = transform.result(Sounds().fields()["audio"])
    assert (declared.modality, declared.size) == ("series", bands.shape)
    frames = sound[128 : 128 + 256] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256))
    power = np.array([abs((frames * np.exp(-2j * np.pi * k * np.arange(256) / 256)).sum()) ** 2 for k in range(129)])
    np.testing.assert_allclose(bands[1], np.log(transform.filters() @ power + 1e-6), rtol=1e-3, atol=1e-3)
    assert transform.apply(np.zeros(10, np.float32), None).shape == (1, 40)


@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 1), st.integers(1, 3), st.integers(0, 50))
def test_so_many_patches_are_hidden(rows: int, columns: int, ratio: float, block: int, seed: int) -> None:
    image = np.zeros((rows * 4, columns * 4, 3), np.uint8)
    transform = PatchMask(patch=4, ratio=ratio, block=block)
    same, facts = transform.apply(image, generator(seed))
    assert same is image
    assert facts["mask"].shape == (rows, columns)
    assert facts["mask"].sum() == round(ratio * rows * columns)
    assert not transform.apply(image, None)[1]["mask"].any()
    clip = np.stack([image] * 3)
    np.testing.assert_array_equal(transform.apply(clip, generator(seed))[1]["mask"], facts["mask"])


def test_values_that_do_not_fit_are_named() -> None:
    cases: list[tuple[Transform, object, str]] = [
        (PatchMask(patch=5), np.zeros((8, 8, 3), np.uint8), "cannot be cut"), (LogMel(), np.zeros((3, 2)), "a sound"),
        (CropTime(length=3), "text", "crop_time needs arrays"), (MaskBands(), np.zeros(3), "a series"),
        (MaskTokens(mask=0, vocabulary=3), np.zeros(3), "a sequence of ids"),
        (CropTime(length=3), {"a": np.zeros(4), "b": np.zeros(5)}, r"\[4, 5\]"),
    ]  # fmt: skip
    for transform, value, words in cases:
        with pytest.raises(ValueError, match=words):
            transform.apply(value, generator())


def test_lengths_of_timed_fields_are_declared() -> None:
    crop = CropTime(length=7)
    assert crop.result(TensorType("audio", size=(20,))).size == (7,)
    assert crop.result(TensorType("label")).size == ()
    clip = TensorType("video", ("sample", "frame"), (8, 8, 3), groups=(12,))
    assert SampleFrames(count=4).result(clip).groups == (4,)
    assert PatchMask(patch=4).added(clip)["mask"].size == (2, 2)
