"""Names on the hub: the commit that they stand for is in the key, and no network is one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmflow_pretrained.hub import commit_of

from mmflow.flow.plan import build_plan
from mmflow.plugin import ComponentError
from mmflow.spec import load_text

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
data: {train: {use: shapes, size: 6, pixels: 24}}
encoders: {x: {use: timm, of: image, hub: "hf-hub:me/tiny"}}
losses: {l: {use: uniformity, of: x}}
train: {data: train, steps: 1}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache of the hub, without a network, whose branch main moves from one commit to another."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit_of.cache_clear()
    folder = tmp_path / "models--me--tiny"
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        torch.manual_seed(number)
        model = timm.create_model("test_resnet", num_classes=0)
        timm.models.save_for_hf(model, folder / "snapshots" / commit, safe_serialization=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    return folder


def test_weights_are_those_of_the_commit_that_the_key_names(
    cache: Path, library_encoder: Callable[..., object]
) -> None:
    from safetensors.torch import load_file

    def stored(commit: str) -> torch.Tensor:
        return load_file(cache / "snapshots" / (commit * 40) / "model.safetensors")["conv1.0.weight"].double()

    text = '{use: timm, of: image, hub: "hf-hub:me/tiny"}'
    assert library_encoder(text).module.state_dict()["conv1.0.weight"].equal(stored("a"))
    first = build_plan(load_text(SPEC))["train"].key
    (cache / "refs" / "main").write_text("b" * 40)
    commit_of.cache_clear()
    assert library_encoder(text).module.state_dict()["conv1.0.weight"].equal(stored("b"))
    assert build_plan(load_text(SPEC))["train"].key != first
    pinned = SPEC.replace('me/tiny"', f'me/tiny", revision: {"a" * 40}')
    assert (
        library_encoder(text.replace("}", f", revision: {'a' * 40}}}"))
        .module.state_dict()["conv1.0.weight"]
        .equal(stored("a"))
    )
    assert build_plan(load_text(pinned))["train"].key != first


def test_without_network_and_copy_it_is_one_line(cache: Path) -> None:
    shutil.rmtree(cache / "refs")
    with pytest.raises(ComponentError, match=r"the hub does not say what me/tiny is .*no copy of it here") as caught:
        build_plan(load_text(SPEC))
    assert "name a folder" in caught.value.hint
