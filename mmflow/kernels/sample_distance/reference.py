"""Match probabilities by their definition, all distances written out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def match_log_probability(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    distance = ((x[:, None, :, None] - y[None, :, None, :]).square().sum(-1) + 1e-6).sqrt()
    score = (2 * (shift - scale * distance)).flatten(2)
    count = math.log(score.shape[2])
    return torch.logsumexp(F.logsigmoid(score), 2) - count, torch.logsumexp(F.logsigmoid(-score), 2) - count


def sample_contrast(x: Tensor, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    match, no_match = match_log_probability(x, y, scale, shift)
    return -(match.diagonal().sum() + no_match.sum() - no_match.diagonal().sum())
