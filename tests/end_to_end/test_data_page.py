"""Every spec on the page about data is valid, over data of that kind which the test writes."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmflow.cli.app import app

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## ([^\n]*)$|^### ([^\n]*)$|^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """(heading, spec) of each block, in order."""
    found, heading = [], ""
    for section, part, block in BLOCKS:
        heading = section or part or heading
        if block:
            found.append((heading, block))
    return found


def image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of every kind that the page speaks of, and its first block as `photos.yaml`."""
    soundfile = pytest.importorskip("soundfile")
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("data")
    for number in range(4):
        write(root / "photos" / "images" / f"{number}.png", image())
        write(root / "birds" / "files" / f"{number}.png", image())
        for split in ("train", "test"):
            write(root / "albums" / split / f"{number}.png", image())
            write(root / "albums" / split / f"{number}.txt", "a lake")
            write(root / "flowers" / split / ("daisy", "rose", "tulip", "rose")[number] / f"{number}.png", image())
    rows = "".join(f"images/{number}.png,a boat\n" for number in range(4))
    for split in ("train", "test"):
        write(root / "photos" / f"{split}.csv", "image,caption\n" + rows)
    people = "".join(f"images/{n % 4}.png,a boat,{2005 + n},photo,person{n}\n" for n in range(40))
    write(root / "photos" / "all.csv", "image,caption,year,kind,person\n" + people)
    write(root / "photos" / "sizes.csv", "photo,width\n" + "".join(f"images/{n}.png,{n}\n" for n in range(3)))
    birds = [{"file": f"{n}.png", "sentences": ["a bird", "it flies"], "species": "owl"} for n in range(4)]
    for split in ("train", "test"):
        write(root / "birds" / f"{split}.jsonl", "\n".join(map(json.dumps, birds)))
    (root / "spoken").mkdir()
    for digit in range(3):
        soundfile.write(root / "spoken" / f"{digit}_anna_0.wav", np.zeros(4000), 8000)
    (root / "shards").mkdir()
    for name in ("train-000", "train-001", "test"):
        with tarfile.open(root / "shards" / f"{name}.tar", "w") as tar:
            for number in range(3):
                for extension, content in (("png", image()), ("txt", b"a hill")):
                    info = tarfile.TarInfo(f"{name}-{number}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    part = {"image": [{"bytes": image(), "path": None}] * 3, "text": ["a", "b", "c"]}
    part = datasets.Dataset.from_dict(part, features=features)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(root / "saved" / "photos"))
    np.savez(root / "features.npz", x=np.zeros((5, 16), dtype=np.float32), text=np.array(["a", "b", "c", "d", "e"]))
    write(root / "photos.yaml", blocks()[0][1])
    return root


@pytest.mark.parametrize("number", range(len(blocks())), ids=[heading.lower() for heading, _ in blocks()])
def test_the_spec_is_valid(here: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    block = blocks()[number][1]
    if number:
        (here / "this.yaml").write_text(block if "mmflow: 1" in block else "extends: photos.yaml\n" + block)
    done = CliRunner().invoke(app, ["check", "this.yaml" if number else "photos.yaml", "--shapes"])
    assert done.exit_code == 0, done.output
