"""What the names of files say becomes fields; samples are joined with one of several of their class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmflow_sources.access.files import Folder
from mmflow_sources.digits import NAMES
from mmflow_sources.folder import FolderSource
from mmflow_sources.join import Join
from pydantic import ValidationError

from mmflow.plugin import ComponentError, SampleError, SkippedSample, Source

LABEL = {"modality": "label", "names": list(NAMES)}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    soundfile = pytest.importorskip("soundfile")
    generator = np.random.default_rng(0)
    for digit in range(10):
        for speaker in ("anna", "ben"):
            for take in range(3):
                sound = 0.1 * generator.standard_normal(400 + 10 * take)
                soundfile.write(tmp_path / f"{digit}_{speaker}_{take}.wav", sound, 8000)
    return tmp_path


def folder(url: Path, **fields: Any) -> FolderSource:
    return FolderSource.model_validate({"url": str(url), **fields})


def test_parts_of_a_path_are_fields(recordings: Path) -> None:
    source = folder(
        recordings, pattern="{label}_{speaker}_{take}",
        columns={"audio": {"rate": 8000}, "label": LABEL, "speaker": {"modality": "label"}, "take": "take"},
    )  # fmt: skip
    types = source.fields()
    assert types["label"].names == NAMES
    assert types["speaker"].names == ("anna", "ben")
    assert types["take"].modality == "number"
    reader = source.open()
    assert len(reader) == 60
    sample = reader[reader.index("7_ben_2")]
    assert (sample["label"], sample["speaker"], sample["take"]) == (7, 1, 2.0)
    assert sample["audio"].shape == (420,)


def test_parts_told_by_their_values_may_lie_in_folders(recordings: Path) -> None:
    (recordings / "deep").mkdir()
    (recordings / "0_anna_0.wav").rename(recordings / "deep" / "0_anna_0.wav")
    for file in recordings.glob("*.wav"):
        file.unlink()
    reader = folder(recordings, pattern="{place}/{label}_{speaker}_{take}").open()
    sample = reader.read(0, ("label", "speaker", "take", "place"))
    assert sample == {"id": "deep/0_anna_0", "label": 0, "speaker": "anna", "take": 0.0, "place": "deep"}


def test_a_path_unlike_the_pattern_is_a_bad_sample(recordings: Path) -> None:
    (recordings / "0_anna_0.wav").rename(recordings / "notes.wav")
    with pytest.raises(ComponentError, match=r"'notes': its path is not like"):
        folder(recordings, pattern="{label}_{speaker}_{take}").open()
    reader = folder(recordings, pattern="{label}_{speaker}_{take}", bad="skip").open()
    with pytest.raises(SkippedSample):
        reader[reader.index("notes")]
    with pytest.raises(ComponentError, match="no path"):
        folder(recordings, pattern="{a}-{b}").open()


@pytest.mark.parametrize("pattern", ["label", "{label}_{label}", "{id}", "{a", "{a-b}"])
def test_a_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        folder(Path("x"), pattern=pattern)


def test_a_class_stored_as_a_number_has_the_name_that_is_given(tmp_path: Path) -> None:
    def labels(cells: str, *names: str) -> list[Any]:
        (tmp_path / "t.csv").write_text("what\n" + cells)
        column = {"column": "what", "modality": "label", "names": names}
        reader = Source.accept({"use": "table", "url": str(tmp_path / "t.csv"), "columns": {"what": column}}).open()
        return [reader[index]["what"] for index in range(len(reader))]

    assert labels("2\n0\ncat\n", "cat", "dog", "cow") == [2, 0, 0]
    with pytest.raises(SampleError, match="none of the classes"):
        labels("3\n", "cat", "dog", "cow")
    # Names that are numbers are names: 0 is none of them, and not the first one.
    assert labels("2\n1\n", "1", "2", "3") == [1, 0]
    with pytest.raises(SampleError, match="none of the classes"):
        labels("0\n", "1", "2", "3")


def test_a_sample_is_joined_with_one_of_several_of_its_class(recordings: Path) -> None:
    spoken = {"use": "folder", "url": str(recordings), "pattern": "{label}_{speaker}_{take}",
              "columns": {"audio": {"rate": 8000}, "label": LABEL}}  # fmt: skip
    fields = {"of": spoken, "other": {"use": "digits"}, "by": "label"}
    with pytest.raises(ComponentError, match="twice") as refused:
        Join.model_validate(fields).open()
    assert "several: random" in str(refused.value.__dict__)
    source = Join.model_validate({**fields, "several": "random"})
    reader, again = source.open(), source.open()
    images = set()
    for index in range(len(reader)):
        sample = reader[index]
        assert NAMES[sample["label"]] in sample["caption"]
        assert np.array_equal(sample["image"], again[index]["image"])
        images.add(sample["image"].tobytes())
    assert len(images) > 45
    other = Join.model_validate({**fields, "several": "random", "seed": 1}).open()
    assert any(not np.array_equal(other[n]["image"], reader[n]["image"]) for n in range(10))


@pytest.mark.parametrize("how", ["left", "inner"])
def test_a_join_that_finds_nothing_shows_keys_of_both_sides(recordings: Path, how: str) -> None:
    spoken = {"use": "folder", "url": str(recordings), "pattern": "{label}_{speaker}_{take}"}
    join = Join.model_validate(
        {"of": spoken, "other": {"use": "digits"}, "by": "label", "several": "random", "how": how}
    )
    with pytest.raises(ComponentError, match="no label is in both") as refused:
        join.open()
    assert "'0' in one and 'zero' in the other" in str(refused.value.__dict__)


def test_what_is_made_of_sources_is_made_once_and_again_when_a_file_changes(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = {"use": "folder", "url": str(recordings), "pattern": "{label}_{speaker}_{take}",
              "columns": {"audio": {"rate": 8000}, "label": LABEL, "take": "take"}}  # fmt: skip
    some = {"use": "filter", "of": spoken, "where": {"take": {"max": 1}}}
    join = Join.model_validate({"of": some, "other": {"use": "digits"}, "by": "label", "several": "random"})
    read: list[str] = []
    content = Folder.read

    def counted(self: Folder, name: str) -> bytes:
        read.append(name)
        return content(self, name)

    monkeypatch.setattr(Folder, "read", counted)
    first, stands_for = join.open(), join.fingerprint()
    assert len(read) == 60
    join.fields()
    assert join.open() is first
    assert join.fingerprint() == stands_for
    assert len(read) == 60
    (recordings / "3_anna_0.wav").rename(recordings / "3_carl_0.wav")
    other = join.open()
    assert other is not first
    assert len(other) == len(first) == 40
    assert other.index("3_carl_0") >= 0
    assert join.fingerprint() != stands_for
