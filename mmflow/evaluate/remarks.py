"""Warnings about a measurement: metrics that guessing reaches, vectors that are nearly one, data seen in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmflow.data import count_of
from mmflow.data.contents import digests, spread
from mmflow.plugin.kinds import Source
from mmflow.plugin.values import Encoding, Metric

SAME = 0.99
"""Mean cosine of different rows from which vectors are nearly one."""
FILLED = 1.5
"""Dimensions that such vectors fill at most."""
ROWS = 8
"""Rows from which the likeness of vectors says something."""
LOOKED_AT = 256
"""Samples of an entry of data that are compared with those of another; of smaller entries, all."""
IDS = 100_000
"""Samples of an entry up to which ids are compared."""
SHOWN = 3


def guessing(metrics: Sequence[Metric]) -> Iterator[str]:
    """A sentence where every metric of a group has its chance level inside its interval, or all are beyond it."""
    groups: dict[str, list[tuple[Metric, float, float]]] = {}
    for metric in metrics:
        interval = metric.interval
        if metric.chance is not None and metric.better and interval is not None and interval[0] < interval[1]:
            groups.setdefault(metric.group, []).append((metric, *interval))
    at_chance: list[Metric] = []
    below: list[Metric] = []
    for found in groups.values():
        signs = [_side(metric, low, high) for metric, low, high in found]
        if not any(signs):
            at_chance += [metric for metric, _, _ in found]
        elif all(sign < 0 for sign in signs):
            below += [metric for metric, _, _ in found]
    if at_chance:
        yield f"cannot be told from guessing: {_listed(at_chance)}"
    if below:
        yield f"worse than guessing: {_listed(below)}; look for answers that are shifted, or swapped"


def _side(metric: Metric, low: float, high: float) -> int:
    """1 for a metric that is better than its chance beyond its interval, -1 for a worse one, 0 for neither."""
    assert metric.chance is not None
    above = int(low > metric.chance) - int(high < metric.chance)
    return above if metric.better == "higher" else -above


def _listed(metrics: Sequence[Metric]) -> str:
    said = []
    for metric in metrics[:SHOWN]:
        low, high = metric.interval or (metric.value, metric.value)
        ends = f"95 % from {low:.3g} to {high:.3g}"
        said.append(f"{metric.label} {metric.value:.3g} ({ends}, chance {metric.chance:.3g})")
    more = len(metrics) - SHOWN
    return ", ".join(said) + (f", and {more} more" if more > 0 else "")


def alike(name: str, encoding: Encoding) -> Iterator[str]:
    """A sentence where the vectors of all rows are nearly the same."""
    vectors = encoding.outputs.get("pooled")
    if not isinstance(vectors, Tensor) or vectors.ndim < 2 or vectors.shape[-1] < 2:
        return
    present = encoding.present
    if present is not None and present.ndim == vectors.ndim - 1:
        vectors = vectors[present]
    elif present is not None:
        vectors = vectors[present.reshape(len(present), -1).any(1)]
    units = torch.nn.functional.normalize(vectors.reshape(-1, vectors.shape[-1]).double().cpu(), dim=-1)
    count = len(units)
    if count < ROWS or not bool(units.any()):
        return
    cosine = float((units.sum(0).square().sum() - units.square().sum()) / (count * (count - 1)))
    filled = float(count**2 / (units.T @ units).square().sum())
    if cosine > SAME and filled < FILLED:
        yield (
            f"the vectors of {name} are nearly the same for all {count:,} rows: the mean cosine of two is "
            f"{cosine:.5f}, and they fill {filled:.2f} of {units.shape[1]} dimensions (an effective rank near 1)"
        )


def shared_samples(
    measured: tuple[str, Source], learned: tuple[str, Source], fields: Sequence[str], doing: str
) -> Iterator[str]:
    """A sentence where samples of one entry of data are also in another, by id and content or by content alone.

    Samples are equal where the raw values of `fields` are. Entries without random access are not compared.
    """
    (name, source), (other, known) = measured, learned
    fields = [field for field in fields if field in source.fields() and field in known.fields()]
    counts = [count_of(entry) if entry.streaming() is None else None for entry in (source, known)]
    if not fields or not all(counts):
        return
    try:
        rows, others = (
            digests(entry, fields, spread(count or 0, LOOKED_AT))
            for entry, count in zip((source, known), counts, strict=True)
        )
        found = sum(digest in others.values() for digest in rows.values())
        partly = max(count or 0 for count in counts) > LOOKED_AT
        if not found and partly:
            rows = _with_common_ids(source, known, fields)
            found = len(rows)
    except Exception:
        # Samples that cannot be read are told where they are needed.
        return
    if found:
        looked = " that were looked at" if partly else ""
        yield f"{found:,} of {len(rows):,} rows of {name}{looked} are also in {other}, {doing}"


def _with_common_ids(source: Source, known: Source, fields: Sequence[str]) -> dict[str, bytes]:
    """Samples that both entries have under one id and with one content, of some ids that both have."""
    if max(count_of(source) or 0, count_of(known) or 0) > IDS:
        return {}
    places = [{entry.id(i): i for i in range(len(entry))} for entry in (source.open(), known.open())]
    common = [id for id in places[0] if id in places[1]]
    common = common[:: max(1, len(common) // LOOKED_AT)][:LOOKED_AT]
    one, two = (
        digests(entry, fields, [at[id] for id in common]) for entry, at in zip((source, known), places, strict=True)
    )
    return {id: digest for id, digest in one.items() if two.get(id) == digest}
