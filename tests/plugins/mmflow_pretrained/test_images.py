"""Image and audio transforms of other libraries give those libraries' own tensors of the same value."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmflow_open_clip.image import OpenClipImage
from mmflow_samplers.shuffle import Shuffle
from mmflow_synthetic.shapes import Shapes
from mmflow_timm.image import TimmImage
from mmflow_transformers.audio import HfAudio
from mmflow_transformers.image import HfImage
from PIL import Image

from mmflow.data import ColumnRequest, Loader
from mmflow.plugin import ComponentError, TensorType
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_text

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")


def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, size, dtype=np.uint8) for size in ((50, 70, 3), (31, 31, 3), (64, 40, 1))]
    return [*noise, Shapes(size=1, pixels=48).open()[0]["image"]]


def pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 24, "width": 24})
    processor.save_pretrained(folder)
    return folder


def test_images_as_transformers_makes_them(hf: Path, tmp_path: Path) -> None:
    theirs = transformers.AutoImageProcessor.from_pretrained(hf)
    ours = HfImage(hub=str(hf))
    for image in images():
        expected = theirs(pil(image), return_tensors="pt")["pixel_values"][0].numpy()
        for generator in (None, np.random.default_rng(0)):
            found = ours.apply(image, generator)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)
    assert ours.result(TensorType("image", size=(48, 48, 3), dtype="uint8")).size == (24, 24, 3)
    transformers.ViTImageProcessor(size={"height": 20, "width": 30}).save_pretrained(tmp_path)
    assert HfImage(hub=str(tmp_path)).apply(images()[0], None).shape == (3, 20, 30)
    assert HfImage(hub=str(tmp_path)).size() == (20, 30)


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timm")
    model = timm.create_model("test_vit", pretrained=False)
    model.pretrained_cfg["input_size"], model.pretrained_cfg["mean"] = (3, 40, 40), (0.1, 0.2, 0.3)
    timm.models.save_for_hf(model, folder)
    return folder


def seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def test_images_as_timm_makes_them(timm_folder: Path) -> None:
    named = timm.data.resolve_model_data_config(timm.create_model("vit_tiny_patch16_224", pretrained=False))
    stored = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{timm_folder}", pretrained=False))
    assert stored["input_size"] == (3, 40, 40)
    options = {"auto_augment": "rand-m9-mstd0.5", "re_prob": 0.5}
    for hub, config in (("vit_tiny_patch16_224", named), (str(timm_folder), stored)):
        evaluating = timm.data.create_transform(**config)
        training = timm.data.create_transform(**config, is_training=True, **options)
        ours = TimmImage(hub=hub, augment=True, options=options)
        for number, image in enumerate(images()):
            np.testing.assert_array_equal(ours.apply(image, None), evaluating(pil(image)).numpy())
            found = ours.apply(image, np.random.default_rng(number))
            seeded(int(np.random.default_rng(number).integers(2**32)))
            np.testing.assert_array_equal(found, training(pil(image)).numpy())
            plain = TimmImage(hub=hub).apply(image, np.random.default_rng(number))
            np.testing.assert_array_equal(plain, ours.apply(image, None))
        assert ours.size() == config["input_size"][1:]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {
        "model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear",
                           "resize_mode": "squash"},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_images_as_open_clip_makes_them(clip_folder: Path) -> None:
    options = {"scale": [0.4, 1.0]}
    _, training, evaluating = open_clip.create_model_and_transforms(
        f"local-dir:{clip_folder}", load_weights=False, aug_cfg=options
    )
    ours = OpenClipImage(hub=str(clip_folder), augment=True, options=options)
    for number, image in enumerate(images()):
        np.testing.assert_array_equal(ours.apply(image, None), evaluating(pil(image)).numpy())
        found = ours.apply(image, np.random.default_rng(number))
        seeded(int(np.random.default_rng(number).integers(2**32)))
        np.testing.assert_array_equal(found, training(pil(image)).numpy())
    assert ours.size() == (32, 32)
    by_name = OpenClipImage(hub="ViT-B-16", pretrained="laion400m_e31")
    config = open_clip.get_pretrained_cfg("ViT-B-16", "laion400m_e31")
    theirs = open_clip.image_transform(224, False, mean=config["mean"], std=config["std"], interpolation="bicubic")
    np.testing.assert_array_equal(by_name.apply(images()[0], None), theirs(pil(images()[0])).numpy())


def test_sounds_as_transformers_makes_them(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    wave = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=8000)
    wave.save_pretrained(tmp_path / "wave")
    ours = HfAudio(hub=str(tmp_path / "wave"), rate=8000)
    expected = wave(sound, sampling_rate=8000, return_tensors="np")["input_values"][0]
    np.testing.assert_array_equal(ours.apply(sound, None), expected)
    bands = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1)
    bands.save_pretrained(tmp_path / "bands")
    expected = bands(sound, sampling_rate=16000, return_tensors="np")["input_features"][0]
    np.testing.assert_array_equal(HfAudio(hub=str(tmp_path / "bands")).apply(sound, None), expected)
    assert ours.result(TensorType("audio", size=(3000,))).modality == "audio"
    with pytest.raises(ValueError, match="wants 8000 samples a second, `rate` is 16000"):
        HfAudio(hub=str(tmp_path / "wave")).result(TensorType("audio"))


def test_frames_share_one_draw_and_a_processed_image_passes_unchanged(clip_folder: Path) -> None:
    ours = OpenClipImage(hub=str(clip_folder), augment=True, options={"scale": (0.2, 0.5)})
    clip = np.stack([images()[0]] * 3)
    found = ours.apply(clip, np.random.default_rng(0))
    assert found.shape == (3, 3, 32, 32)
    assert (found == found[:1]).all()
    assert ours.apply([images()[0], None], None)[1] is None
    np.testing.assert_array_equal(ours.apply(found[0], np.random.default_rng(1)), found[0])
    raw = images()[0]
    np.testing.assert_array_equal(ours.apply(raw.astype(np.float32) / 255, None), ours.apply(raw, None))


def test_draws_have_addresses_and_leave_the_global_generators_alone(clip_folder: Path) -> None:
    made = {"use": "open_clip_image", "hub": str(clip_folder), "augment": True, "options": {"scale": [0.1, 0.9]}}
    views = {"two": View.model_validate({"of": "image", "copies": 2, "apply": ["flip", made]})}
    requests = [ColumnRequest("two", Target("views", "two"))]

    def read(workers: int) -> list[torch.Tensor]:
        source = Shapes(size=8, pixels=24)
        with Loader(source, views, requests, sampler=Shuffle(), batch_size=4, seed=1, workers=workers) as loader:
            values = [batch.columns["two"].values for batch in loader.epoch(0)]
            return [value for value in values if isinstance(value, torch.Tensor)]

    seeded(5)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    seeded(5)
    here = read(0)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    assert here[0].shape == (4, 2, 3, 32, 32)
    assert not torch.equal(here[0][:, 0], here[0][:, 1])
    assert all(torch.equal(a, b) for a, b in zip(here, read(1), strict=True))


SPEC = """
mmflow: 1
name: own
data: {{train: {{use: shapes, size: 8, pixels: 24}}}}
views: {{ready: {{of: image, apply: [{transform}]}}}}
encoders:
  image: {{use: vit, of: ready, size: 24, width: 16, depth: 1, heads: 2, mean: 0, std: 1}}
losses: {{align: {{use: infonce, of: [image, image]}}}}
train: {{data: train, epochs: 1, batch_size: 4}}
"""


@pytest.mark.parametrize(
    ("transform", "words"),
    [("{{use: hf_image, hub: {at}/no}}", "there is no folder"),
     ("{{use: hf_image, hub: {at}}}", "transformers finds no image processor"),
     ("{{use: timm_image, hub: vit_tiny_patch16_225}}", "timm has no model"),
     ("{{use: timm_image, hub: {at}}}", "holds none of config.json"),
     ("{{use: timm_image, hub: test_vit, augment: true, options: {{zoom: 2}}}}", "timm cannot make.*zoom"),
     ("{{use: open_clip_image, hub: ViT-B-23}}", "open_clip has no model"),
     ("{{use: open_clip_image, hub: ViT-B-16, pretrained: none}}", "no weights 'none'.*it has"),
     ("{{use: open_clip_image, hub: ViT-B-16, augment: true, options: {{zoom: 2}}}}", "open_clip cannot make.*zoom"),
     ("{{use: hf_audio, hub: {at}}}", r"needs a sound \[T\], got image")],
)  # fmt: skip
def test_missing_models_and_wrong_options_are_named_before_any_work(tmp_path: Path, transform: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        load_text(SPEC.format(transform=transform.format(at=tmp_path)))
    assert len(caught.value.problems) == 1


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [("transformers", "hf_image", "hf"), ("timm", "timm_image", "timm")]
    for package, use, extra in [*cases, ("open_clip", "open_clip_image", "open_clip")]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(SpecError, match=rf"not installed.*mmflow-kit\[{extra}\]") as caught:
                load_text(SPEC.format(transform=f"{{use: {use}, hub: any}}"))
            assert len(caught.value.problems) == 1


def test_an_encoder_takes_a_processed_image(hf: Path) -> None:
    scope = load_text(SPEC.format(transform=f"{{use: hf_image, hub: {hf}}}")).scope("train")
    encoder = scope.encoders["image"]
    ready = HfImage(hub=str(hf)).apply(images()[0], None)
    assert encoder.preprocess(0, ready, {}) is ready
    with pytest.raises(ComponentError, match="an image of shape"):
        encoder.preprocess(0, ready[:, :20], {})
