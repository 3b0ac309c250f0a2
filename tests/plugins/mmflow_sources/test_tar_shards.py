"""Tar shards as people write them: put together, with links, in any order, numbered alike, with dots in names."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmflow_sources.webdataset import WebDataset
from PIL import Image

from mmflow.plugin import ComponentError, SampleError

Files = Sequence[tuple[str, bytes]]


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(out, "PNG")
    return out.getvalue()


def tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pairs(numbers: Sequence[int], name: str = "{}") -> list[tuple[str, bytes]]:
    return [(f"{name.format(n)}.{e}", png(n) if e == "png" else f"no. {n}".encode()) for n in numbers for e in
            ("png", "txt")]  # fmt: skip


def indexed(path: Path, **fields: Any) -> Mapping[str, Mapping[str, Any]]:
    reader = WebDataset.model_validate({"url": str(path), **fields}).open()
    return {reader.id(place): reader[place] for place in range(len(reader))}


def streamed(path: Path, **fields: Any) -> Mapping[str, Mapping[str, Any]]:
    source = WebDataset.model_validate({"url": str(path), "stream": True, **fields})
    reader, names = source.open(), tuple(source.fields())
    return {
        id: reader.decode(id, raw, names)
        for shard in range(len(reader.shards()))
        for id, raw in reader.shard(shard, names)
    }


BOTH = pytest.mark.parametrize("read", [indexed, streamed])


def check(found: Mapping[str, Mapping[str, Any]], expected: Mapping[str, int]) -> None:
    assert set(found) == set(expected)
    for id, number in expected.items():
        assert found[id]["image"][0, 0, 0] == number
        assert found[id]["caption"] == f"no. {number}"


@BOTH
@pytest.mark.parametrize("gap", [0, 512, 10_240, 1_100_288])
def test_archives_put_together_are_read_to_the_last(tmp_path: Path, read: Any, gap: int) -> None:
    parts = [tar(pairs(range(3))), tar(pairs(range(3, 5))), tar(pairs([7]))]
    (tmp_path / "s.tar").write_bytes(bytes(gap).join(parts))
    check(read(tmp_path / "s.tar"), {str(number): number for number in (0, 1, 2, 3, 4, 7)})


@BOTH
def test_what_follows_an_archive_and_is_none_is_damage(tmp_path: Path, read: Any) -> None:
    (tmp_path / "s.tar").write_bytes(tar(pairs(range(3))) + b"\1" * 2000)
    with pytest.raises((ComponentError, SampleError), match="damaged at byte"):
        read(tmp_path / "s.tar")


@BOTH
@pytest.mark.parametrize("type", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_give_the_member_that_they_lead_to(tmp_path: Path, read: Any, type: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in pairs([0, 1], "d/{}"):
            info = tarfile.TarInfo(name)
            if name == "d/1.png":
                info.type, info.linkname = type, "d/0.png" if type == tarfile.LNKTYPE else "../d/0.png"
                data = b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        outside = tarfile.TarInfo("d/2.png")
        outside.type, outside.linkname = type, "/etc/passwd"
        archive.addfile(outside)
    (tmp_path / "s.tar").write_bytes(out.getvalue())
    found = read(tmp_path / "s.tar")
    assert sorted(found) == ["d/0", "d/1"]
    assert np.array_equal(found["d/1"]["image"], found["d/0"]["image"])
    assert found["d/1"]["caption"] == "no. 1"
    (left,) = WebDataset(url=(str(tmp_path / "s.tar"),)).left_out()
    assert (left.reason, left.names) == ("a link to no member before it", ("d/2.png",))


def test_files_of_a_sample_need_not_stand_together(tmp_path: Path) -> None:
    files = sorted(pairs(range(6)), key=lambda file: file[0].rpartition(".")[2])
    (tmp_path / "s.tar").write_bytes(tar(files))
    check(indexed(tmp_path / "s.tar"), {str(number): number for number in range(6)})
    with pytest.raises(SampleError, match="do not stand together"):
        streamed(tmp_path / "s.tar")


@BOTH
@pytest.mark.parametrize("names", ["{}", "part/{}"])
def test_shards_that_number_their_samples_alike_are_told_apart(tmp_path: Path, read: Any, names: str) -> None:
    (tmp_path / "a-0.tar").write_bytes(tar(pairs(range(4), names)))
    (tmp_path / "a-1.tar").write_bytes(tar([(name, data) for (name, _), (_, data) in zip(
        pairs(range(4), names), pairs(range(10, 14)), strict=True)]))  # fmt: skip
    expected = {f"a-{shard}/{names.format(n)}": n + 10 * shard for shard in range(2) for n in range(4)}
    check(read(tmp_path / "a-{0..1}.tar"), expected)


@BOTH
def test_the_plain_extension_gives_the_image_and_another_is_chosen_by_name(tmp_path: Path, read: Any) -> None:
    files = [(f"{n}.{e}", data) for n in range(3) for e, data in (
        ("depth.png", png(100 + n)), ("png", png(n)), ("txt", f"no. {n}".encode()))]  # fmt: skip
    (tmp_path / "s.tar").write_bytes(tar(files))
    check(read(tmp_path / "s.tar"), {str(n): n for n in range(3)})
    (left,) = WebDataset(url=(str(tmp_path / "s.tar"),)).left_out()
    assert left.count == 3
    assert "`columns: {NAME: depth.png}` reads it" in left.reason
    chosen = read(tmp_path / "s.tar", columns={"image": "image", "depth": "depth.png"})
    assert [int(chosen[str(n)]["depth"][0, 0, 0]) for n in range(3)] == [100, 101, 102]
    assert not list(WebDataset.model_validate(
        {"url": str(tmp_path / "s.tar"), "columns": {"image": "image", "depth": "depth.png"}}).left_out())  # fmt: skip


@BOTH
def test_an_extension_of_two_parts_gives_the_image_where_there_is_no_other(tmp_path: Path, read: Any) -> None:
    files = [(f"{n}.{e}", d) for n in range(2) for e, d in (("rgb.png", png(n)), ("txt", f"no. {n}".encode()))]
    (tmp_path / "s.tar").write_bytes(tar(files))
    check(read(tmp_path / "s.tar"), {"0": 0, "1": 1})


@BOTH
@pytest.mark.parametrize("files", [("png", "jpg"), ("txt", "caption")])
def test_two_files_for_one_field_are_a_bad_sample_that_names_both(tmp_path: Path, read: Any, files: Any) -> None:
    one, other = files
    listed = [(f"0.{e}", png(0) if e in ("png", "jpg") else b"no. 0") for e in sorted({"png", "txt", one, other})]
    (tmp_path / "s.tar").write_bytes(tar([*listed, *pairs([1])]))
    with pytest.raises(ComponentError, match=rf"two files for `\w+`, \.({one} and \.{other}|{other} and \.{one})"):
        read(tmp_path / "s.tar")
    kind = "image" if one == "png" else "caption"
    both = {"image": "image", "caption": "caption"}
    found = read(tmp_path / "s.tar", columns={**both, kind: one})
    assert found["0"]["caption"] == "no. 0"
    assert found["0"]["image"][0, 0, 0] == 0


@BOTH
def test_dots_in_names_are_refused_with_a_way_out(tmp_path: Path, read: Any) -> None:
    (tmp_path / "s.tar").write_bytes(tar(pairs(range(4), "scan.2024.{}")))
    with pytest.raises(ComponentError, match="cut at their first dot, so that sample 'scan' has 4 images") as caught:
        read(tmp_path / "s.tar")
    assert "`extension: last`" in caught.value.hint
    check(read(tmp_path / "s.tar", extension="last"), {f"scan.2024.{number}": number for number in range(4)})


@BOTH
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, read: Any, mark: str) -> None:
    files = [("0.png", png(0)), ("0.txt", f"{mark}no. 0".encode()), ("0.json", f'{mark}{{"n": 4}}'.encode()),
             ("0.cls", f"{mark}cat".encode())]  # fmt: skip
    (tmp_path / "s.tar").write_bytes(tar(files))
    columns = {"caption": "caption", "n": "n", "label": {"names": ["cat", "dog"], "modality": "label"}}
    assert read(tmp_path / "s.tar", columns=columns)["0"] == {"id": "0", "caption": "no. 0", "n": 4, "label": 0}


def test_a_sparse_member_is_not_taken_for_its_packed_bytes(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "0.txt").write_text("no. 0")
    with (tmp_path / "1.txt").open("wb") as file:
        file.truncate(2**20)
        file.seek(2**20)
        file.write(b"end")
    made = subprocess.run(
        ["tar", "--sparse", "-cf", "s.tar", "0.txt", "1.txt"], cwd=tmp_path, capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs GNU tar")
    with pytest.raises(ComponentError, match=r"'1.txt' is a sparse file"):
        indexed(tmp_path / "s.tar")


def test_names_with_escape_sequences_do_not_reach_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(tar([*pairs([0]), ("evil\x1b[2J\n\x1b]0;t\x07.png", b"no image")]))
    source = WebDataset.model_validate({"url": str(tmp_path / "s.tar"), "bad": "skip"})
    reader = source.open()
    assert reader.id(1) == r"evil\x1b[2J\n\x1b]0;t\x07"
    with pytest.raises(SampleError) as caught:
        reader[1]
    assert str(caught.value).isprintable()
