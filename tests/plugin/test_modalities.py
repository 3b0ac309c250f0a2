"""The modalities of every installation: what they take, how they are shown, and that declarations name no others."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmflow.plugin import ComponentError, TensorType
from mmflow.plugin.modality import modality
from mmflow.plugin.registry import registry


def test_declarations_name_registered_modalities_only():
    known = set(registry().names("modality"))
    for found in registry().registrations():
        declared = registry().get(found.kind, f"{found.name}@{found.distribution}")
        if found.kind == "encoder":
            assert {name for names in getattr(declared, "accepts", ()) for name in names} <= known, found
        added = getattr(declared, "adds", {})
        if isinstance(added, Mapping):
            assert {type_.modality for type_ in added.values()} <= known, found


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ComponentError) as caught:
        modality("imge")
    assert "unknown modality 'imge'" in str(caught.value)
    assert caught.value.hint == "did you mean 'image'?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "cat.png"), ("image", np.zeros(3)), ("text", 3), ("label", "cat"), ("label", 1.5), ("number", "3"),
        ("audio", [0.1, 0.2]), ("video", np.zeros((2, 2, 2, 2, 2))), ("series", 1.0), ("labels", 3),
    ],
)  # fmt: skip
def test_another_form_is_refused_with_the_right_one(name: str, value: Any):
    form = modality(name)
    with pytest.raises(ValueError, match=rf"^{type(value).__name__}.*not "):
        form.check(value, TensorType(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", np.zeros((2, 3), np.uint8)), ("text", ""), ("label", np.int64(2)), ("number", np.float32(3)),
        ("number", 2), ("labels", [0, 2]), ("audio", np.zeros(5, np.float32)), ("boxes", np.zeros((0, 4))),
    ],
)  # fmt: skip
def test_the_right_form_passes(name: str, value: Any):
    modality(name).check(value, TensorType(name))


def test_an_image_is_shown_as_a_small_png():
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    shown = modality("image").show(pixels, TensorType("image"))
    assert shown.kind == "image"
    assert Image.open(io.BytesIO(base64.b64decode(str(shown.content).partition(",")[2]))).size == (64, 96)


@pytest.mark.parametrize(("rate", "low"), [(8000, 8000), (16000, 8000), (44100, 7350)])
def test_a_sound_is_played_where_its_rate_is_known(rate: int, low: int):
    samples = np.sin(np.arange(2 * rate) * (2 * np.pi * 50 / rate)).astype(np.float32)
    shown = modality("audio").show(samples, TensorType("audio", size=(None,), rate=rate))
    assert shown.kind == "audio"
    with wave.open(io.BytesIO(base64.b64decode(str(shown.content).partition(",")[2]))) as file:
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (low, 2 * low, 1)
        heard = np.frombuffer(file.readframes(2 * low), np.uint8).astype(np.float32) / 127 - 128 / 127
    expected = np.sin((np.arange(2 * low) + 0.5 * (rate // low - 1) * low / rate) * (2 * np.pi * 50 / low))
    assert np.abs(heard - expected).max() < 0.02
    assert modality("audio").show(samples, TensorType("audio")).kind == "line"


def test_labels_are_shown_by_the_names_of_their_classes():
    named = TensorType("label", names=("cat", "dog"))
    assert modality("label").show(1, named).content == "dog"
    assert modality("label").show(np.int64(7), named).content == "7"
    assert modality("labels").show([1, 0], named.with_(modality="labels")).content == "dog, cat"
    assert modality("labels").show(np.array([0.2, 0.5, 0.3]), TensorType("labels", size=(3,))).kind == "line"
    assert modality("text").show("x" * 500, TensorType("text")).content == "x" * 239 + "…"
    assert modality("vector").show(np.zeros((2, 2)), TensorType("vector")).content == "vector [2, 2]"
