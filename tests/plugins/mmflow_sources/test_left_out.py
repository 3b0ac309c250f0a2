"""Files that belong to no sample are counted and named: in `check`, in the run and in its report."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mmflow_sources.folder import FolderSource
from mmflow_sources.table import Table
from mmflow_sources.webdataset import WebDataset
from PIL import Image
from typer.testing import CliRunner

from mmflow.plugin import ComponentError, LeftOut, Source


def png(number: int = 0) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(out, "PNG")
    return out.getvalue()


def ids(source: Source) -> list[str]:
    reader = source.open()
    return [reader.id(place) for place in range(len(reader))]


def counted(source: Source) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {found.reason: (found.count, found.names) for found in source.left_out()}


def classes(folder: Path) -> None:
    """Two images in each of two folders that are classes."""
    for kind in ("green", "red"):
        (folder / kind).mkdir(parents=True)
        for number in range(2):
            (folder / kind / f"{number}.png").write_bytes(png(number))


@pytest.mark.parametrize("hidden", [".cache/0.png", "red/.thumbs/7.png", "._0.png", "red/.0.png"])
def test_hidden_files_and_folders_are_no_samples(tmp_path: Path, hidden: str) -> None:
    classes(tmp_path)
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_bytes(png())
    source = FolderSource(url=str(tmp_path))
    assert source.fields()["label"].names == ("green", "red")
    assert len(ids(source)) == 4
    assert counted(source) == {"hidden (a name that begins with a dot)": (1, (hidden,))}


@pytest.mark.parametrize("text", ["README.txt", "LICENSE.txt", "notes.txt", "red/README.txt", "green/Changelog.txt"])
def test_texts_about_the_data_are_no_captions(tmp_path: Path, text: str) -> None:
    classes(tmp_path)
    (tmp_path / text).write_text("about the data")
    source = FolderSource(url=str(tmp_path))
    assert source.fields()["label"].names == ("green", "red")
    assert len(ids(source)) == 4
    assert [(found.count, found.names) for found in source.left_out()] == [(1, (text,))]


def test_texts_alone_are_samples(tmp_path: Path) -> None:
    for name in ("a.txt", "readme.txt"):
        (tmp_path / name).write_text(name)
    source = FolderSource(url=str(tmp_path))
    assert ids(source) == ["a", "readme"]
    assert not list(source.left_out())


def test_files_that_are_not_read_are_counted_by_extension(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(png())
        (tmp_path / f"{number}.xml").write_text("<a/>")
    (tmp_path / "all.pdf").write_bytes(b"%PDF")
    (tmp_path / "Makefile").write_text("all:")
    (tmp_path / "lonely.json").write_text("{}")
    source = FolderSource(url=str(tmp_path))
    assert len(ids(source)) == 5
    assert counted(source) == {
        "not read (.xml)": (5, ("0.xml", "1.xml", "2.xml")),
        "not read (.pdf)": (1, ("all.pdf",)),
        "a name without extension": (1, ("Makefile",)),
        "without an image, sound, video or text of its name": (1, ("lonely.json",)),
    }
    assert str(next(iter(source.left_out()))) == "5 files left out, not read (.xml): 0.xml, 1.xml, 2.xml, ..."


def test_a_folder_of_other_files_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.xcf").write_bytes(b"gimp")
    with pytest.raises(ComponentError, match="holds no images, sounds or texts") as caught:
        FolderSource(url=str(tmp_path)).open()
    assert caught.value.found == "1 file left out, not read (.xcf): a.xcf"


def test_files_whose_names_differ_in_case_alone_are_no_second_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    (tmp_path / "a.PNG").write_bytes(png(5))
    source = FolderSource(url=str(tmp_path))
    assert ids(source) == ["a"]
    assert [found.count for found in source.left_out()] == [1]


def test_members_of_a_tar_that_are_not_read_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("0.png", "0.npy", ".hidden/1.png", "._0.png", "2", "1.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            tar.addfile(info, io.BytesIO(png()))
        pipe = tarfile.TarInfo("3.png")
        pipe.type = tarfile.FIFOTYPE
        tar.addfile(pipe)
    source = WebDataset(url=(str(tmp_path / "s.tar"),))
    assert ids(source) == ["0", "1"]
    assert counted(source) == {
        "hidden (a name that begins with a dot)": (2, (".hidden/1.png", "._0.png")),
        "a name without extension": (1, ("2",)),
        "no file (a device or a pipe)": (1, ("3.png",)),
        "not read (.npy)": (1, ("0.npy",)),
    }
    streamed = WebDataset(url=(str(tmp_path / "s.tar"),), stream=True)
    assert sum(found.count for found in streamed.left_out()) == 5


def test_columns_without_a_name_are_counted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",caption\n0,a\n1,b\n")
    source = Table(url=str(tmp_path / "t.csv"))
    assert list(source.fields()) == ["id", "caption"]
    assert list(source.left_out()) == [LeftOut(1, "column", "without a name", ("number 1",))]


def test_sources_of_sources_tell_what_is_left_out_inside(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "README.txt").write_text("about")
    inner = {"use": "folder", "url": str(tmp_path)}
    for declared in (
        {"use": "subset", "of": inner, "size": 2},
        {"use": "concat", "of": [inner, {"use": "shapes", "size": 3}]},
        {"use": "filter", "of": {"use": "split", "of": inner, "part": "train", "parts": {"train": 1}}, "where": {
            "label": ["red", "green"]}},
    ):  # fmt: skip
        (found,) = Source.accept(declared).left_out()
        assert (found.count, found.names) == (1, ("README.txt",))


def test_check_run_and_report_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmflow.cli.app import app

    classes(tmp_path / "d")
    (tmp_path / "d/README.txt").write_text("about")
    (tmp_path / "spec.yaml").write_text(
        "mmflow: 1\nname: counted\ndata: {all: {use: folder, url: d}}\n"
        "encoders: {image: {use: vit, of: image, size: 8, patch: 8, width: 8, depth: 1, heads: 2}}\n"
        "eval: {shape: {use: geometry, data: all, of: [image]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    said = "all: 1 file left out, a text outside the folders that hold the data: README.txt"
    checked = CliRunner().invoke(app, ["check", "spec.yaml"])
    assert checked.exit_code == 0, checked.output
    assert said in checked.output
    ran = CliRunner().invoke(app, ["run", "spec.yaml", "--local", "--workers", "0", "--store", "store"])
    assert ran.exit_code == 0, ran.output
    assert said in ran.output
    (page,) = Path("store").rglob("report.html")
    assert said.removeprefix("all: ") in page.read_text()


def make_links(folder: Path, outside: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in/real.txt").write_text("real")
    (outside / "secret.txt").write_text("secret")
    os.symlink("in/real.txt", folder / "inside.txt")
    os.symlink(outside / "secret.txt", folder / "outside.txt")
    os.symlink(outside, folder / "linked")
    os.symlink("gone.txt", folder / "dangling.txt")
    os.symlink("/dev/zero", folder / "zero.txt")
    os.mkfifo(folder / "pipe.txt")


def test_links_lead_to_files_inside_the_folder_alone(tmp_path: Path) -> None:
    folder, outside = tmp_path / "d", tmp_path / "elsewhere"
    folder.mkdir()
    outside.mkdir()
    make_links(folder, outside)
    source = FolderSource(url=str(folder))
    assert ids(source) == ["in/real", "inside"]
    assert [source.open()[place]["caption"] for place in range(2)] == ["real", "real"]
    assert counted(source) == {
        "a name without extension": (1, ("linked",)),
        "a link out of the folder (`links: true` follows it)": (1, ("outside.txt",)),
        "a link that leads nowhere": (1, ("dangling.txt",)),
        "no file (a device or a pipe)": (2, ("pipe.txt", "zero.txt")),
    }
    followed = FolderSource(url=str(folder), links=True)
    assert ids(followed) == ["in/real", "inside", "outside"]
    assert followed.open()[2]["caption"] == "secret"


@pytest.mark.parametrize("name", ["outside.txt", "zero.txt", "pipe.txt", "dangling.txt"])
def test_a_path_in_a_table_leads_to_no_link_out_and_no_device(tmp_path: Path, name: str) -> None:
    from mmflow.plugin import SampleError

    outside = tmp_path / "elsewhere"
    (tmp_path / "d").mkdir()
    outside.mkdir()
    make_links(tmp_path / "d", outside)
    (tmp_path / "d/t.csv").write_text(f"image\n{name}\n")
    source = Table.model_validate(
        {"url": str(tmp_path / "d/t.csv"), "columns": {"image": {"modality": "image"}}}
    )  # fmt: skip
    with pytest.raises(SampleError, match=f"'{name}' is (no file|a link)"):
        source.open()[0]


@pytest.mark.parametrize("kind", ["table", "webdataset", "arrays"])
def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    name = {"table": "t.csv", "webdataset": "s.tar", "arrays": "x.npz"}[kind]
    os.mkfifo(tmp_path / name)
    with pytest.raises(ComponentError, match=r"no file \(a device or a pipe\)"):
        Source.accept({"use": kind, "url": str(tmp_path / name)}).open()
