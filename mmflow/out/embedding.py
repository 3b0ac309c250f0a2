"""`embed_data`: the vectors of data in a file, batch by batch, with an index beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmflow.data import ColumnRequest, count_of
from mmflow.evaluate.parts import values_of
from mmflow.out.coding import Coder, Form
from mmflow.out.finding import FoundRun
from mmflow.out.index import IndexWriter, drop_index, index_url
from mmflow.out.model import BATCH, LoadedModel, normalized, pooled
from mmflow.out.vectors import About, Writer, vectors_file
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Score, Source
from mmflow.plugin.modality import modality
from mmflow.plugin.references import Written
from mmflow.plugin.registry import registry
from mmflow.plugin.targets import Target
from mmflow.plugin.values import Encoding, RawValue, TensorType, Tokens
from mmflow.spec.text.problems import did_you_mean

if TYPE_CHECKING:
    import numpy as np

Data = str | Mapping[str, Written] | Source
"""An entry of the run's `data`, a path or URL of files, or the declaration of a source."""


@dataclass(frozen=True)
class Embedded:
    """A file of vectors that was written."""

    url: str
    rows: int
    sizes: Mapping[str, tuple[int, ...]]
    """By encoder, the size of a row's vector."""
    indices: tuple[str, ...]
    """URLs of the indices beside."""


def embed_data(
    loaded: LoadedModel, data: Data, url: str, *, encoders: Sequence[str] = (), fields: Sequence[str] = (),
    normalize: bool = False, index: bool = False, codes: Form | None = None, batch_size: int = BATCH, workers: int = 0,
    told: Callable[[int, int | None], None] = lambda done, total: None,
) -> Embedded:  # fmt: skip
    """Write the vectors of every row of `data` to `url` (`.parquet` or `.npz`, any fsspec URL).

    `encoders` are by default all that read fields which the data have; `fields` are stored beside. `told(done, total)`
    is called after each batch. `codes` stores vectors in few bytes, `int8` or `binary`, one bit a number: those that
    the score of an encoder compares. Raises `ComponentError`.
    """
    if codes is not None and index:
        raise ComponentError("an index is made of whole vectors", hint="leave out the codes, or the index")
    source = source_of(loaded, data)
    known = source.fields()
    names = list(encoders) or [one for one in loaded.encoders if set(loaded.inputs(one).fields) <= set(known)]
    if not names:
        reads = "; ".join(f"{one} reads {', '.join(loaded.inputs(one).fields)}" for one in loaded.encoders)
        raise ComponentError("no encoder reads the fields of the data", found=", ".join(known), hint=reads)
    further = [ColumnRequest(f"field:{name}", Target("fields", name)) for name in fields]
    for name in fields:
        _check_field(name, known, names)
    scores = {name: score_of(loaded, name) for name in names}
    about: About = {
        "model": f"{_origin(loaded)}, {loaded.stage}", "normalized": normalize,
        "scores": {name: score.declared() for name, score in scores.items()},
    }  # fmt: skip
    indices = {name: IndexWriter() for name in names} if index else {}
    for name in names:
        drop_index(url, name)
    coders = {name: Coder(codes) for name in names} if codes is not None else {}
    waiting: list[tuple[Sequence[str], Mapping[str, Sequence[RawValue]]]] = []
    ready: dict[str, list[np.ndarray]] = {name: [] for name in names}
    total, rows = count_of(source), 0
    sizes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as stack:
        writer = stack.enter_context(vectors_file(url, about))
        batches = loaded.batches(source, names, further=further, batch_size=batch_size, workers=workers)
        for batch, encodings in batches:
            encodings = {name: normalized(one) if normalize else one for name, one in encodings.items()}
            vectors = {name: pooled(one).float().numpy() for name, one in encodings.items()}
            sizes = {name: values.shape[1:] for name, values in vectors.items()}
            columns = {name: plain(values_of(batch.columns[f"field:{name}"]), known[name]) for name in fields}
            if codes is None:
                writer.add(batch.ids, vectors, columns)
            else:
                waiting.append((batch.ids, columns))
                ready.update({n: [*ready[n], *coders[n].add(compared(scores[n], encodings[n], n))] for n in names})
                _write_ready(writer, waiting, ready, coders, about)
            for name, one in indices.items():
                _add(one, scores[name], encodings[name], name, rows)
            rows += len(batch.ids)
            told(rows, total)
        if not rows:
            raise ComponentError("the data have no rows")
        if codes is not None:
            ready.update({name: [*ready[name], *coders[name].rest()] for name in names})
            _write_ready(writer, waiting, ready, coders, about)
    written = [place for name, one in indices.items() if one.write(place := index_url(url, name))]
    return Embedded(url, rows, sizes, tuple(written))


def _write_ready(
    writer: Writer, waiting: list[tuple[Sequence[str], Mapping[str, Sequence[RawValue]]]],
    ready: dict[str, list[np.ndarray]], coders: Mapping[str, Coder], about: About,
) -> None:  # fmt: skip
    """Write the batches of which all encoders have codes."""
    while waiting and all(ready.values()):
        about["codes"] = {name: coder.about for name, coder in coders.items() if coder.about is not None}
        ids, columns = waiting.pop(0)
        writer.add(ids, {name: batches.pop(0) for name, batches in ready.items()}, columns)


def compared(score: Score, encoding: Encoding, encoder: str) -> Tensor:
    """The vectors [N, D] that a score multiplies, NaN in absent rows; raises `ComponentError` where it has none."""
    vectors = score.vectors(encoding)
    if vectors is None or vectors.ndim != 2:
        raise ComponentError(
            f"the vectors of {encoder} are compared by {score.use}, no dot product: there are no codes for them"
        )
    present = encoding.present
    return vectors if present is None else vectors.masked_fill(~present.unsqueeze(-1), torch.nan)


def source_of(loaded: LoadedModel, data: Data) -> Source:
    """The source behind `data`; raises `ComponentError` where there is none."""
    if isinstance(data, Source):
        return data
    if isinstance(data, str) and isinstance(loaded.origin, FoundRun) and data in loaded.origin.spec.data:
        return loaded.origin.with_data().data[data]
    if isinstance(data, str):
        declared = registry().plugins.hook.mmflow_source_at(url=data)
        if declared is None:
            entries = loaded.origin.spec.data if isinstance(loaded.origin, FoundRun) else ()
            raise ComponentError(
                f"{data} is neither an entry of the run's data nor a file that a source reads",
                expected=f"one of: {', '.join(entries)}" if entries else "", hint=did_you_mean(data, entries) or "",
            )  # fmt: skip
        data = declared
    try:
        found = Source.accept(data)
    except ComponentError:
        raise
    except ValueError as error:
        said = "; ".join(str(error).splitlines()[1:3]) or str(error)
        raise ComponentError(f"{data} declares no source: {said}") from error
    assert isinstance(found, Source)
    return found


def score_of(loaded: LoadedModel, encoder: str) -> Score:
    """The score by which an encoder's vectors are compared: that of the first loss that does; else the cosine."""
    return loaded.trained_score((encoder,))


def plain(values: RawValue, declared: TensorType) -> list[RawValue]:
    """A plain value a row: a number, a text, the name of a class; None where it is absent."""
    if isinstance(values, Tokens):
        raise ComponentError(f"fields of {declared.modality} are not stored beside vectors")
    found = values.tolist() if isinstance(values, Tensor) else list(values)
    form = modality(declared.modality)
    if form.classes and declared.names:
        return [None if number is None or number < 0 else form.caption(number, declared) for number in found]
    return [None if isinstance(value, float) and value != value else value for value in found]


def _check_field(name: str, known: Mapping[str, TensorType], encoders: Sequence[str]) -> None:
    if name not in known:
        near = did_you_mean(name, known)
        raise ComponentError(
            f"the data have no field {name!r}", expected=f"one of: {', '.join(known)}", hint=near or ""
        )
    if name in encoders:
        raise ComponentError(f"the field {name} has the name of an encoder, whose vectors stand under it")
    if known[name].modality in ("image", "audio", "video", "graph") or known[name].static:
        raise ComponentError(f"the field {name} ({known[name].modality}) is not stored beside vectors")


def _add(index: IndexWriter, score: Score, encoding: Encoding, encoder: str, first: int) -> None:
    vectors = score.vectors(encoding)
    if vectors is None or vectors.ndim != 2:
        raise ComponentError(
            f"the vectors of {encoder} are compared by {score.use}, which is no dot product: there is no index for them"
        )
    rows = torch.arange(first, first + len(vectors))
    if encoding.present is not None:
        vectors, rows = vectors[encoding.present], rows[encoding.present]
    if len(rows):
        index.add(vectors.float().numpy(), rows.numpy())


def _origin(loaded: LoadedModel) -> str:
    return loaded.origin.record.id if isinstance(loaded.origin, FoundRun) else loaded.origin.name
