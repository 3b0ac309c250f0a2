"""Late interaction by its definition: the whole [N, M, P, T] tensor, differentiated by autograd."""

import torch
from torch import Tensor

from ..tiles_reference import score_contrast


def max_sim(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    x_valid: Tensor | None,
    y_valid: Tensor | None,
    inner: float | None,
) -> tuple[Tensor, Tensor]:
    similarity = torch.einsum("ipd,jtd->ijpt", x, y)
    over_y = pool(similarity, None if y_valid is None else y_valid[None, :, None, :], -1, inner)
    over_x = pool(similarity, None if x_valid is None else x_valid[:, None, :, None], -2, inner)
    return torch.einsum("ijp,ip->ij", over_y, x_weight), torch.einsum("ijt,jt->ij", over_x, y_weight)


def pool(similarity: Tensor, valid: Tensor | None, dim: int, inner: float | None) -> Tensor:
    """Maximum, or softmax-weighted mean, over the valid entries of `dim`; 0 where none is valid."""
    if valid is None:
        valid = torch.ones((), dtype=torch.bool, device=similarity.device)
    some = valid.expand_as(similarity).any(dim)
    # Where nothing is valid all entries are let in, so that no NaN enters the gradient before the last line.
    entering = valid | ~some.unsqueeze(dim)
    if inner is None:
        index = similarity.masked_fill(~entering, -torch.inf).argmax(dim, keepdim=True)
        best = similarity.gather(dim, index).squeeze(dim)
    else:
        share = (similarity / inner).masked_fill(~entering, -torch.inf).softmax(dim)
        best = (share * similarity).sum(dim)
    return best.masked_fill(~some, 0.0)


def max_sim_contrast(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    x_valid: Tensor | None,
    y_valid: Tensor | None,
    inner: float | None,
    temperature: Tensor,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    over_y, over_x = max_sim(x, y, x_weight, y_weight, x_valid, y_valid, inner)
    x_present = None if x_valid is None else x_valid.any(1)
    y_present = None if y_valid is None else y_valid.any(1)
    return score_contrast(over_y / temperature, over_x / temperature, x_present, y_present, label_smoothing)
