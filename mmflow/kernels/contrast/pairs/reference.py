"""Which pairs are positives and which are excluded, by their definitions, as N x M matrices."""

import torch
from torch import Tensor


def pair_masks(
    n: int,
    m: int,
    device: torch.device,
    *,
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    x_views: Tensor | None = None,
    y_views: Tensor | None = None,
    x_present: Tensor | None = None,
    y_present: Tensor | None = None,
    exclude: tuple[str, ...] = (),
) -> tuple[Tensor, Tensor]:
    """(positive, excluded), each [N, M]."""
    eye = torch.eye(n, m, dtype=torch.bool, device=device)
    out = torch.zeros(n, m, dtype=torch.bool, device=device)
    if x_present is not None:
        out |= ~x_present[:, None]
    if y_present is not None:
        out |= ~y_present[None, :]
    if "self" in exclude:
        out |= eye
    if "same_view" in exclude:
        assert x_views is not None
        assert y_views is not None
        out |= x_views[:, None] == y_views[None, :]
    if x_ids is None or y_ids is None:
        return eye & ~out, out
    same = x_ids[:, None] == y_ids[None, :]
    if "same_id" in exclude:
        positive = eye & ~out
        return positive, out | (same & ~positive)
    return same & ~out, out
