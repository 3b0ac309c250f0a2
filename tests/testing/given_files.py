"""Small files for the sources that read files: made once a session, in a temporary folder."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from mmflow.plugin import Source
from mmflow.plugin.registry import registry
from mmflow.testing import ScoreCase, SourceCase


@cache
def folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="mmflow-kit-"))
    draw = np.random.default_rng(0)
    np.savez(place / "a.npz", image=draw.normal(size=(9, 4)).astype("f4"), label=np.arange(9) % 3)
    lines = ["name,caption,age"] + [f"n{row},caption {row},{row}" for row in range(9)]
    (place / "a.csv").write_text("\n".join(lines))
    for kind in ("cat", "dog"):
        (place / "classes" / kind).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(draw.integers(0, 256, (8, 9, 3), dtype=np.uint8))
            image.save(place / "classes" / kind / f"{number}.png")
    with tarfile.open(place / "a.tar", "w") as tar:
        for row in range(4):
            for name, content in (
                (f"s{row}.txt", f"text {row}".encode()),
                (f"s{row}.json", json.dumps({"n": row}).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return place


def file_sources() -> list[SourceCase]:
    """A case of each source that reads files."""
    table = {"use": "table", "url": str(folder() / "a.csv")}
    ages = {**table, "columns": {"name": "name", "years": "age"}}
    words = {**table, "columns": {"name": "name", "caption": "caption"}}
    written = {
        "arrays": {"url": str(folder() / "a.npz")},
        "table": {"url": table["url"]},
        "folder": {"url": str(folder() / "classes")},
        "webdataset": {"url": str(folder() / "a.tar")},
        "beside": {"of": table, "other": ages, "axis": "person"},
        "join": {"of": words, "other": ages, "by": "name"},
        "split": {"of": table, "part": "train"},
    }
    found: list[SourceCase] = []
    for use, fields in written.items():
        made = registry().get("source", use).model_validate(fields)
        assert isinstance(made, Source)
        found.append(SourceCase(made))
    return found


def cross_encoders() -> list[ScoreCase]:
    """A case of the score that reads a model folder, where its library is there."""
    if find_spec("transformers") is None:
        return []
    import transformers
    from mmflow_transformers.pair_score import TransformersPairs
    from tokenizers import Tokenizer, models

    place = folder() / "cross-encoder"
    if not place.is_dir():
        vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *"abcdefgh"])}
        words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
        ).save_pretrained(place)  # fmt: skip
        config = transformers.BertConfig(
            vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            num_labels=1,
        )  # fmt: skip
        transformers.BertForSequenceClassification(config).save_pretrained(place)
    return [ScoreCase(TransformersPairs(hub=str(place), rows=4))]
