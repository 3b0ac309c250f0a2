"""Arrays in files as samples."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.arrays import Arrays
from safetensors.numpy import save_file

from mmflow.data import ColumnRequest, Loader, scan
from mmflow.plugin import ComponentError, SampleError
from mmflow.plugin.targets import Target


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "x": generator.integers(0, 256, (12, 6, 5), dtype=np.uint8), "y": np.arange(12) % 3,
        "v": generator.normal(size=(12, 4)).astype(np.float32), "s": generator.normal(size=(12, 7, 2)),
        "n": np.where(np.arange(12) == 2, np.nan, np.arange(12) / 2),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["npz", "safetensors", "memory"])
def test_fields_are_told_by_shape_and_type(tmp_path: Path, kind: str) -> None:
    url = str(tmp_path / f"a.{kind}")
    if kind == "npz":
        np.savez(url, **arrays(), t=np.array([f"text {n}" for n in range(12)]))  # type: ignore[arg-type]
    elif kind == "safetensors":
        save_file(arrays(), url)
    else:
        url = f"memory://{tmp_path.name}/a.npz"
        out = io.BytesIO()
        np.savez(out, **arrays())  # type: ignore[arg-type]
        with fsspec.open(url, "wb") as file:
            file.write(out.getvalue())  # type: ignore[union-attr]
    source = Arrays(url=url)
    fields = source.fields()
    expected = {"id": "id", "x": "image", "y": "label", "v": "vector", "s": "series", "n": "number"}
    assert {name: t.modality for name, t in fields.items() if name != "t"} == expected
    assert fields["x"].size == (6, 5, 3)
    assert fields["y"].names == ("0", "1", "2")
    requests = [ColumnRequest(name, Target("fields", name)) for name in fields]
    (batch,) = scan(source, {}, requests, batch_size=12, workers=0)
    assert np.allclose(batch.columns["x"].values[:, 1].numpy() * 255, arrays()["x"], atol=1e-3)
    assert np.allclose(batch.columns["s"].values.numpy(), arrays()["s"])
    assert batch.columns["n"].present is not None
    assert batch.columns["n"].present.tolist() == [n != 2 for n in range(12)]
    if kind == "npz":
        assert batch.columns["t"].values[3] == "text 3"


def test_chosen_columns_ids_and_workers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays(), id=np.array([f"s{n}" for n in range(12)]))  # type: ignore[arg-type]
    source = Arrays.model_validate(
        {"url": str(tmp_path / "a.npz"), "columns": {"image": "x", "label": {"array": "y", "names": ["a", "b", "c"]}}}
    )
    assert source.fields()["label"].names == ("a", "b", "c")
    requests = [ColumnRequest("label", Target("fields", "label"))]
    with Loader(source, {}, requests, sampler=Shuffle(), batch_size=12, seed=0, workers=1) as loader:
        (batch,) = loader.epoch(0)
    labels = dict(zip(batch.ids, batch.columns["label"].values.tolist(), strict=True))
    assert labels == {f"s{n}": n % 3 for n in range(12)}


def test_a_mapped_file(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", arrays()["v"])
    source = Arrays(url=str(tmp_path / "v.npy"))
    assert np.array_equal(source.open()[5]["v"], arrays()["v"][5])


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(4))
    with pytest.raises(ComponentError, match="different lengths"):
        Arrays(url=str(tmp_path / "a.npz")).fields()
    with pytest.raises(ComponentError, match="no array 'z'"):
        Arrays.model_validate({"url": str(tmp_path / "a.npz"), "columns": {"z": "z"}}).fields()
    with pytest.raises(ComponentError, match="no file"):
        Arrays(url=str(tmp_path / "b.npz")).fields()
    np.savez(tmp_path / "o.npz", x=np.array([{}, {}], dtype=object))
    with pytest.raises(ComponentError) as caught:
        Arrays(url=str(tmp_path / "o.npz")).fields()
    assert "objects" in str(caught.value)
    np.savez(tmp_path / "i.npz", x=np.zeros(2), id=np.array(["a", "a"]))
    with pytest.raises(ComponentError, match="row 1: id 'a' was there before, at row 0"):
        Arrays(url=str(tmp_path / "i.npz")).fields()
    np.savez(tmp_path / "n.npz", v=np.array([[0.0, np.nan]]))
    with pytest.raises(SampleError, match="NaN"):
        list(scan(Arrays(url=str(tmp_path / "n.npz")), {}, [ColumnRequest("v", Target("fields", "v"))], batch_size=1))


def test_huge_numbers_are_no_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", y=np.array([0, 5, 10**9]))
    with pytest.raises(ComponentError, match="'y' holds 3 classes with numbers up to 1000000000"):
        Arrays(url=str(tmp_path / "a.npz")).open()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["2020-01-01"], dtype="datetime64[D]"), r"'x' holds datetime64\[D\], which is no modality"),
        (np.zeros((2, 2), np.complex64), "'x' holds complex64, which is no modality"),
        (np.array(["a", None]), "arrays of Python objects are not read"),
    ],
)
def test_what_is_neither_number_nor_text_is_one_message(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(ComponentError, match=message):
        Arrays(url=str(tmp_path / "a.npz")).open()


def test_files_without_arrays_say_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    for name, message in (("none", r"none\.npz holds no arrays"), ("text", r"neither \.npz nor \.npy")):
        with pytest.raises(ComponentError, match=message):
            Arrays(url=str(tmp_path / f"{name}.npz")).open()


def test_bytes_are_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", id=np.array([b"one"]), caption=np.array(["café".encode()]))
    assert Arrays(url=str(tmp_path / "a.npz")).open()[0] == {"id": "one", "caption": "café"}


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "float16", "float64"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 2)], ids=["vectors", "series"])
def test_numbers_of_any_type_are_floats_for_encoders(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) % 7).astype(dtype)
    np.savez(tmp_path / "a.npz", x=array)
    (batch,) = scan(Arrays(url=str(tmp_path / "a.npz")), {}, [ColumnRequest("x", Target("fields", "x"))], batch_size=3)
    values = batch.columns["x"].values
    assert values.dtype == torch.float32
    assert np.array_equal(values.numpy(), array.astype(np.float32))
