"""Contrastive operations whose memory grows with the batch and not with its square: exact, on GPU and CPU.

Depends on torch, and on triton where there is one. `dispatch` says which form of an operation runs and how to force it.
"""

from .contrast import contrast_blocks, info_nce, sigmoid_contrast, soft_contrast, sup_con

__all__ = ["contrast_blocks", "info_nce", "sigmoid_contrast", "soft_contrast", "sup_con"]
