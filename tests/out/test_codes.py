"""Vectors of new data in few bytes: what is written is what a search finds, and near what whole vectors give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mmflow
import mmflow.out.coding as coding
from mmflow.flow.run import RunOptions, run_spec
from mmflow.kernels import binary_codes
from mmflow.out.model import LoadedModel
from mmflow.out.vectors import read_vectors
from mmflow.plugin import ComponentError
from mmflow.spec import load_text

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: coded
data:
  train: {use: shapes, split: train, size: 60, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 32, depth: 1}
  text: {use: text_transformer, of: caption, width: 32, depth: 1, tokenizer: byte}
losses: {align: {use: infonce, of: [image, text]}}
train: {data: train, steps: 5, batch_size: 20, optimizer: {use: adamw, lr: 1e-3}}
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    store = str(tmp_path_factory.mktemp("store"))
    outcome = run_spec(load_text(SPEC), RunOptions(store=store, engine="local", device="cpu", workers=0))
    assert outcome.exit_code == 0, outcome.outcome.notes
    return mmflow.load("latest", store=store, device="cpu")


@pytest.mark.parametrize("name", ["v.parquet", "v.npz"])
@pytest.mark.parametrize("calibrated", [10, 10_000])
def test_codes_give_back_what_was_coded(
    loaded: LoadedModel, tmp_path: Path, name: str, calibrated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coding, "CALIBRATED", calibrated)
    files = {form: str(tmp_path / f"{form or 'whole'}-{name}") for form in ("", "int8", "binary")}
    for form, file in files.items():
        mmflow.embed(loaded, "train", file, normalize=True, codes=form or None, batch_size=16, fields=["caption"])
    whole, int8, binary = (read_vectors(file) for file in files.values())
    assert whole.ids == int8.ids == binary.ids
    assert whole.fields["caption"] == binary.fields["caption"]
    for encoder, vectors in whole.vectors.items():
        step = np.array(int8.about.get("codes", {})[encoder].get("step"), dtype=np.float32)
        rows = slice(0, 16) if calibrated == 10 else slice(None)
        assert (np.abs(int8.vectors[encoder] - vectors)[rows] <= 1.01 * step).all()
        assert (binary.vectors[encoder] == (vectors > 0)).all()
    if name.endswith("npz"):
        stored = np.load(files["binary"])["image"]
        assert stored.dtype == np.uint8
        assert (stored == binary_codes(torch.from_numpy(whole.vectors["image"])).numpy()).all()


def test_a_search_finds_the_same_among_int8_and_the_best_among_bits(loaded: LoadedModel, tmp_path: Path) -> None:
    query = "a large red circle"
    asked = torch.nn.functional.normalize(loaded.encode(text=[query])["text"], dim=-1)[0]
    found = {}
    for form in ("int8", "binary"):
        file = str(tmp_path / f"{form}.parquet")
        mmflow.embed(loaded, "train", file, codes=form)
        found[form] = [dict(row) for row in mmflow.search(loaded, query, file, of="image", by="text", most=5)]
        stored = read_vectors(file)
        rows = [stored.ids.index(str(row["id"])) for row in found[form]]
        scores = (torch.from_numpy(stored.vectors["image"]) @ asked)[rows]
        torch.testing.assert_close(torch.tensor([row["score"] for row in found[form]]), scores)
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    file = str(tmp_path / "whole.parquet")
    mmflow.embed(loaded, "train", file)
    whole = [row["score"] for row in mmflow.search(loaded, query, file, of="image", by="text", most=5)]
    assert [row["score"] for row in found["int8"]] == pytest.approx(whole, abs=2e-2)


def test_an_index_is_made_of_whole_vectors(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="whole vectors"):
        mmflow.embed(loaded, "train", str(tmp_path / "v.parquet"), codes="int8", index=True)
