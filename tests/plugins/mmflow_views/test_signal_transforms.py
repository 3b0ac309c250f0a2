"""Transforms along time, spectrograms and masks over patches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmflow_sources.samplers import Shuffle
from mmflow_views.signals import AddNoise, CropTime, Gain, LogMel, MaskTime, PatchMask, SampleFrames
from mmflow_worlds.motions import Motions
from mmflow_worlds.signals import Sounds

from mmflow.data import ColumnRequest, Loader, column_type
from mmflow.plugin import Transform
from mmflow.plugin.kinds import View
from mmflow.spec.target import Target


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
    drawn = SampleFrames(count=count).apply(clip, generator(seed))
    low, high = np.arange(count) * length // count, -(-(np.arange(count) + 1) * length // count)
    assert ((drawn >= low) & (drawn <= high)).all()
    assert (np.diff(drawn) >= 0).all()
    dense = SampleFrames(count=count, how="dense", stride=2).apply(clip, generator(seed))
    if length >= 2 * count:
        assert (np.diff(dense) == 2).all()
    middle = np.minimum(((np.arange(count) + 0.5) * length / count).astype(int), length - 1)
    np.testing.assert_array_equal(SampleFrames(count=count).apply(clip, None), middle)


def test_all_of_a_joint_view_follow_one_draw() -> None:
    source = Motions(size=6, frames=12)
    views = {"clip": View.model_validate({"of": ["video", "boxes"], "apply": [{"use": "sample_frames", "count": 4}]})}
    requests = [
        ColumnRequest("clip", Target("views", "clip")), ColumnRequest("boxes", Target("views", "clip", output="boxes"))
    ]  # fmt: skip
    loader = Loader(source, views, requests, sampler=Shuffle(), batch_size=6, seed=0)
    (batch,) = loader.epoch(0)
    clip, boxes = batch.columns["clip"].values, batch.columns["boxes"].values
    assert clip.shape == (6, 4, 3, 32, 32)
    assert column_type(requests[0].target, source.fields(), views).groups == (4,)
    for video, track in zip(clip, boxes, strict=True):
        for frame, (left, top, right, bottom) in zip(video, track.tolist(), strict=True):
            seen = (frame - frame[:, :1, :1]).abs().amax(0) > 0.15
            rows, columns = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
            extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.allclose(extent, [left, top, right, bottom], atol=2.1)


def test_loudness_noise_and_masks() -> None:
    sound = np.sin(np.arange(2000, dtype=np.float32))
    for transform in (Gain(), AddNoise(), MaskTime()):
        np.testing.assert_array_equal(transform.apply(sound, None), sound)
        np.testing.assert_array_equal(transform.apply(sound, generator(1)), transform.apply(sound, generator(1)))
    louder = Gain(low=6.0206, high=6.0206).apply(sound, generator())
    np.testing.assert_allclose(louder, 2 * sound, rtol=1e-4)
    noise = AddNoise(std=0.3).apply(np.zeros(20000, np.float32), generator())
    assert noise.std() == pytest.approx(0.3, rel=0.03)
    assert noise.dtype == np.float32
    masked = MaskTime(count=3, longest=0.1).apply(np.ones((1000, 2), np.float32), generator(2))
    assert 0 < (masked == 0).mean() <= 0.3
    assert (masked[:, 0] == masked[:, 1]).all()


def test_a_tone_stands_in_its_mel_band() -> None:
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
    picture = np.zeros((rows * 4, columns * 4, 3), np.uint8)
    transform = PatchMask(patch=4, ratio=ratio, block=block)
    same, facts = transform.apply(picture, generator(seed))
    assert same is picture
    assert facts["mask"].shape == (rows, columns)
    assert facts["mask"].sum() == round(ratio * rows * columns)
    assert not transform.apply(picture, None)[1]["mask"].any()


def test_what_does_not_fit_is_said() -> None:
    cases: list[tuple[Transform, object, str]] = [
        (PatchMask(patch=5), np.zeros((8, 8, 3), np.uint8), "cannot be cut"), (LogMel(), np.zeros((3, 2)), "a sound"),
        (CropTime(length=3), "text", "crop_time needs arrays"),
        (CropTime(length=3), {"a": np.zeros(4), "b": np.zeros(5)}, r"\[4, 5\]"),
    ]  # fmt: skip
    for transform, value, words in cases:
        with pytest.raises(ValueError, match=words):
            transform.apply(value, generator())
