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
    score: Score,
    options: Mapping[str, Any],
    *,
    negatives: Encoding | None = None,
    own_negatives: Encoding | None = None,
    own_weight: float = 0.0,
) -> Tensor:
    """Run the streamed kernel: on vectors where the score gives them, otherwise block by block through the score.

    `negatives` are candidates of every row, `own_negatives` [N, D] or [N, K, D] those of their own row;
    `own_weight` is added to the score of row i with negative i.
    """
    for side in (a, b):
        if len(side.axes) > 1:
            raise ComponentError(
                f"{name} compares one vector a row with one", found=f"an input with the axis {side.axes[1]!r}",
                hint="write image.0 for the first of a group, or use supcon, which takes groups",
            )  # fmt: skip
    if own_weight and negatives is not None:
        b, more = _with_weighted(name, b, negatives, own_weight)
        negatives, options = None, {**options, **more}
    negatives = None if negatives is None else _ungrouped(negatives)
    present = None if negatives is None else negatives.present
    x, y = score.vectors(a), score.vectors(b)
    if x is not None and y is not None:
        further = None if negatives is None else score.vectors(negatives)
        if own_negatives is not None:
            options = {**options, **_private(own_negatives, score, len(x))}
        return over_vectors(x, y, negatives=further, negatives_present=present, **options)
    if own_negatives is not None:
        raise ComponentError(
            f"{name}: own_negatives need a score of vectors", found=f"the score {score.use}",
            hint="use cosine or dot, or make them candidates of all rows: negatives",
        )  # fmt: skip
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


def _with_weighted(name: str, b: Encoding, negatives: Encoding, own_weight: float) -> tuple[Encoding, dict[str, Any]]:
    """Candidates and negatives [N + N] as one side, and the options that pair and weigh them."""
    import math

    import torch

    count = len(b)
    if len(negatives) != count or len(negatives.axes) > 1:
        raise ComponentError(
            f"{name}: own_weight needs one negative a row", found="a memory, or several negatives a row",
            hint="name an encoder in `negatives`, or leave own_weight out",
        )  # fmt: skip
    mine, theirs = _unpacked(b), _unpacked(negatives)
    side = _packed(type(b), {key: torch.cat([value, theirs[key]]) for key, value in mine.items()})
    device = next(iter(mine.values())).device

    def weights(rows: slice, columns: slice) -> Tensor:
        i = torch.arange(rows.start, rows.stop, device=device)
        j = torch.arange(columns.start, columns.stop, device=device)
        own = i[:, None] + count == j[None]
        return torch.where(own, math.exp(own_weight), 1.0)

    ids = torch.arange(2 * count, device=device)
    more: dict[str, Any] = {"x_ids": ids[:count], "y_ids": ids, "pair_weights": weights}
    if negatives.present is not None:
        here = negatives.present
        more["y_present"] = torch.cat([torch.ones_like(here), here])
    return side, more


def _private(own: Encoding, score: Score, rows: int) -> dict[str, Any]:
    """Candidates of one row each as the kernel takes them: [N, K, D], and where they are present [N, K]."""
    vectors = score.vectors(_ungrouped(own))
    assert vectors is not None
    present = own.present
    if present is not None:
        present = present.view(rows, -1).expand(rows, len(vectors) // rows)
    return {"private_negatives": vectors.view(rows, -1, vectors.shape[-1]), "private_present": present}


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
