"""Warnings about a training that ended well: signs that it learned nothing, from what it has logged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mmflow.data import count_of
from mmflow.data.contents import digests, spread
from mmflow.plugin.kinds import Source
from mmflow.plugin.samples import SampleError

FEW_STEPS = 50
"""Steps below which a model that begins untrained has hardly moved."""
LOOKED_AT = 2000
"""Samples from all over the data that are looked at for equal ones."""
NEAR = 0.02
"""Relative distance at which a loss is what guessing gives."""
STILL = 0.005
"""Relative range in which a loss counts as one that did not move."""
ENOUGH = 5
"""Logged lines from which on something can be said about a course."""
NOTHING = 1e-7
"""Norm of the gradient, relative to the loss, that moves nothing."""

Line = Mapping[str, float]
"""A logged step: `loss/NAME`, `rows/NAME`, `grad_norm`, `lr`, `value/PATH`."""


class Length(NamedTuple):
    """How long a training was: its steps, its batches, and the samples of its data where they are known."""

    steps: int
    batch_size: int
    samples: int | None


class Bounds(NamedTuple):
    """Where a learned number must stay; None: no end."""

    low: float | None
    high: float | None


def remarks(
    history: Sequence[Line], length: Length, *, untrained: bool, contrasts: Sequence[str], bounds: Mapping[str, Bounds]
) -> Iterator[str]:
    """Sentences about a course of training; none about one that looks healthy.

    `untrained`: it began with an untrained model. `contrasts` names the losses that tell the rows of a batch apart,
    `bounds` the learned numbers by path.
    """
    if untrained and length.steps < FEW_STEPS:
        yield _few_steps(length)
    elif len(history) >= ENOUGH:
        yield from _course(history, contrasts)
    for path, (low, high) in bounds.items() if history else ():
        value = history[-1].get(f"value/{path}", math.nan)
        for end, name in ((low, "min"), (high, "max")):
            if end is not None and low != high and math.isclose(value, end, rel_tol=1e-4, abs_tol=1e-9):
                yield f"{path} ends at its bound, `{name}: {end:g}`: without it, it would go further"


def equal_rows(source: Source, fields: Sequence[str], loss: str, batch_size: int) -> Iterator[str]:
    """A sentence where a row has, on average, another of equal `fields` in its batch, which `loss` takes for wrong."""
    count = count_of(source) if source.streaming() is None else None
    if not count or count < 2:
        return
    try:
        looked = spread(count, LOOKED_AT)
        found = digests(source, fields, looked).values()
    except SampleError:
        # Samples that are left out by policy were told where they were read.
        return
    if len(found) < 2:
        return
    kinds = Counter(found)
    share = sum(n * (n - 1) for n in kinds.values()) / (len(found) * (len(found) - 1))
    # Rows without a value are in no loss.
    others = (min(batch_size, count) * len(found) / len(looked) - 1) * share
    if others >= 1:
        named = " and ".join(fields)
        yield (
            f"a row has on average {others:.1f} others of equal {named} in its batch of {min(batch_size, count)} "
            f"({len(kinds):,} different in {len(found):,} rows), and the loss {loss} takes them for wrong answers: "
            f"use a loss in which rows of one {named} match, or smaller batches"
        )


def _few_steps(length: Length) -> str:
    batch = min(length.batch_size, length.samples or length.batch_size)
    steps = f"{length.steps} step{'' if length.steps == 1 else 's'} of {batch} samples"
    epoch = ""
    if length.samples:
        in_epoch = max(1, length.samples // length.batch_size)
        epoch = f": an epoch of the {length.samples:,} samples has {in_epoch}, so give more `epochs`, or a smaller"
        epoch += " `batch_size`"
        if length.samples < length.batch_size:
            epoch += f" ({length.batch_size} is more than there are)"
    return f"trained for {steps} only, too few to learn much{epoch}"


def _course(history: Sequence[Line], contrasts: Sequence[str]) -> Iterator[str]:
    late = history[len(history) // 2 :]
    total = [line["loss"] for line in history]
    size = max(abs(total[0]), abs(total[-1]))
    if not any(line.get("lr") for line in history):
        yield "the learning rate was 0 at every step: look at `lr` and `schedule`"
        return
    still = [line["grad_norm"] for line in late]
    for name in sorted(key for key in history[0] if key.startswith("loss/")):
        if all(line.get(name, math.nan) == 0 for line in history):
            yield f"the loss {name.removeprefix('loss/')} was 0 at every step that is logged: it has trained nothing"
    if not any(total):
        return
    if size > 1e-6 and max(still) <= NOTHING * size:
        since = f"from step {late[0]['step']:.0f} on, at a loss of {total[-1]:.4g}"
        yield f"the norm of the gradient is {max(still):.1g} or less {since}: nothing trains any more"
        return
    guessing = [name for name in contrasts if _guesses(late, name)]
    for name in guessing:
        rows = _mean(late, f"rows/{name}")
        yield (
            f"the loss {name} ends at {_mean(late, f'loss/{name}'):.3f}, and guessing among {rows:.0f} rows gives "
            f"log {rows:.0f} = {math.log(rows):.3f}: it has learned to tell no row from another; look at the learning "
            "rate, the temperature, what is frozen, and whether the rows belong together"
        )
    if not guessing and size > 0 and max(total) - min(total) <= STILL * size:
        yield f"the loss went from {total[0]:.4g} to {total[-1]:.4g} and never moved by more: it has learned nothing"


def _guesses(late: Sequence[Line], name: str) -> bool:
    """Whether a loss stays at the logarithm of the rows that it compares."""
    rows, values = _mean(late, f"rows/{name}"), [line.get(f"loss/{name}", math.nan) for line in late]
    if not rows >= 4:
        return False
    chance = math.log(rows)
    return all(abs(value - chance) <= NEAR * chance for value in values)


def _mean(lines: Sequence[Line], key: str) -> float:
    found = [line[key] for line in lines if key in line]
    return sum(found) / len(found) if found else math.nan
