"""Contrastive losses of two matrices, and of one with soft targets."""

# Most peers come with the extra `bench`; those that are absent are named as skipped.
# pyright: reportMissingImports=false

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .steps import Inputs, Operation, compiled, medium, pair_inputs, rows, trained

# InfoNCE


def info_nce(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from mmflow.kernels import info_nce

    return info_nce(x, y, temperature=1 / scale)


def info_nce_one_matrix(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits = (scale.to(x.dtype) * x) @ y.T
    here = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, here) + F.cross_entropy(logits.T, here)) / 2


def clip_loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from open_clip.loss import ClipLoss

    value = ClipLoss()(x, y, scale.to(x.dtype))
    assert isinstance(value, Tensor)
    return value


def symmetric_ranking(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Sentence-transformers' symmetric ranking loss; its scale is a number, so that it gives no gradient for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers.losses import (  # pyright: ignore[reportMissingImports]
            MultipleNegativesSymmetricRankingLoss,
        )
        from sentence_transformers.util import dot_score

    model: Any = torch.nn.Identity()
    return MultipleNegativesSymmetricRankingLoss(model, scale.item(), dot_score).compute_loss_from_embeddings(
        [x, y], torch.empty(0)
    )


def liger_linear_cross_entropy(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Liger's fused linear cross-entropy, one call for each direction."""
    if not x.is_cuda:
        raise NotImplementedError("needs a CUDA device")
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss, here = LigerFusedLinearCrossEntropyLoss(), torch.arange(len(x), device=x.device)
    scaled = x * scale.to(x.dtype)
    return (loss(y, scaled, here) + loss(x, y * scale.to(x.dtype), here)) / 2


# the sigmoid loss


def sigmoid_contrast(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    from mmflow.kernels import sigmoid_contrast

    return sigmoid_contrast(x, y, temperature=1 / scale, bias=bias)


def sigmoid_one_matrix(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = (scale.to(x.dtype) * x) @ y.T + bias.to(x.dtype)
    sign = 2 * torch.eye(len(x), device=x.device, dtype=x.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(x)


def siglip_loss(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    from open_clip.loss import SigLipLoss

    value = SigLipLoss()(x, y, scale.to(x.dtype), bias.to(x.dtype))
    assert isinstance(value, Tensor)
    return value


# NT-Xent over two views


def nt_xent(x: Tensor, y: Tensor) -> Tensor:
    from mmflow.kernels import sup_con

    # the others normalize inside, so that their gradients pass through it
    return sup_con(
        F.normalize(torch.cat([x, y]), dim=1), torch.arange(len(x), device=x.device).repeat(2), temperature=0.1
    )


def lightly_nt_xent(x: Tensor, y: Tensor) -> Tensor:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=0.1)(x, y)


def metric_learning_nt_xent(x: Tensor, y: Tensor) -> Tensor:
    from pytorch_metric_learning.losses import NTXentLoss

    return NTXentLoss(temperature=0.1)(torch.cat([x, y]), torch.arange(len(x), device=x.device).repeat(2))


# soft targets


def taught_inputs(n: int, d: int, dtype: torch.dtype, device: str) -> Inputs:
    teachers = {"a": rows(n, d, 2, dtype, device).detach(), "b": rows(n, d, 3, dtype, device).detach()}
    return pair_inputs(n, d, dtype, device) | teachers


def soft_targets(x: Tensor, y: Tensor, scale: Tensor, a: Tensor, b: Tensor) -> Tensor:
    from mmflow.kernels import soft_contrast

    return soft_contrast(x, y, a, b, temperature=1 / scale, teacher_temperature=0.05)


def soft_targets_one_matrix(x: Tensor, y: Tensor, scale: Tensor, a: Tensor, b: Tensor) -> Tensor:
    logits, taught = (scale.to(x.dtype) * x) @ y.T, (a @ b.T) / 0.05
    return (F.cross_entropy(logits, taught.softmax(1)) + F.cross_entropy(logits.T, taught.T.softmax(1))) / 2


_XY, _SIGMOID = ("x", "y", "scale"), ("x", "y", "scale", "bias")
_TAUGHT = ("x", "y", "scale", "a", "b")

OPERATIONS = {
    "info_nce": Operation(
        (1024, 4096, 8192, 16384),
        pair_inputs,
        {
            "mmflow": trained(info_nce, *_XY),
            "mmflow, medium": medium(trained(info_nce, *_XY)),
            "open_clip ClipLoss": trained(clip_loss, *_XY),
            "PyTorch, one matrix": trained(info_nce_one_matrix, *_XY),
            "torch.compile, one matrix": compiled(info_nce_one_matrix, *_XY),
            "sentence-transformers": trained(symmetric_ranking, *_XY),
            "liger-kernel": trained(liger_linear_cross_entropy, *_XY),
        },
        largest={"sentence-transformers": 8192},
    ),
    "sigmoid_contrast": Operation(
        (1024, 4096, 8192, 16384),
        pair_inputs,
        {
            "mmflow": trained(sigmoid_contrast, *_SIGMOID),
            "mmflow, medium": medium(trained(sigmoid_contrast, *_SIGMOID)),
            "open_clip SigLipLoss": trained(siglip_loss, *_SIGMOID),
            "PyTorch, one matrix": trained(sigmoid_one_matrix, *_SIGMOID),
            "torch.compile, one matrix": compiled(sigmoid_one_matrix, *_SIGMOID),
        },
    ),
    "nt_xent": Operation(
        (256, 1024, 4096),
        pair_inputs,
        {
            "mmflow": trained(nt_xent, "x", "y"),
            "lightly": trained(lightly_nt_xent, "x", "y"),
            "pytorch-metric-learning": trained(metric_learning_nt_xent, "x", "y"),
        },
        largest={"pytorch-metric-learning": 256},
    ),
    "soft_contrast": Operation(
        (1024, 4096),
        taught_inputs,
        {
            "mmflow": trained(soft_targets, *_TAUGHT),
            "PyTorch, one matrix each": trained(soft_targets_one_matrix, *_TAUGHT),
            "torch.compile, one matrix each": compiled(soft_targets_one_matrix, *_TAUGHT),
        },
    ),
}
