"""Memory of one pass over a large Parquet file and over many tar shards, workers included: does it stay flat?

Run: python benchmarks/data_memory.py [--parquet-mb 2000] [--shards 200] [--shard-mb 8] [--folder PLACE]. Writes the
data to a temporary folder, passes over it in a fresh process for each case, and prints the peak of the summed
proportional memory (PSS) of all its processes in the first and in the second half of the pass. The aim is a second half
at most 5 % over the first.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

AIM = 1.05
WIDTH = 512
"""Numbers in a vector: 2 kB of float32."""
SIDE = 64
"""Of an image of noise, which no format makes small: about 12 kB."""
GROUP = 1000
"""Rows in a row group."""
BATCH = 100
PERIOD = 0.1
"""Seconds between two looks at the memory."""


def images(count: int = 200) -> list[bytes]:
    from PIL import Image

    made = []
    for number in range(count):
        out = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, format="PNG", compress_level=0)
        made.append(out.getvalue())
    return made


def write_parquet(path: Path, megabytes: int) -> None:
    """Rows with an id, a caption, a vector and the bytes of an image, until the file is large enough."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        {"id": pa.string(), "caption": pa.string(), "vector": pa.list_(pa.float32(), WIDTH),
         "image": pa.struct({"bytes": pa.binary()})}
    )  # fmt: skip
    held, generator, row = images(), np.random.default_rng(0), 0
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as file:
        while not path.exists() or path.stat().st_size < megabytes * 10**6:
            numbers = generator.normal(size=GROUP * WIDTH).astype(np.float32)
            file.write_table(
                pa.table(
                    {
                        "id": [f"row{n}" for n in range(row, row + GROUP)],
                        "caption": [f"an image of noise, number {n}" for n in range(row, row + GROUP)],
                        "vector": pa.FixedSizeListArray.from_arrays(pa.array(numbers), WIDTH),
                        "image": [{"bytes": held[n % len(held)]} for n in range(row, row + GROUP)],
                    },
                    schema=schema,
                )
            )
            row += GROUP


def write_shards(folder: Path, count: int, megabytes: int) -> None:
    """Tar files with an image, a caption and a .json a sample."""
    held = images()
    samples = max(1, megabytes * 10**6 // (len(held[0]) + 2048))
    for shard in range(count):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(samples):
                sidecar = json.dumps({"score": number / samples})
                for extension, data in {
                    "png": held[number % len(held)], "txt": f"number {number}".encode(), "json": sidecar.encode()
                }.items():  # fmt: skip
                    info = tarfile.TarInfo(f"{shard:05d}-{number:05d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def family(pid: int) -> Iterator[int]:
    """A process and all that it started, directly or not."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                yield from family(int(child))
        except OSError:
            continue


def proportional_memory() -> int:
    """PSS in kB of this process and its children: pages that several share are counted once in all."""
    total = 0
    for pid in family(os.getpid()):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total


def measure(case: str, folder: Path, workers: int) -> dict[str, float]:
    """One pass; peaks of its halves in MB."""
    import torch
    from mmflow_samplers.shuffle import Shuffle

    from mmflow.data import ColumnRequest, Loader
    from mmflow.plugin import Source
    from mmflow.plugin.targets import Target

    torch.set_num_threads(1)
    form, _, order = case.partition(" ")
    declared: dict[str, object] = (
        {"use": "table", "url": str(folder / "rows.parquet")}
        if form == "parquet"
        else {"use": "webdataset", "url": str(folder / "*.tar")}
    )
    if order == "streamed":
        declared["stream"] = True
    source = Source.accept(declared)
    requests = [ColumnRequest(name, Target("fields", name)) for name in source.fields() if name != "id"]
    sampler = Shuffle.model_validate({"block": GROUP} if order == "in blocks" else {})
    looks: list[tuple[int, int]] = []
    made, ended = 0, threading.Event()

    def look() -> None:
        while not ended.wait(PERIOD):
            if made:
                looks.append((made, proportional_memory()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with Loader(source, {}, requests, sampler=sampler, batch_size=BATCH, seed=0, workers=workers) as loader:
            for _ in loader.epoch(0):
                made += 1
    finally:
        ended.set()
        watcher.join()
    first, second = (
        max((kilobytes for batch, kilobytes in looks if (batch > made / 2) == later), default=0) / 1000
        for later in (False, True)
    )
    return {"batches": made, "looks": len(looks), "first": first, "second": second}


CASES = ("parquet in blocks", "parquet streamed", "tar in blocks", "tar shuffled", "tar streamed")


def main() -> int:
    """Print a line for each case; 1 where one is over the aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parquet-mb", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--shard-mb", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--folder", type=Path, help="where the data is written, and kept")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure[0], given.folder, int(given.measure[1]))))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if any(case.startswith("parquet") for case in given.cases) and not (folder / "rows.parquet").exists():
            write_parquet(folder / "rows.parquet", given.parquet_mb)
        if any(case.startswith("tar") for case in given.cases) and not list(folder.glob("*.tar")):
            write_shards(folder, given.shards, given.shard_mb)
        print(f"{'pass':<20}{'workers':>8}{'batches':>9}{'looks':>7}{'first half':>12}{'second half':>13}{'ratio':>7}")
        over = False
        for case in given.cases:
            for workers in given.workers:
                command = [sys.executable, __file__, "--folder", str(folder), "--measure", case, str(workers)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    return 2
                found = json.loads(done.stdout.splitlines()[-1])
                ratio = found["second"] / found["first"]
                over = over or ratio > AIM
                print(
                    f"{case:<20}{workers:>8}{found['batches']:>9}{found['looks']:>7}{found['first']:>9.0f} MB"
                    f"{found['second']:>10.0f} MB{ratio:>7.3f}",
                    flush=True,
                )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
