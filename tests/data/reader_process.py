"""A process that reads as training does: one line a batch, on disk before the next batch is asked for.

Arguments: file, workers, epochs, and the cursor (epoch, batches done) to begin at.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

from mmflow_sources.samplers import Shuffle
from mmflow_worlds.shapes import Shapes

from mmflow.data import Batch, ColumnRequest, Loader
from mmflow.plugin.kinds import View
from mmflow.spec.target import Target

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


def loader(workers: int, size: int = 45, batch_size: int = 6) -> Loader:
    source = Shapes(size=size, pixels=24)
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
    with loader(workers) as reading, open(path, "a") as file:
        for now in range(epoch, epochs):
            for batch in reading.epoch(now, start=done if now == epoch else 0):
                file.write(line(batch) + "\n")
                file.flush()
                os.fsync(file.fileno())


if __name__ == "__main__":
    main()
