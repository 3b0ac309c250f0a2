"""A process that reads as training does: one line a batch, on disk before the next batch is asked for.

Arguments: file, workers, epochs, the cursor (epoch, batches done) to begin at, and, to read a stream, its shards.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.webdataset import WebDataset
from mmflow_synthetic.shapes import Shapes
from PIL import Image

from mmflow.data import Batch, ColumnRequest, Loader
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target

VIEWS = {
    "two": View.model_validate(
        {"of": "image", "copies": 2, "apply": [{"use": "random_resized_crop", "size": 16}, "flip", "color_jitter"]}
    ),
    "words": View.model_validate({"of": "caption", "apply": [{"use": "drop_words", "p": 0.3}]}),
}
REQUESTS = [
    ColumnRequest("two", Target("views", "two")),
    ColumnRequest("box", Target("views", "two", output="box")),
    ColumnRequest("words", Target("views", "words")),
    ColumnRequest("label", Target("fields", "label")),
]


def write_shards(folder: Path, sizes: list[int]) -> str:
    """Writes a shard of each size; returns their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = Shapes(size=sum(sizes), pixels=24).open()
    index = 0
    for number, size in enumerate(sizes):
        with tarfile.open(folder / f"{number:03}.tar", "w") as tar:
            for _ in range(size):
                sample = reader[index]
                out = io.BytesIO()
                Image.fromarray(sample["image"]).save(out, "PNG")
                for extension, data in (
                    ("png", out.getvalue()), ("txt", sample["caption"].encode()), ("cls", str(index % 3).encode())
                ):  # fmt: skip
                    info = tarfile.TarInfo(f"{index:05}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                index += 1
    return str(folder / "*.tar")


def streamed(url: str, **fields: Any) -> WebDataset:
    """The shards at `url`, read from front to back."""
    columns = {"image": "image", "caption": "caption", "label": {"names": ["0", "1", "2"]}}
    stream = fields.pop("stream", {"partitions": 4, "open": 2, "buffer": 10})
    return WebDataset.model_validate({"url": url, "columns": columns, "stream": stream, **fields})


def loader(workers: int, size: int = 45, batch_size: int = 6, shards: str | None = None) -> Loader:
    source = Shapes(size=size, pixels=24) if shards is None else streamed(shards)
    return Loader(source, VIEWS, REQUESTS, sampler=Shuffle(), batch_size=batch_size, seed=3, workers=workers)


def digest(batch: Batch) -> str:
    """A hash of all that a batch holds."""
    found = hashlib.sha256()
    for key in sorted(batch.columns):
        values: Any = batch.columns[key].values
        found.update(repr(values).encode() if isinstance(values, list) else values.numpy().tobytes())
    return found.hexdigest()[:16]


def line(batch: Batch) -> str:
    return f"{batch.epoch} {batch.index} {','.join(batch.ids)} {digest(batch)}"


def main() -> None:
    path, workers, epochs, epoch, done = sys.argv[1], *map(int, sys.argv[2:6])
    with loader(workers, shards=(*sys.argv[6:], None)[0]) as reading, open(path, "a") as file:
        for now in range(epoch, epochs):
            for batch in reading.epoch(now, start=done if now == epoch else 0):
                file.write(line(batch) + "\n")
                file.flush()
                os.fsync(file.fileno())


if __name__ == "__main__":
    main()
