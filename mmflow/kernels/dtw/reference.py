"""Dynamic time warping by its definition: a loop over cells, differentiated by autograd."""

import torch
from torch import Tensor


def soft_dtw(cost: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor) -> Tensor:
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
    batch, rows, columns = cost.shape
    border = cost.new_full((batch,), torch.inf)
    totals = [[border] * (columns + 1) for _ in range(rows + 1)]
    totals[0][0] = torch.zeros_like(border)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            before = torch.stack([totals[i - 1][j - 1], totals[i - 1][j], totals[i][j - 1]])
            if gamma == 0:
                best = before.gather(0, before.argmin(0, keepdim=True)).squeeze(0)
            else:
                best = -gamma * torch.logsumexp(-before / gamma, 0)
            totals[i][j] = cost[:, i - 1, j - 1] + best
    table = torch.stack([torch.stack(row[1:]) for row in totals[1:]])
    return table[x_lengths - 1, y_lengths - 1, torch.arange(batch, device=cost.device)]


def pair_soft_dtw(x: Tensor, y: Tensor, gamma: float, x_lengths: Tensor, y_lengths: Tensor, metric: str) -> Tensor:
    n, m = len(x), len(y)
    if metric == "dot":
        cost = 1 - torch.einsum("itd,jud->ijtu", x, y)
    else:
        cost = (x[:, None, :, None] - y[None, :, None, :]).square().sum(-1)
    rows, columns = x_lengths[:, None].expand(n, m).reshape(-1), y_lengths.expand(n, m).reshape(-1)
    return soft_dtw(cost.flatten(0, 1), gamma, rows, columns).view(n, m)
