"""What a column holds is told by its values, and never trained on as something else."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmflow.plugin import ComponentError, SampleError, Source


def opened(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Any:
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Source.accept({"use": "table", "url": str(folder / "table.jsonl")}).open()


def kind(reader: Any, field: str) -> tuple[str, tuple[str, ...]]:
    return reader.types[field].modality, reader.types[field].axes


def test_one_caption_beside_several_is_a_list_of_one(tmp_path: Path) -> None:
    reader = opened(tmp_path, [{"caption": "a cat"}, {"caption": ["a dog", "an animal"]}])
    assert kind(reader, "caption") == ("text", ("sample", "item"))
    assert [reader.read(n)["caption"] for n in range(2)] == [["a cat"], ["a dog", "an animal"]]


def test_several_captions_far_below_single_ones_are_refused(tmp_path: Path) -> None:
    reader = opened(tmp_path, [*({"caption": "a cat"} for _ in range(1000)), {"caption": ["a dog", "an animal"]}])
    with pytest.raises(SampleError, match="line 1001, column 'caption': 2 texts where those before have one"):
        reader.read(1000)


def test_lists_of_classes_and_of_sounds(tmp_path: Path) -> None:
    reader = opened(
        tmp_path, [{"label": ["cat", "pet"], "sound": ["a.wav", "b.wav"]}, {"label": "dog", "sound": "c.wav"}]
    )
    assert kind(reader, "label") == ("labels", ("sample",))
    assert kind(reader, "sound") == ("audio", ("sample", "item"))
    assert [reader.read(n, ("label",))["label"] for n in range(2)] == [[0, 2], [1]]


def test_one_image_beside_several_is_a_list_of_one(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    reader = opened(tmp_path, [{"image": "a.png"}, {"image": ["a.png", "a.png"]}])
    assert kind(reader, "image") == ("image", ("sample", "item"))
    assert [len(reader.read(n)["image"]) for n in range(2)] == [1, 2]
    assert reader.files() == ["a.png"] * 3


def test_an_empty_column_is_no_image(tmp_path: Path) -> None:
    assert kind(opened(tmp_path, [{"caption": "", "other": "a"}]), "caption") == ("text", ("sample",))


def test_spaces_around_a_class_make_no_other_class(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("name,label\na,cat\nb, cat\nc,dog\n")
    reader = Source.accept({"use": "table", "url": str(tmp_path / "table.csv")}).open()
    assert reader.types["label"].names == ("cat", "dog")
    assert [reader.read(n)["label"] for n in range(3)] == [0, 0, 1]


def test_sounds_in_cells_are_sounds(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.full(100, 0.5, np.float32), 16000, format="WAV")
    table = pa.table({"bare": [out.getvalue()], "named": [{"bytes": out.getvalue(), "path": "a.wav"}]})
    pq.write_table(table, tmp_path / "table.parquet")
    reader = Source.accept({"use": "table", "url": str(tmp_path / "table.parquet")}).open()
    for field in ("bare", "named"):
        assert kind(reader, field) == ("audio", ("sample",))
        assert reader.read(0)[field].shape == (100,)


def test_times_are_text_and_decimals_numbers(tmp_path: Path) -> None:
    when = datetime.datetime(2020, 5, 17, 10, 30)
    pq.write_table(pa.table({"when": [when], "price": [Decimal("1.25")]}), tmp_path / "table.parquet")
    reader = Source.accept({"use": "table", "url": str(tmp_path / "table.parquet")}).open()
    assert reader.read(0) == {"id": "0", "when": "2020-05-17 10:30:00", "price": 1.25}


def test_lists_beside_single_numbers_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="'x' holds lists and single values"):
        opened(tmp_path, [{"x": [1, 2]}, {"x": 3}])
