"""Where a step cuts the graph: outputs kept whole as leaves, joined from micro-batches, with their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmflow.plugin.addresses import address
from mmflow.plugin.values import Argument, Encoding, Tokens


@dataclass
class Kept:
    """An output for the whole batch: the leaf that readers use, and the graph that it was cut from."""

    encoding: Encoding
    leaf: Tensor | None
    origin: Tensor | None = None
    """The tensor with its graph, for outputs of batch nodes."""

    def add_gradient(self, rows: slice | Tensor, gradient: Tensor | None) -> None:
        """Add the gradient of some rows; of rows by number, which may be there more than once."""
        if gradient is None or self.leaf is None:
            return
        if self.leaf.grad is None:
            self.leaf.grad = torch.zeros_like(self.leaf)
        if isinstance(rows, Tensor):
            self.leaf.grad.index_put_((rows,), gradient.to(self.leaf.dtype), accumulate=True)
        else:
            self.leaf.grad[rows] += gradient


def remembered(column: Tensor | Sequence[str | None], device: torch.device) -> Tensor:
    """A column as memories are given it, without gradient. Ids become numbers, equal for equal ids, -1 for none."""
    if isinstance(column, Tensor):
        return column.detach()
    return torch.tensor([-1 if id is None else address(id) for id in column], dtype=torch.int64, device=device)


def join(parts: list[Encoding]) -> Encoding:
    """Micro-batches of one output, as one; token sequences are padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    present = None if first.present is None else torch.cat([p.present for p in parts if p.present is not None])
    outputs: dict[str, Argument] = {}
    for name, value in first.outputs.items():
        pieces = [p.outputs[name] for p in parts]
        if isinstance(value, Tokens):
            length = max(p.values.shape[1] for p in pieces)
            outputs[name] = Tokens(
                torch.cat([_padded(p.values, length) for p in pieces]),
                torch.cat([_padded(p.mask, length) for p in pieces]),
            )
        else:
            outputs[name] = torch.cat(pieces)
    return Encoding(outputs, first.axes, present)


def _padded(tensor: Tensor, length: int) -> Tensor:
    if tensor.shape[1] == length:
        return tensor
    shape = (tensor.shape[0], length - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)


def cut(encoding: Encoding, name: str, *, keep_graph: bool = False) -> Kept:
    """Detach an output from its graph as a leaf that collects gradient."""
    value = encoding.outputs[name]
    tensor = value.values if isinstance(value, Tokens) else value
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return Kept(encoding.map(torch.Tensor.detach), None)
    # Half-precision outputs of the encoders meet in full precision: losses are not autocast.
    leaf = (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).detach().requires_grad_()
    again = Tokens(leaf, value.mask) if isinstance(value, Tokens) else leaf
    kept = Kept(Encoding({name: again}, encoding.axes, encoding.present), leaf)
    if keep_graph and tensor.requires_grad:
        kept.origin = tensor
    return kept


@contextmanager
def running_statistics(root: nn.Module, *, move: bool) -> Iterator[None]:
    """Let running statistics of normalization layers move, or not: only the pass that carries gradient may."""
    if move:
        yield
        return
    layers = [m for m in root.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
