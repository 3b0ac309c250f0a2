"""Checks of the values that the methods of components give."""

from __future__ import annotations

from torch import Tensor

from mmflow.model.graph import Node
from mmflow.plugin.authors import place_of
from mmflow.plugin.component import ComponentError
from mmflow.plugin.values import Argument


def check_number(node: Node, found: Argument) -> None:
    """Refuse the value of a number of the batch that is no single number in a tensor."""
    if isinstance(found, Tensor) and found.numel() == 1 and found.is_floating_point():
        return
    said = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    made = type(node.component)
    raise ComponentError(
        f"{node.owner}: {made.method}() of {made.__name__} ({place_of(getattr(made, made.method))}) returned {said}",
        expected="a 0-d tensor of floats",
        hint="take the mean over the rows, and keep tensors: no float(), no .item()",
    )


def check_loss(node: Node, found: Argument) -> None:
    """Refuse the value of a loss that is no tensor, or neither one value a row nor a scalar."""
    parts = found if isinstance(found, tuple) else (found,)
    if len(parts) <= 2 and all(isinstance(part, Tensor) and part.ndim <= 1 for part in parts):
        return
    said = [f"a tensor {list(part.shape)}" if isinstance(part, Tensor) else type(part).__name__ for part in parts]
    made = type(node.component)
    raise ComponentError(
        f"{node.owner}: {made.method}() of {made.__name__} ({place_of(getattr(made, made.method))}) returned "
        f"{' and '.join(said)}",
        expected="one value a row [N] (with a weight a row, if any), or a 0-d tensor",
        hint="take the mean over the other axes, and keep tensors: no float(), no .item()",
    )
