"""The losses of a step: their values on rows present in all inputs, weighted means, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmflow.model.execution import Execution
from mmflow.model.gathering import Ids
from mmflow.model.graph import Node
from mmflow.model.rows import batch_inputs, folded, row_axis
from mmflow.plugin.kinds import Loss
from mmflow.plugin.numbers import Clock
from mmflow.plugin.targets import Owner, Place
from mmflow.plugin.values import NUMBER, Encoding, same_rows

Reads = Mapping[Place, Encoding | None]
"""The encodings that the references of a node gave, by their places; None where a memory is not ready."""

WEIGHT: Place = ("weight",)
"""The factor of the loss, where it is a number of the batch."""

ROWS: Place = ("rows",)
"""The reference to a weight or mask for each row."""


@dataclass
class RowSum:
    """A loss over rows: the sum of value times weight (of a batch loss the value), the sum of weights, and the rows."""

    value: Tensor
    weight: Tensor
    rows: int = 0


@dataclass
class StepResult:
    """The measurements of a step: losses by name, their weights, and rows that took part."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """Values before their weights, 0-d, on the device: reading one waits for the device."""
    weights: dict[str, float | Tensor] = field(default_factory=dict)
    """Factors of the losses in their sum."""
    rows: dict[str, int] = field(default_factory=dict)
    shares: dict[str, Tensor] = field(default_factory=dict)
    """Sums of the weights of the rows that took part; 0 where no row did."""
    memories: dict[Owner, dict[str, Tensor]] = field(default_factory=dict)

    def add(self, other: StepResult) -> None:
        """Take over what a further forward of the step measured."""
        self.losses |= other.losses
        self.weights |= other.weights
        self.rows |= other.rows
        self.shares |= other.shares
        self.memories |= other.memories

    def numbers(self) -> dict[str, float]:
        """`loss` (weighted total), `loss/NAME` and `rows/NAME`, read from the device."""
        values = {name: float(value) for name, value in self.losses.items()}
        total = sum(values[name] * float(self.weights[name]) for name in values)
        rows = {f"rows/{name}": float(count) for name, count in self.rows.items()}
        return {"loss": total, **{f"loss/{name}": value for name, value in values.items()}, **rows}


def active(node: Node, clock: Clock) -> bool:
    """Whether a loss takes part in this step."""
    limits = node.component.active if isinstance(node.component, Loss) else None
    return limits is None or limits.at(clock.step, clock.epoch)


def row_loss(execution: Execution, node: Node, reads: Reads, ids: Ids) -> RowSum | None:
    """The sums of a row loss over the rows of a micro-batch, whose ids are `ids`, by axis; None where no row is there.

    Group axes that the loss does not take itself are folded into rows: each member is a row.
    """
    if _numberless(reads):
        return None
    axes = type(node.component).axes if isinstance(node.component, Loss) else ()
    reads, names = folded(reads, axes, _names(ids, reads))
    kept, index, count = batch_inputs(inputs_of(reads))
    if count == 0:
        return None
    found = execution.call(node, kept, ids=picked(names, index, count))
    value, weight = found if isinstance(found, tuple) else (found, torch.ones_like(found))
    weight = weight.detach().to(value.dtype)
    if (given := reads.get(ROWS)) is not None:
        weight = weight * row_weights(given, index).to(value.dtype)
    # A row of weight zero may hold anything, infinities included.
    return RowSum(torch.where(weight == 0, 0, value * weight).sum(), weight.sum(), count)


def batch_loss(execution: Execution, node: Node, reads: Reads, ids: Ids) -> RowSum | None:
    """A batch loss (0-d) with the rows that took part, none perhaps; None where a memory that it needs is not ready."""
    if _numberless(reads) or any(found is None and node.requires(place) for place, found in reads.items()):
        return None
    paired = isinstance(node.component, Loss) and node.component.paired
    kept, index, count = batch_inputs(inputs_of(reads), paired=paired)
    given = reads.get(ROWS)
    if given is not None and (mask := next(iter(given.outputs.values()))).dtype == torch.bool:
        chosen = (mask if index is None else mask[index]).nonzero().squeeze(1)
        axis = row_axis(list(kept.values()))
        belong = same_rows if paired else str.__eq__
        kept = {p: e.rows(chosen) if e is not None and belong(e.axes[0], axis) else e for p, e in kept.items()}
        count, given = int(chosen.numel()), None
        index = chosen if index is None else index[chosen]
    names = _names(ids, reads)
    if not kept:
        # It reads weights alone.
        names = next(iter(ids.values()), ())
        count = len(names)
    if count == 0:
        return RowSum(torch.zeros(()), torch.zeros(()))
    found: Tensor = execution.call(node, kept, ids=picked(names, index, count))
    share = torch.tensor(float(count))
    if found.ndim:
        weights = row_weights(given, index).to(found.dtype) if given is not None else None
        share = share if weights is None else weights.sum()
        found = found.mean() if weights is None else (found * weights).sum() / share.clamp_min(1e-12)
    elif given is not None:
        raise TypeError(f"{node.owner}: `rows` weights need a loss that returns one value per row")
    return RowSum(found, share, count)


def _numberless(reads: Reads) -> bool:
    """Whether a number of the batch is not there, as no row was."""
    return any(e is not None and e.axes == (NUMBER,) and e.present is not None for e in reads.values())


def inputs_of(reads: Reads) -> dict[Place, Encoding | None]:
    """The inputs of a method, without the weights of rows."""
    return {place: encoding for place, encoding in reads.items() if place not in (ROWS, WEIGHT)}


def row_weights(encoding: Encoding, index: Tensor | None) -> Tensor:
    weights: Tensor = next(iter(encoding.outputs.values()))
    return (weights if index is None else weights[index]).detach()


def _names(ids: Ids, reads: Reads) -> Sequence[str]:
    """The ids of the rows that a loss compares; none where they are numbers."""
    return ids.get(row_axis([e for p, e in reads.items() if p not in (ROWS, WEIGHT)]), ())


def picked(ids: Sequence[str], index: Tensor | None, count: int) -> Sequence[str]:
    """The ids at `index`, or of all `count` rows where None; rows without a name of their own have their number."""
    if index is None:
        return ids or list(map(str, range(count)))
    places: list[int] = index.tolist()
    return [ids[place] if place < len(ids) else str(place) for place in places]


def positive(weight: Tensor) -> Tensor:
    """A sum of weights to divide by: where no row took part, the loss is 0."""
    weight = weight if weight.is_floating_point() else weight.float()
    return weight.clamp_min(torch.finfo(weight.dtype).tiny)
