"""`search_vectors`: the rows of a file of vectors that are most like a text, an image or another value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmflow.out.coding import Form
from mmflow.out.embedding import compared
from mmflow.out.index import index_url, read_index
from mmflow.out.model import LoadedModel, pooled
from mmflow.out.reranking import TOP, ordered_again
from mmflow.out.tables import Row, Table
from mmflow.out.values import IN_FILES
from mmflow.out.vectors import Vectors, read_vectors
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Score
from mmflow.plugin.references import Written
from mmflow.plugin.values import Encoding, RawValue

if TYPE_CHECKING:
    import numpy as np

BLOCK = 65_536
"""Rows that are compared at a time, where there is no index."""
RESCORED = 4
"""Candidates among bits that are ordered again, for each row that is asked for."""


def search_vectors(
    loaded: LoadedModel, query: RawValue, vectors: str, *, of: str = "", by: str = "", most: int = 10, rerank: str = "",
    top: int = TOP,
) -> Table:  # fmt: skip
    """The `most` rows of a file of vectors that score highest with a query: `rank`, `score`, `id` and their fields.

    `by` is the encoder of the query (by default one that reads such a value), `of` that of the vectors (by default the
    only one in the file, or another than `by`). Vectors are compared by the score that the file names; with `rerank`,
    the name of a score among the parts of the model, the `top` rows are ordered again by it (`score`; that of the
    vectors is `first`), for which the file must hold the fields that `of` reads. Raises `ComponentError`.
    """
    stored = read_vectors(vectors)
    by = by or _reader(loaded, query)
    of = of or _searched(stored, by)
    if of not in stored.vectors:
        known = ", ".join(stored.vectors)
        raise ComponentError(f"{vectors} has no vectors of {of!r}", expected=f"one of: {known}")
    score = Score.accept(stored.about["scores"][of])
    assert isinstance(score, Score)
    asked = loaded.encodings_of({by: [query]}, outputs=score.needs)[by]
    own, theirs = list(pooled(asked).shape[1:]), list(stored.vectors[of].shape[1:])
    if own != theirs:
        raise ComponentError(
            f"vectors of {by} {own} and of {of} {theirs} differ in size",
            hint="the file was made with another model, or `by` and `of` were not trained together",
        )
    wanted = max(top, most) if rerank else most
    coded = stored.about.get("codes", {}).get(of)
    if coded is not None:
        values, rows = _among_codes(compared(score, asked, by)[0].float(), stored.vectors[of], coded["to"], wanted)
    else:
        values, rows = _best(score, asked, stored.vectors[of], index_url(vectors, of), wanted)
    first = dict(zip(rows, values, strict=True))
    if rerank:
        values, rows = ordered_again(loaded, by, query, of, stored, rows, rerank)
    found: list[Row] = []
    for rank, (value, row) in enumerate(zip(values[:most], rows, strict=False), 1):
        fields = {name: column[row] for name, column in stored.fields.items()}
        scores = {"score": value, "first": first[row]} if rerank else {"score": value}
        found.append({"rank": rank, **scores, "id": stored.ids[row], **fields})
    return Table(found, ("rank", "score", *(("first",) if rerank else ()), "id", *stored.fields))


def _best(score: Score, query: Encoding, vectors: np.ndarray, index: str, most: int) -> tuple[list[float], list[int]]:
    own = score.vectors(query)
    found = read_index(index) if own is not None and own.ndim == 2 else None
    if found is not None and own is not None:
        values, rows = found.search(own.float().numpy(), min(most, found.ntotal))
        return values[0].tolist(), rows[0].tolist()
    best_values, best_rows = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for first in range(0, len(vectors), BLOCK):
        block = torch.from_numpy(vectors[first : first + BLOCK])
        scores = score.blocks(query, Encoding({"pooled": block}))
        scores = (scores[0] if isinstance(scores, tuple) else scores)[0].float()
        # Absent rows are NaN.
        scores = scores.masked_fill(scores.isnan(), -torch.inf)
        values = torch.cat([best_values, scores])
        rows = torch.cat([best_rows, torch.arange(first, first + len(block))])
        # Equal scores in the order of the rows.
        order = torch.sort(values, descending=True, stable=True).indices[:most]
        best_values, best_rows = values[order], rows[order]
    there = best_values > -torch.inf
    return best_values[there].tolist(), best_rows[there].tolist()


def _among_codes(query: Tensor, stored: np.ndarray, to: Form, most: int) -> tuple[list[float], list[int]]:
    """The best rows by what codes give back; of bits those that share most with the query, ordered by its numbers."""
    candidates = torch.from_numpy(stored)
    there = (~candidates.isnan().any(1)).nonzero().flatten()
    candidates = candidates[there]
    if to == "binary":
        bits = (query > 0).float()
        shared = candidates @ bits + (1 - candidates) @ (1 - bits)
        kept = shared.sort(descending=True, stable=True).indices[: most * RESCORED].sort().values
        candidates, there = candidates[kept], there[kept]
    scores = candidates @ query
    order = scores.sort(descending=True, stable=True).indices[:most]
    return scores[order].tolist(), there[order].tolist()


def _reader(loaded: LoadedModel, query: RawValue) -> str:
    """An encoder that reads values like the query: a file's for a path that is there, else a text's."""
    reading: dict[str, list[str]] = {}
    for name in loaded.encoders:
        fields = loaded.fields(name)
        if len(fields) == 1:
            reading.setdefault(next(iter(fields.values())).modality, []).append(name)
    wanted = _modality(query, reading)
    if wanted not in reading:
        known = ", ".join(f"{name} ({kind})" for kind, names in reading.items() for name in names)
        raise ComponentError(
            f"no encoder of the model reads a single {wanted}", expected=f"a value for one of: {known}"
        )
    return reading[wanted][0]


def _modality(query: RawValue, reading: Mapping[str, Written]) -> str:
    files = [kind for kind in IN_FILES if kind in reading]
    if isinstance(query, str | Path):
        text = str(query)
        there = "://" in text or (len(text) < 1024 and "\n" not in text and Path(text).expanduser().is_file())
        return files[0] if there and files else "text"
    if isinstance(query, bytes) or hasattr(query, "getexif") or getattr(query, "ndim", 0) == 3:
        return "image"
    return files[0] if files else "text"


def _searched(stored: Vectors, by: str) -> str:
    others = [name for name in stored.vectors if name != by] or list(stored.vectors)
    if len(others) > 1:
        raise ComponentError(f"the file has vectors of {', '.join(others)}", hint="say of which with `of`")
    return others[0]
