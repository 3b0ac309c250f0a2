"""One call of a streamed contrastive kernel, whatever the score is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import ComponentError, Score

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


def contrast(
    name: str,
    over_vectors: Callable[..., Tensor],
    over_blocks: Callable[..., Tensor],
    a: Encoding,
    b: Encoding,
    negatives: Encoding | None,
    score: Score,
    options: Mapping[str, Any],
) -> Tensor:
    """Run the streamed kernel: on vectors where the score gives them, otherwise block by block through the score."""
    for side in (a, b):
        if len(side.axes) > 1:
            raise ComponentError(
                f"{name} compares one vector a row with one", found=f"an input with the axis {side.axes[1]!r}",
                hint="write image.0 for the first of a group, or use supcon, which takes groups",
            )  # fmt: skip
    negatives = None if negatives is None else _ungrouped(negatives)
    present = None if negatives is None else negatives.present
    x, y = score.vectors(a), score.vectors(b)
    if x is not None and y is not None:
        further = None if negatives is None else score.vectors(negatives)
        return over_vectors(x, y, negatives=further, negatives_present=present, **options)
    kind = type(a)

    def blocks(rows: dict[str, Tensor], columns: dict[str, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        scored = score.blocks(_packed(kind, rows), _packed(kind, columns))
        return (scored[0], scored[1].T) if isinstance(scored, tuple) else scored

    further = None if negatives is None else _unpacked(negatives)
    mine = _unpacked(a)
    if further is not None and further.keys() != mine.keys():
        raise ComponentError(
            f"{name}: the score {score.use!r} needs {', '.join(score.needs)}, which the negatives do not have",
            hint="a memory holds pooled vectors; use cosine or dot, or take an encoder as negatives",
        )
    parameters = getattr(score, "parameters", tuple)()
    return over_blocks(blocks, mine, _unpacked(b), parameters, negatives=further, negatives_present=present, **options)


def _ungrouped(encoding: Encoding) -> Encoding:
    """Group axes as rows: several negatives a row are candidates of every row."""
    groups = len(encoding.axes) - 1
    return encoding.map(lambda tensor: tensor.flatten(0, groups)) if groups else encoding


def _unpacked(encoding: Encoding) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, value in encoding.outputs.items():
        if isinstance(value, tuple):
            tensors[f"{name}.values"], tensors[f"{name}.mask"] = value
        else:
            tensors[name] = value
    return tensors


def _packed(kind: type[Encoding], tensors: Mapping[str, Tensor]) -> Encoding:
    from mmflow.plugin import Tokens

    outputs: dict[str, Any] = {}
    for name, tensor in tensors.items():
        output, _, part = name.rpartition(".")
        if part == "values":
            outputs[output] = Tokens(tensor, tensors[f"{output}.mask"])
        elif part != "mask":
            outputs[name] = tensor
    return kind(outputs)
