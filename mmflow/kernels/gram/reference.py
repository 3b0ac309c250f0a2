"""Gram volume by its definition, a determinant for every pair; in float64, since float32 rounds above the floor."""

import torch
from torch import Tensor

from ..tiles_reference import score_contrast


def gram_volume(x: Tensor, y: Tensor, eps: float) -> Tensor:
    dtype = x.dtype
    precise = dtype if x.device.type == "mps" else torch.float64
    x, y = x.to(precise), y.to(precise)
    n, m, k = len(x), len(y), y.shape[1] + 1
    cross = torch.einsum("id,jrd->ijr", x, y)
    gram = torch.cat(
        [
            torch.cat([(x * x).sum(1).view(n, 1, 1, 1).expand(n, m, 1, 1), cross.unsqueeze(2)], 3),
            torch.cat([cross.unsqueeze(3), torch.einsum("jrd,jsd->jrs", y, y).expand(n, m, k - 1, k - 1)], 3),
        ],
        2,
    )
    return torch.linalg.det(gram).clamp_min(eps).sqrt().to(dtype)


def gram_contrast(
    x: Tensor, y: Tensor, eps: float, temperature: Tensor, label_smoothing: float, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    logits = -gram_volume(x, y, eps) / temperature
    return score_contrast(logits, logits, present, present, label_smoothing)
