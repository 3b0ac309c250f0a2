"""The batches of a training: of one stream of data, or of several side by side, each from its own cursor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mmflow.data.batches import Batch, ColumnBatch
from mmflow.data.loading import Loader
from mmflow.data.samples import ColumnRequest
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source, View
from mmflow.plugin.samples import describe
from mmflow.plugin.streams import axis_of
from mmflow.spec.references.views import fields_of


@dataclass
class Cursor:
    """Where a stream stands: the epoch, and how many of its batches are done."""

    epoch: int = 0
    done: int = 0


class Feed:
    """Batches without end: one of each stream, the first of which says how long an epoch is. A stream that ends begins
    its next epoch, whatever the others do. `loaders` are by stream; the only one has the empty name."""

    def __init__(self, loaders: Mapping[str, Loader]) -> None:
        self.loaders = dict(loaders)
        self.cursors = {name: Cursor() for name in self.loaders}
        self.first = next(iter(self.loaders))

    def batches(self) -> Iterator[Batch]:
        """Batches from the cursors on. `step_done` says that the last one is done with; until then cursors stand before
        it."""
        streams = {name: self._stream(name) for name in self.loaders}
        while True:
            parts = {name: next(stream) for name, stream in streams.items()}
            yield parts[""] if "" in parts else side_by_side(parts)

    def step_done(self) -> None:
        """The batch that was given last is done with."""
        for cursor in self.cursors.values():
            cursor.done += 1

    def _stream(self, name: str) -> Iterator[Batch]:
        loader, cursor = self.loaders[name], self.cursors[name]
        while True:
            start = cursor.done
            given = False
            for batch in loader.epoch(cursor.epoch, start=start):
                given = True
                # Batches whose samples are all left out are passed over.
                cursor.done = batch.index
                yield batch
            if not given and not start:
                raise ComponentError(
                    f"no batch of {loader.batch_size} can be drawn from {describe(loader.source)}",
                    hint="use a smaller batch_size or more data",
                )
            cursor.epoch, cursor.done = cursor.epoch + 1, 0

    # --- where it stands -------------------------------------------------------------------------------

    def count(self) -> int | None:
        """Batches of the current epoch of the first stream; None where that is unknown."""
        return self.loaders[self.first].count(self.cursors[self.first].epoch)

    def epoch(self) -> float:
        """Epochs of the first stream that are done; of data whose length nobody knows, whole ones."""
        cursor, count = self.cursors[self.first], self.count()
        return cursor.epoch + (min(1.0, cursor.done / count) if count else 0.0)

    @property
    def cursor(self) -> Cursor:
        """Where the first stream stands."""
        return self.cursors[self.first]

    def steps(self, epochs: float, begin: int = 0) -> int:
        """Batches of `epochs` of the first stream, from the epoch `begin` on."""
        return self.loaders[self.first].steps(epochs, begin)

    @property
    def waited(self) -> float:
        """The time in seconds spent waiting for batches."""
        return sum(loader.waited for loader in self.loaders.values())

    @property
    def skipped(self) -> dict[str, str]:
        """Samples that were left out, with the reason."""
        return {id: reason for loader in self.loaders.values() for id, reason in loader.skipped.items()}

    @property
    def length(self) -> int | None:
        """Samples of all streams; None where some have a length that nobody knows."""
        lengths = [loader.length for loader in self.loaders.values()]
        return None if None in lengths else sum(length or 0 for length in lengths)

    def state(self) -> dict[str, list[int]]:
        """The cursors, as JSON holds them."""
        return {name: [cursor.epoch, cursor.done] for name, cursor in self.cursors.items()}

    def restore(self, state: Mapping[str, list[int]]) -> None:
        """Go on from where `state` was taken."""
        for name, (epoch, done) in state.items():
            self.cursors[name] = Cursor(epoch, done)

    def close(self) -> None:
        for loader in self.loaders.values():
            loader.close()


def requests_of(
    stream: str, requests: Sequence[ColumnRequest], views: Mapping[str, View], source: Source
) -> list[ColumnRequest]:
    """The columns of a stream, whose source has its name in front of fields."""
    ahead, fields = f"{stream}.", source.fields()
    found: list[ColumnRequest] = []
    for request in requests:
        target = request.target
        if target.section == "sampler":
            if target.name.startswith(ahead):
                found.append(replace(request, target=replace(target, name=target.name.removeprefix(ahead))))
        elif all(field in fields for field in fields_of(target, views)):
            found.append(request)
    return found


def side_by_side(parts: Mapping[str, Batch]) -> Batch:
    """One batch of several streams: the columns of all, and the rows of each on an axis of its own."""
    columns: dict[str, ColumnBatch] = {}
    streams: dict[str, list[str]] = {}
    skipped: dict[str, tuple[str, str | None]] = {}
    for name, batch in parts.items():
        columns |= {key: column.on_axis(axis_of(name)) for key, column in batch.columns.items()}
        streams[axis_of(name)] = batch.ids
        skipped |= batch.skipped
    first = next(iter(parts.values()))
    ids = [id for batch in parts.values() for id in batch.ids]
    return Batch(columns, ids, len(ids), first.epoch, first.index, skipped, streams=streams)


__all__ = ["Cursor", "Feed", "requests_of", "side_by_side"]
