"""Data sets of the datasets library that lie on disk."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.table import Table
from PIL import Image

from mmflow.data import ColumnRequest, Loader
from mmflow.identity.keys import Keys
from mmflow.plugin import ComponentError
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target
from mmflow.spec import load_text

datasets = pytest.importorskip("datasets")


def images() -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 256, (9, 7, 3), dtype=np.uint8) for n in range(10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features = datasets.Features(
        {
            "image": datasets.Image(), "species": datasets.ClassLabel(names=["cat", "dog", "ant"]),
            "text": datasets.Value("string"), "score": datasets.Value("float32"),
        }
    )  # fmt: skip
    rows = {
        "image": [Image.fromarray(image) for image in images()], "species": [n % 3 for n in range(9)] + [-1],
        "text": [f"text {n}" for n in range(10)], "score": [n / 2 for n in range(10)],
    }  # fmt: skip
    made = datasets.Dataset.from_dict(rows, features=features)
    path = tmp_path_factory.mktemp("hub")
    datasets.DatasetDict({"train": made, "test": made.select(range(4))}).save_to_disk(path / "both")
    made.save_to_disk(path / "one")
    made.to_parquet(path / "one.parquet")
    return path


def source(**fields: Any) -> Any:
    return registry().get("source", "hf_dataset").model_validate(fields)


def check(found: Any) -> None:
    fields = found.fields()
    assert {name: t.modality for name, t in fields.items() if name != "id"} == {
        "image": "image", "species": "label", "text": "text", "score": "number"
    }  # fmt: skip
    assert fields["species"].names == ("cat", "dog", "ant")
    reader = found.open()
    for n in range(10):
        sample = reader[n]
        assert np.array_equal(sample["image"], images()[n])
        assert sample["species"] == (n % 3 if n < 9 else None)
        assert (sample["text"], sample["score"]) == (f"text {n}", n / 2)


def test_a_folder_and_its_splits(folder: Path) -> None:
    check(source(path=str(folder / "one")))
    check(source(path=str(folder / "both"), split="train"))
    assert len(source(path=str(folder / "both"), split="test").open()) == 4
    with pytest.raises(ComponentError, match="no split None") as caught:
        source(path=str(folder / "both")).open()
    assert "train" in caught.value.expected


@pytest.mark.parametrize("url", ["{}", "file://{}"])
def test_a_split_of_a_folder_without_splits_is_refused(folder: Path, url: str) -> None:
    with pytest.raises(ComponentError, match="one data set without splits, not its split 'test'"):
        source(path=url.format(folder / "one"), split="test").open()


@pytest.mark.parametrize("stream", [False, True])
def test_lists_of_images_and_classes_and_files_of_sound_and_video(tmp_path: Path, stream: bool) -> None:
    out = io.BytesIO()
    Image.fromarray(images()[0]).save(out, "PNG")
    image = {"bytes": out.getvalue(), "path": None}
    plain = datasets.Dataset.from_dict(
        {"views": [[image, image]], "tags": [[2, 0]], "sound": [{"bytes": b"RIFF", "path": "a.wav"}],
         "clip": [{"bytes": b"none", "path": "a.mp4"}]}
    )  # fmt: skip
    kinds = {
        "views": datasets.List(datasets.Image()), "tags": datasets.List(datasets.ClassLabel(names=["a", "b", "c"])),
        "sound": datasets.Audio(), "clip": datasets.Video(),
    }  # fmt: skip
    plain.cast(datasets.Features(kinds)).save_to_disk(tmp_path / "made")
    found = source(path=str(tmp_path / "made"), stream=stream)
    types = found.fields()
    assert [types[n].modality for n in kinds] == ["image", "labels", "audio", "video"]
    assert types["views"].axes == ("sample", "item")
    reader = found.open()
    if stream:
        ((id, raw),) = reader.shard(0, ("views", "tags"))
        sample = reader.decode(id, raw, ("views", "tags"))
    else:
        sample = reader.read(0, ("views", "tags"))
    assert [np.array_equal(view, images()[0]) for view in sample["views"]] == [True, True]
    assert sample["tags"] == [2, 0]


def test_its_parquet_keeps_the_names_of_classes(folder: Path) -> None:
    assert pq.read_schema(folder / "one.parquet").metadata
    check(Table(url=str(folder / "one.parquet")))


def test_workers_and_a_key_without_the_place(folder: Path, tmp_path: Path) -> None:
    one = source(path=str(folder / "one"), columns={"image": "image", "label": "species"})
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("image", "label")]
    seen = []
    for workers in (0, 1):
        with Loader(one, {}, requests, sampler=Shuffle(), batch_size=5, seed=0, workers=workers) as loader:
            seen.append([(b.ids, b.columns["image"].values.sum().item()) for b in loader.epoch(0)])
    assert seen[0] == seen[1]
    shutil.copytree(folder / "one", tmp_path / "copy")
    copied = source(path=str(tmp_path / "copy"), columns={"image": "image", "label": "species"})
    assert copied.fingerprint() == one.fingerprint()
    text = "mmflow: 1\nname: one\ndata: {{rows: {{use: hf_dataset, path: '{}'}}}}\n"
    keys = [Keys(load_text(text.format(made.path))).data(Target("data", "rows")) for made in (one, copied)]
    assert keys[0] == keys[1]
