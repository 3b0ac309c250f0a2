"""Gram volume by its definition: a determinant for every pair."""

import torch
from torch import Tensor

from ..late_interaction.reference import score_contrast


def gram_volume(x: Tensor, y: Tensor, eps: float) -> Tensor:
    n, m, k = len(x), len(y), y.shape[1] + 1
    gram = x.new_empty(n, m, k, k)
    cross = torch.einsum("id,jrd->ijr", x, y)
    gram = torch.cat(
        [
            torch.cat([(x * x).sum(1).view(n, 1, 1, 1).expand(n, m, 1, 1), cross.unsqueeze(2)], 3),
            torch.cat([cross.unsqueeze(3), torch.einsum("jrd,jsd->jrs", y, y).expand(n, m, k - 1, k - 1)], 3),
        ],
        2,
    )
    return torch.linalg.det(gram).clamp_min(eps).sqrt()


def gram_contrast(
    x: Tensor, y: Tensor, eps: float, temperature: Tensor, label_smoothing: float, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    logits = -gram_volume(x, y, eps) / temperature
    return score_contrast(logits, logits, present, present, label_smoothing)
