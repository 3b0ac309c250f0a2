"""Folders and tar shards: the same samples from every place, and what happens to broken ones."""

from __future__ import annotations

import functools
import http.server
import io
import json
import tarfile
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.access.patterns import expand_braces
from mmflow_sources.folder import FolderSource
from mmflow_sources.table import Table
from mmflow_sources.webdataset import WebDataset
from PIL import Image

from mmflow.data import ColumnRequest, Loader, scan
from mmflow.plugin import ComponentError, SampleError, Source
from mmflow.plugin.targets import Target

COUNT = 20
KINDS = ("cat", "dog")


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image(number)).save(out, format="PNG")
    return out.getvalue()


def tone(number: int, rate: int = 8000) -> bytes:
    values = (np.sin(np.arange(rate // 4) * 2 * np.pi * (200 + 50 * number) / rate) * 20000).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return out.getvalue()


def files_of(number: int) -> dict[str, bytes]:
    sidecar = json.dumps({"score": number / 4}).encode()
    return {"png": png(number), "txt": f"image number {number}\n".encode(), "json": sidecar}


def write(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb", auto_mkdir=True) as file:
        file.write(data)  # type: ignore[union-attr]


def write_folder(base: str) -> str:
    for number in range(COUNT):
        for extension, data in files_of(number).items():
            write(f"{base}/{KINDS[number % 2]}/{number:03d}.{extension}", data)
    write(f"{base}/cat/.hidden.png", b"")
    return base


def tar_of(numbers: range) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in numbers:
            for extension, data in {**files_of(number), "cls": str(number % 2).encode()}.items():
                info = tarfile.TarInfo(f"{number:03d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_shards(base: str) -> str:
    for shard in range(4):
        write(f"{base}/part-{shard}.tar", tar_of(range(5 * shard, 5 * shard + 5)))
    return f"{base}/part-{{0..3}}.tar"


def write_table(base: str) -> str:
    lines = ["id,image,caption,score,label"]
    for number in range(COUNT):
        write(f"{base}/images/{number}.png", png(number))
        lines.append(f"{number:03d},images/{number}.png,image number {number},{number / 4},{number % 2}")
    write(f"{base}/rows.csv", "\n".join(lines).encode())
    return f"{base}/rows.csv"


class Impatient(http.server.SimpleHTTPRequestHandler):
    """Serves files, with ranges left out, and drops three connections of five without an answer."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if type(self).asked % 5 in (2, 3, 4):
            self.close_connection = True
            return
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    Impatient.asked = 0
    handler = functools.partial(Impatient, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def check(source: Any, ids: Callable[[int], str]) -> None:
    fields = source.fields()
    assert {fields[name].modality for name in ("image", "caption", "score")} == {"image", "text", "number"}
    reader = source.open()
    assert len(reader) == COUNT
    for number in (0, 7, 19, 3):
        index = reader.index(ids(number))
        assert reader.id(index) == ids(number)
        sample = reader[index]
        assert np.array_equal(sample["image"], image(number))
        assert sample["caption"] == f"image number {number}"
        assert sample["score"] == number / 4
        assert sample["label"] == number % 2


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_folder(tmp_path: Path, place: str) -> None:
    base = str(tmp_path / "f") if place == "disk" else f"memory://{tmp_path.name}/f"
    source = FolderSource(url=write_folder(base))
    check(source, lambda number: f"{KINDS[number % 2]}/{number:03d}")
    assert source.fields()["label"].names == KINDS
    chosen = FolderSource.model_validate({"url": base, "classes": ["dog"]})
    assert len(chosen.open()) == COUNT // 2
    turned = FolderSource.model_validate({"url": base, "classes": ["dog", "cat"]})
    assert turned.fields()["label"].names == ("dog", "cat")
    assert turned.open().read(0, ("label",)) == {"id": "cat/000", "label": 1}


def test_a_mistyped_class_is_refused_and_one_without_files_is_not(tmp_path: Path) -> None:
    base = write_folder(str(tmp_path / "f"))
    with pytest.raises(ComponentError, match=r"no folder of .* is called 'cta'") as refused:
        FolderSource.model_validate({"url": base, "classes": ["dog", "cta"]}).open()
    assert refused.value.hint == "did you mean 'cat'?"
    assert FolderSource.model_validate({"url": base, "classes": ["dog", "cat", "horse"]}).open().rows


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_shards(tmp_path: Path, place: str) -> None:
    base = str(tmp_path / "s") if place == "disk" else f"memory://{tmp_path.name}/s"
    source = WebDataset.model_validate({"url": write_shards(base)})
    check(source, lambda number: f"{number:03d}")
    globbed = WebDataset.model_validate({"url": f"{base}/part-*.tar"})
    assert globbed.shards() == source.shards()
    assert globbed.fingerprint() == source.fingerprint()


def test_over_a_network_that_drops_connections(tmp_path: Path, served: str) -> None:
    write_table(str(tmp_path / "t"))
    source = Table(url=f"{served}/t/rows.csv")
    check(source, lambda number: f"{number:03d}")
    assert Impatient.asked > 6
    write_shards(str(tmp_path / "s"))
    with pytest.raises(ComponentError, match=r"no file 'none\.csv'"):
        Table(url=f"{served}/t/none.csv").fields()


def test_the_same_batches_from_table_and_shards_with_workers(tmp_path: Path) -> None:
    table = Table(url=write_table(str(tmp_path / "t")))
    shards = WebDataset.model_validate({"url": write_shards(str(tmp_path / "s"))})
    requests = [ColumnRequest(name, Target("fields", name)) for name in ("image", "caption", "score", "label")]
    seen = []
    for source, workers in ((table, 0), (shards, 1)):
        with Loader(source, {}, requests, sampler=Shuffle(), batch_size=5, seed=2, workers=workers) as loader:
            seen.append([(b.ids, [c.values for c in b.columns.values()]) for b in loader.epoch(0)])
    for (ids, columns), (other_ids, other_columns) in zip(*seen, strict=True):
        assert ids == other_ids
        for one, other in zip(columns, other_columns, strict=True):
            assert one == other if isinstance(one, list) else bool((one == other).all())


def test_a_truncated_shard_behaves_as_the_policy_says(tmp_path: Path) -> None:
    pattern = write_shards(str(tmp_path))
    last = tmp_path / "part-3.tar"
    # In the middle of the fourth sample's image.
    last.write_bytes(last.read_bytes()[: last.read_bytes().index(b"018.png") + 600])
    with pytest.raises(ComponentError, match=r"part-3\.tar, sample '018'.*ends in the middle of '018\.png'"):
        WebDataset.model_validate({"url": pattern}).fields()
    source = WebDataset.model_validate({"url": pattern, "bad": "skip"})
    batches = list(scan(source, {}, [ColumnRequest("image", Target("fields", "image"))], batch_size=10))
    assert [id for batch in batches for id in batch.ids] == [f"{n:03d}" for n in range(18)]
    assert [id for batch in batches for id in batch.skipped] == ["018"]


def test_what_is_no_shard_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all, by any means" * 40)
    with pytest.raises(ComponentError, match=r"a\.tar is no readable tar file"):
        WebDataset.model_validate({"url": str(tmp_path / "a.tar")}).fields()
    with pytest.raises(ComponentError, match=r"no file 'b\.tar'"):
        WebDataset.model_validate({"url": str(tmp_path / "b.tar")}).fields()
    with pytest.raises(ComponentError, match="no folder"):
        FolderSource(url=str(tmp_path / "none")).fields()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/x.bin").write_bytes(b"x")
    with pytest.raises(ComponentError, match="no images, sounds or texts"):
        FolderSource(url=str(tmp_path / "empty")).fields()


@pytest.mark.parametrize(
    ("use", "url", "message"),
    [
        ("folder", "a.txt", r"a\.txt is a file, no folder"),
        ("folder", "*/*.png", r"a pattern in the names of its folders"),
        ("webdataset", "folder.tar", r"webdataset cannot be opened.*folder\.tar"),
    ],
)
def test_what_is_of_another_kind_is_one_message(tmp_path: Path, use: str, url: str, message: str) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(ComponentError, match=message):
        Source.accept({"use": use, "url": str(tmp_path / url)}).open()


def test_a_broken_sidecar_is_one_samples_fault(tmp_path: Path) -> None:
    base = write_folder(str(tmp_path))
    Path(base, "cat/004.json").write_text("{broken")
    source = FolderSource(url=base)
    assert source.open().read(0, ("score",))["score"] == 0.0
    with pytest.raises(SampleError, match=r"sample 'cat/004', column 'score': its \.json is no JSON"):
        source.open().read(2, ("score",))
    skipping = FolderSource(url=base, bad="skip")
    (batch,) = scan(skipping, {}, [ColumnRequest("score", Target("fields", "score"))], batch_size=COUNT)
    assert list(batch.skipped) == ["cat/004"]
    assert batch.size == COUNT - 1


def test_sounds_are_brought_to_one_rate(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    for number in range(4):
        (tmp_path / f"{number}_x.wav").write_bytes(tone(number))
        (tmp_path / f"{number}_x.txt").write_text(f"tone {number}")
    source = FolderSource.model_validate(
        {"url": str(tmp_path), "columns": {"sound": {"column": "audio", "rate": 16000}, "words": "caption"}}
    )
    assert source.fields()["sound"].modality == "audio"
    sample = source.open()[2]
    assert sample["words"] == "tone 2"
    assert sample["sound"].shape == (4000,)
    spectrum = np.abs(np.fft.rfft(sample["sound"]))
    assert int(spectrum.argmax()) * 16000 / 4000 == pytest.approx(300, abs=4)
    assert float(np.abs(sample["sound"]).max()) == pytest.approx(20000 / 32768, abs=0.03)
    requests = [ColumnRequest("sound", Target("fields", "sound"))]
    with wave.open(io.BytesIO(tone(3))) as whole, wave.open(str(tmp_path / "3_x.wav"), "wb") as shorter:
        shorter.setparams(whole.getparams())
        shorter.writeframes(whole.readframes(1478))
    (batch,) = scan(source, {}, requests, batch_size=4)
    assert batch.columns["sound"].values.values.shape == (4, 4000)
    assert batch.columns["sound"].values.mask.sum(1).tolist()[:3] == [4000] * 3
    (tmp_path / "3_x.wav").write_bytes(b"RIFF")
    with pytest.raises(SampleError, match="a sound that cannot be decoded"):
        list(scan(source, {}, requests, batch_size=4))


def test_braces() -> None:
    assert expand_braces("a{08..11}.tar") == ["a08.tar", "a09.tar", "a10.tar", "a11.tar"]
    assert expand_braces("a{0..2}{x,y}") == ["a0x", "a0y", "a1x", "a1y", "a2x", "a2y"]
    assert expand_braces("plain") == ["plain"]
