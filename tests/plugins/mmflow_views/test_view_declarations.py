"""Every transform and tokenizer can be listed without anything heavy, and its example can be written as it stands."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from mmflow_encoders import mmflow_components as of_encoders
from mmflow_open_clip import mmflow_components as of_open_clip
from mmflow_timm import mmflow_components as of_timm
from mmflow_transformers import mmflow_components as of_transformers
from mmflow_views import mmflow_components as of_views

from mmflow.plugin import TensorType, Tokenizer, Transform
from mmflow.plugin.kinds import View
from mmflow.plugin.registry import registry

EVERY = [name.split("/") for name in (*of_views(), *of_encoders(), *of_transformers(), *of_timm(), *of_open_clip())]
NAMES = [(kind, name) for kind, name in EVERY if kind in ("transform", "tokenizer")]
HEAVY = ("torch", "numpy", "PIL", "torchvision", "transformers", "tokenizers", "timm", "open_clip")


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_examples_are_valid(kind: str, name: str) -> None:
    declared = registry().get(kind, name)
    assert declared.__doc__
    if not declared.example:
        # A transform without required fields is used by its name.
        assert declared.model_validate({}) == (Transform if kind == "transform" else Tokenizer).accept(name)
        return
    written = yaml.safe_load(declared.example)
    assert name in declared.example
    for view in written.get("views", {"": written} if "apply" in written else {}).values():
        View.model_validate({"of": "any", **view})
    if kind == "tokenizer":
        Tokenizer.accept(written["tokenizer"])
    elif "use" in written:
        Transform.accept(written)


@pytest.mark.parametrize(
    ("transform", "modality"),
    [
        ("drop_words", "image"), ("lower", "label"), ("flip", "text"), ("color_jitter", "series"),
        ("reverse_time", "image"), ({"use": "crop_time", "length": 4}, "text"), ({"use": "mask_time"}, "image"),
        ({"use": "sample_frames", "count": 2}, "image"), ("log_mel", "series"),
        ({"use": "one_of", "transforms": ["drop_words", "lower"]}, "image"),
    ],
)  # fmt: skip
def test_a_transform_refuses_fields_that_it_cannot_change(transform: object, modality: str) -> None:
    view = View.model_validate({"of": "any", "apply": [transform]})
    with pytest.raises(ValueError, match=rf"needs an? .*, got {modality}"):
        view.outputs(TensorType(modality, size=(8, 8, 3) if modality == "image" else ()))


def test_declarations_import_nothing_heavy() -> None:
    code = (
        "import importlib, sys\n"
        "for name in ('views', 'encoders', 'transformers', 'timm', 'open_clip'):\n"
        "    plugin = importlib.import_module(f'mmflow_{name}')\n"
        "    paths = [path.partition(':') for path in plugin.mmflow_components().values()]\n"
        "    [importlib.import_module(module) for module, colon, _ in paths if colon]\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
