"""Samples a second of the loader and of a plain torch DataLoader on the same work; the start of a large source.

    python benchmarks/loading.py [--repeats 7] [--samples 2000] [--workers 0 1 2]

Both read the same source through the same transforms and join rows with the same function; the plain one draws from one
generator a process and shuffles with torch's sampler, so that it neither resumes nor repeats itself. Epochs of both
alternate in one process, after one that starts the workers and is not counted. `ratio` is the median over the repeats
of the loader's samples a second over those of the plain one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmflow_samplers.shuffle import Shuffle
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from mmflow.data import Batch, ColumnRequest, Loader, collate
from mmflow.plugin.kinds import Source, View
from mmflow.plugin.targets import Target
from mmflow.spec.references.views import ViewTypes

BATCH = 64
CROP = View.model_validate(
    {"of": "image", "copies": 2, "apply": [{"use": "random_resized_crop", "size": 96}, "flip", "color_jitter"]}
)


@dataclass(frozen=True)
class Work:
    """A source, its views, and the columns that are wanted of them."""

    source: Source
    views: dict[str, View]
    columns: Sequence[str]

    @property
    def requests(self) -> list[ColumnRequest]:
        return [ColumnRequest(n, Target("views" if n in self.views else "fields", n)) for n in self.columns]


def works(folder: Path, samples: int) -> dict[str, Work]:
    """The work compared: images as the quickstart has them, two random views of larger ones, the same in shards."""
    small = Source.accept({"use": "shapes", "size": samples, "pixels": 48})
    drawn = Source.accept({"use": "shapes", "size": samples, "pixels": 128})
    write_shards(folder, drawn, samples)
    stored = Source.accept({"use": "webdataset", "url": str(folder / "*.tar"), "stream": True})
    return {
        "images": Work(small, {}, ("image", "caption", "label")),
        "views": Work(drawn, {"two": CROP}, ("two", "caption")),
        "shards": Work(stored, {"two": CROP}, ("two", "caption")),
    }


def write_shards(folder: Path, source: Source, samples: int, shards: int = 16) -> None:
    """PNG files with captions, in tar shards."""
    import io
    import tarfile

    from PIL import Image

    reader = source.open()
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:02}.tar", "w") as tar:
            for index in range(shard, samples, shards):
                sample, out = reader[index], io.BytesIO()
                Image.fromarray(sample["image"]).save(out, "PNG")
                for extension, data in (("png", out.getvalue()), ("txt", sample["caption"].encode())):
                    info = tarfile.TarInfo(f"{index:06}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


# --- the plain loader -----------------------------------------------------------------------------------


class Plain:
    """The data set that a user writes for one training: reads, views, joins."""

    def __init__(self, work: Work) -> None:
        self.work, self.reader = work, work.source.open()
        declared = work.source.fields()
        types = ViewTypes(work.views, declared)
        self.types = {r.key: types.column(r.target) for r in work.requests}
        self.fields = tuple(sorted({"image", *work.columns} - set(work.views)))
        self.generator: Any = None

    def viewed(self, sample: Any) -> dict[str, Any]:
        if self.generator is None:
            info = get_worker_info()
            self.generator = np.random.default_rng(0 if info is None else info.id)
        found: dict[str, Any] = {}
        for name in self.work.columns:
            if name not in self.work.views:
                found[name] = sample[name]
                continue
            copies = []
            for _ in range(self.work.views[name].copies):
                value = sample["image"]
                for transform in self.work.views[name].apply:
                    result = transform.apply(value, self.generator)
                    value = result[0] if isinstance(result, tuple) else result
                copies.append(value)
            found[name] = copies
        return found

    def joined(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: collate([row[name] for row in rows], type_) for name, type_ in self.types.items()}


class PlainIndexed(Plain, Dataset[Any]):
    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.viewed(self.reader.read(index, self.fields))


class PlainStream(Plain, IterableDataset[Any]):
    """Shards assigned to workers, a buffer of samples to shuffle."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        mine = range(len(self.reader.shards()))[
            0 if info is None else info.id :: 1 if info is None else info.num_workers
        ]
        order = np.random.default_rng(0).permutation(mine).tolist()
        held: list[Any] = []
        for shard in order:
            for id, raw in self.reader.shard(shard, self.fields):
                held.append((id, raw))
                if len(held) == 256:
                    yield self._decoded(held.pop(int(torch.randint(256, ()))))
        for found in held:
            yield self._decoded(found)

    def _decoded(self, found: Any) -> dict[str, Any]:
        return self.viewed(self.reader.decode(*found, self.fields))


def plain_loader(work: Work, workers: int) -> DataLoader[Any]:
    streamed = work.source.streaming() is not None
    dataset: Any = PlainStream(work) if streamed else PlainIndexed(work)
    more: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 2} if workers else {}
    return DataLoader(
        dataset, batch_size=BATCH, shuffle=not streamed, drop_last=True, num_workers=workers,
        collate_fn=dataset.joined, multiprocessing_context="forkserver" if workers else None, **more,
    )  # fmt: skip


# --- measuring ------------------------------------------------------------------------------------------


def rate(batches: Callable[[], Iterable[Any]]) -> float:
    """Samples a second of one pass."""
    began, samples = time.perf_counter(), 0
    for batch in batches():
        samples += batch.size if isinstance(batch, Batch) else len(next(iter(batch.values())))
    return samples / (time.perf_counter() - began)


def compare(work: Work, workers: int, repeats: int) -> tuple[float, float, float]:
    """Median samples a second of the loader and of the plain one, and the median of their ratios."""
    with Loader(work.source, work.views, work.requests, sampler=Shuffle.model_validate({}), batch_size=BATCH, seed=0,
                workers=workers) as loader:  # fmt: skip
        plain = plain_loader(work, workers)
        for begin in (partial(loader.epoch, 0), partial(iter, plain)):
            rate(begin)
        pairs = []
        for repeat in range(repeats):
            contenders = [partial(loader.epoch, repeat + 1), partial(iter, plain)]
            order = (0, 1) if repeat % 2 else (1, 0)
            rates = {place: rate(contenders[place]) for place in order}
            pairs.append((rates[0], rates[1]))
    own, others = ([pair[place] for pair in pairs] for place in (0, 1))
    ratio = statistics.median(one / other for one, other in pairs)
    return statistics.median(own), statistics.median(others), ratio


def large_source(samples: int) -> float:
    """Seconds from a declaration to the first batch."""
    began = time.perf_counter()
    source = Source.accept({"use": "shapes", "size": samples, "pixels": 48})
    requests = [ColumnRequest("image", Target("fields", "image"))]
    loader = Loader(source, {}, requests, sampler=Shuffle.model_validate({}), batch_size=BATCH, seed=0)
    next(iter(loader.epoch(0)))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    large_source(10)
    times = [large_source(1_000_000) for _ in range(options.repeats)]
    print(f"first batch of a source of 1,000,000 samples: {statistics.median(times):.3f} s (median)")
    print(f"\n{'work':<12}{'workers':>8}{'loader /s':>12}{'plain /s':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, work in works(Path(folder), options.samples).items():
            for workers in options.workers:
                own, plain, ratio = compare(work, workers, options.repeats)
                print(f"{name:<12}{workers:>8}{own:>12.0f}{plain:>12.0f}{ratio:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
