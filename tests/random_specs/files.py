"""Small data on disk for the sources that read files, with a field of every form that evaluators take."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROWS = 24
KINDS = ("circle", "square", "star")
COLORS = ("red", "green", "blue")
COLUMNS: dict[str, Any] = {
    "words": "words", "again": "again", "options": "options", "image": "image", "twins": "twins",
    "kind": {"modality": "label", "names": list(KINDS)}, "color": {"modality": "label", "names": list(COLORS)},
    "tags": {"modality": "labels", "names": [*KINDS, *COLORS]}, "length": {"modality": "number"},
    "same": {"modality": "label", "names": ["no", "yes"]}, "moment": {"modality": "vector"},
    "vector": {"modality": "vector"}, "found": {"modality": "series"}, "gaps": {"modality": "series"},
    "cut": {"modality": "series"}, "boxes": {"modality": "series"}, "detected": {"modality": "series"},
    "tracks": {"modality": "series"},
}  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Where the data lie; `parts` are two of each, for training and for testing."""

    folder: Path

    def of(self, source: str, part: int) -> dict[str, Any] | None:
        """The fields of a source that name its files; None for a source that reads none."""
        here = self.folder / f"part{part}"
        return {
            "table": {"url": str(here / "rows.jsonl"), "columns": COLUMNS},
            "arrays": {"url": str(here / "arrays.npz"), "columns": {"image": "image", "kind": {
                "array": "kind", "modality": "label", "names": list(KINDS)}, "vector": "vector", "series": "series",
                "words": "words", "length": "length", "ids": {"array": "ids", "modality": "tokens"}}},
            "folder": {"url": str(here / "images"), "classes": list(KINDS)},
            "webdataset": {"url": [str(here / "shards" / "{0..1}.tar")]},
            "beside": {
                "of": {"use": "table", "url": str(here / "rows.jsonl"), "columns": COLUMNS},
                "other": {"use": "arrays", "url": str(here / "arrays.npz"), "columns": {"vector": "vector"}},
                "axis": "class",
            },
            "hf_dataset": {"path": str(here / "hub")},
            "join": {
                "of": {"use": "table", "url": str(here / "rows.jsonl"), "columns": {
                    name: COLUMNS[name] for name in ("again", "image", "color", "tags")}},
                "other": {"use": "arrays", "url": str(here / "arrays.npz"), "columns": {
                    name: name for name in ("vector", "series", "words", "length")}},
            },
        }.get(source)  # fmt: skip

    def model(self, component: str) -> dict[str, Any] | None:
        """The fields of a component that reads a model folder; None for another."""
        hub = self.folder / "models"
        return {
            "tokenizer/hf_tokenizer": {"hub": str(hub / "words")},
            "tokenizer/tokenizer_file": {"url": str(hub / "words" / "tokenizer.json"), "end": "[SEP]"},
            "encoder/sentence_transformers": {"hub": str(hub / "sentences"), "config": None, "prompt": None},
            "transform/hf_image": {"hub": str(hub / "images")},
            "transform/hf_audio": {"hub": str(hub / "sounds"), "rate": 8000},
            "transform/timm_image": {"hub": "test_vit"},
            "transform/open_clip_image": {"hub": "ViT-B-32"},
            "tracker/jsonl": {"folder": str(self.folder / "tracked")},
        }.get(component)


def write(folder: Path) -> Files:
    """Write all data of a session."""
    for part in (0, 1):
        here = folder / f"part{part}"
        here.mkdir(parents=True)
        rows = [_row(part, number, np.random.default_rng([part, number])) for number in range(ROWS)]
        _table(here, rows)
        _arrays(here, rows)
        _shards(here, rows)
        _hub(here, rows)
    _models(folder / "models")
    return Files(folder)


def _row(part: int, number: int, rng: np.random.Generator) -> dict[str, Any]:
    kind, color = KINDS[number % (2 + part)], str(rng.choice(COLORS))
    start = float(rng.integers(0, 50))
    box = [4.0, 4.0, 30.0 + number % 5, 30.0]
    gaps = [[int(rng.random() < 0.3)] for _ in range(12)]
    return {
        "id": f"{part}-{number:02}", "words": f"a {color} {kind}", "again": f"one {color} {kind}",
        "options": [f"a {color} {kind}", f"a gray {kind}"], "kind": kind, "color": color,
        "twins": [f"images/{kind}/{number:02}.png", f"images/{kind}/{(number + 2 + part) % ROWS:02}.png"],
        "tags": [kind, color] if number % 6 else None, "length": float(len(kind) + len(color)),
        "same": ["no", "yes"][number % 2],
        "moment": [start, start + 10], "found": [[start + 1, start + 9, 0.8], [0, 4, 0.2]],
        "vector": rng.normal(size=8).round(3).tolist() if number % 5 else None,
        "gaps": [g[0] for g in gaps], "cut": [*(g[0] for g in gaps[1:]), 0], "boxes": [[*box, 0]],
        "detected": [[*box, 0, 0.9]], "tracks": [[time, 7, *box] for time in range(3)],
        "image": f"images/{kind}/{number:02}.png",
    }  # fmt: skip


def _picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def _table(here: Path, rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        path = here / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_picture(number)).save(path)
    lines = [{**row, "image": row["image"] if number % 7 else None} for number, row in enumerate(rows)]
    (here / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _arrays(here: Path, rows: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        here / "arrays.npz",
        image=np.stack([_picture(number) for number in range(len(rows))]),
        kind=np.array([KINDS.index(row["kind"]) for row in rows]),
        vector=rng.normal(size=(len(rows), 8)).astype(np.float32),
        series=rng.normal(size=(len(rows), 32, 2)).astype(np.float32),
        ids=rng.integers(1, 60, (len(rows), 10)),
        words=np.array([row["words"] for row in rows]),
        length=np.array([row["length"] for row in rows]),
        id=np.array([row["id"] for row in rows]),
    )


def _shards(here: Path, rows: list[dict[str, Any]]) -> None:
    (here / "shards").mkdir()
    for shard in (0, 1):
        with tarfile.open(here / "shards" / f"{shard}.tar", "w") as tar:
            for number, row in list(enumerate(rows))[shard::2]:
                image = io.BytesIO()
                Image.fromarray(_picture(number)).save(image, "PNG")
                for ending, content in (("png", image.getvalue()), ("txt", row["words"].encode())):
                    member = tarfile.TarInfo(f"{row['id']}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _hub(here: Path, rows: list[dict[str, Any]]) -> None:
    import datasets

    columns = {name: [row[name] for row in rows] for name in ("id", "words", "again", "length")}
    columns["kind"] = [KINDS.index(row["kind"]) for row in rows]
    data = datasets.Dataset.from_dict(columns)
    data.cast_column("kind", datasets.ClassLabel(names=list(KINDS))).save_to_disk(str(here / "hub"))


def _models(hub: Path) -> None:
    """Folders as the library `transformers` saves them: a tokenizer, an image processor, a feature extractor."""
    import tokenizers
    import transformers

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordLevelTrainer(vocab_size=40, special_tokens=marks, show_progress=False)
    pieces.train_from_iterator([f"a {color} {kind}" for color in COLORS for kind in KINDS], trainer)
    ids = [(mark, pieces.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    pieces.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(hub / "words")  # fmt: skip
    _sentences(hub)
    size = {"height": 24, "width": 24}
    transformers.ViTImageProcessor(size=size).save_pretrained(hub / "images")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=8000).save_pretrained(hub / "sounds")


def _sentences(hub: Path) -> None:
    import sentence_transformers
    import transformers
    from sentence_transformers.sentence_transformer import modules

    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=64,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(hub / "words")
    inner = modules.Transformer(str(hub / "words"), max_seq_length=12)
    pooling = modules.Pooling(16, pooling_mode="mean")
    made = sentence_transformers.SentenceTransformer(modules=[inner, pooling], device="cpu")
    made.save(str(hub / "sentences"), create_model_card=False)
