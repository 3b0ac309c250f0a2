"""Text that UTF-8 cannot encode, in cells, ids, classes and names of files, can be shown and stored, or is refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_sources.folder import FolderSource
from mmflow_sources.names import shown, valid
from mmflow_sources.table import Table
from mmflow_sources.webdataset import WebDataset
from PIL import Image

from mmflow.plugin import ComponentError, SampleError

ANY = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=20)


def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_any_text_can_be_stored_once_valid_and_shown_once_safe(text: str) -> None:
    valid(text).encode("utf-8")
    assert valid(valid(text)) == valid(text)
    safe = shown(text)
    safe.encode("utf-8")
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in safe)
    if not any(0xD800 <= ord(character) < 0xE000 for character in text):
        assert valid(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cut \ud83d", "cut \ufffd"), ("\ude00 end", "\ufffd end"), ("\ud83d\ude00", "\U0001f600"), ("naïve", "naïve")],
)
def test_halves_of_a_pair_are_replaced_and_pairs_are_joined(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"caption": text, "several": [text, None]}) + "\n")
    sample = Table(url=str(tmp_path / "t.jsonl")).open()[0]
    assert sample["caption"] == expected
    assert sample["several"] == [expected, None]


def test_ids_and_classes_that_cannot_be_encoded_are_escaped(tmp_path: Path) -> None:
    rows = [{"id": f"a\ud83d{n}", "label": "caf\udce9", "caption": "x"} for n in range(2)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for stream in (False, True):
        columns = {"caption": "caption", "label": {"modality": "label", "names": [r"caf\udce9"]}}
        source = Table.model_validate({"url": str(tmp_path / "t.jsonl"), "stream": stream, "columns": columns})
        reader = source.open()
        found = [id for id, _ in reader.shard(0, ("label",))] if stream else [reader.id(n) for n in range(2)]
        assert found == [r"a\ud83d0", r"a\ud83d1"]
    assert Table(url=str(tmp_path / "t.jsonl")).fields()["label"].names == (r"caf\udce9",)


def test_names_of_files_in_latin_1_are_read_and_shown(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/d/caf\xe9"
    os.makedirs(folder)
    for name in (b"\xfcber.png", b"b.png"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(png())
    source = FolderSource(url=str(tmp_path / "d"))
    reader = source.open()
    assert [reader.id(n) for n in range(2)] == [r"caf\udce9/b", r"caf\udce9/\udcfcber"]
    assert source.fields()["label"].names == (r"caf\udce9",)
    assert reader[1]["image"].shape == (4, 4, 3)
    assert json.dumps(source.fingerprint()).encode()
    with open(folder + b"/b.png", "wb") as file:
        file.write(b"no image")
    with pytest.raises(SampleError) as caught:
        source.open()[0]
    assert str(caught.value).encode()


def test_names_of_members_in_latin_1_are_read_and_shown(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for name in ("é.png", "é.txt"):
            info = tarfile.TarInfo(name)
            data = png() if name.endswith("png") else b"text"
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    reader = WebDataset(url=(str(tmp_path / "s.tar"),)).open()
    assert reader.id(0) == r"\udce9"
    assert reader[0]["caption"] == "text"


@pytest.mark.parametrize(("data", "reason"), [(b"caf\xe9", "no UTF-8 text"), ("hi".encode("utf-16"), "no UTF-8 text")])
def test_a_caption_in_another_encoding_is_a_bad_sample(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "0.png").write_bytes(png())
    (tmp_path / "0.txt").write_bytes(data)
    reader = FolderSource(url=str(tmp_path)).open()
    with pytest.raises(SampleError, match=reason):
        reader[0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_table_in_another_encoding_is_refused(tmp_path: Path, stream: bool) -> None:
    (tmp_path / "t.csv").write_bytes("caption\ncafé\n".encode("latin-1"))
    with pytest.raises(ComponentError, match=r"UTF-8|utf-8"):
        Table(url=str(tmp_path / "t.csv"), stream=stream).open()


def test_captions_of_any_text_survive_a_whole_run(tmp_path: Path) -> None:
    from mmflow.flow.run import RunOptions, run_spec
    from mmflow.spec import load_text

    rows: list[dict[str, Any]] = [{"caption": f"words {n} \ud83d", "x": [n, 1.0]} for n in range(8)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = load_text(
        f"""
mmflow: 1
name: any-text
data: {{train: {{use: table, url: "{tmp_path}/t.jsonl"}}}}
encoders:
  x: {{use: mlp, of: x, dims: [8]}}
  text: {{use: text_transformer, of: caption, width: 8, depth: 1, heads: 2, length: 8, head: {{use: linear, dim: 8}}}}
losses: {{align: {{use: infonce, of: [x, text]}}}}
train: {{data: train, epochs: 1, batch_size: 8}}
eval: {{found: {{use: retrieval, data: train, of: [x, text], at: [1]}}}}
"""
    )
    outcome = run_spec(spec, RunOptions(store=str(tmp_path / "store"), engine="local", device="cpu", workers=0))
    assert outcome.exit_code == 0, outcome.outcome.notes
