"""Contrastive losses over all pairs of a batch, streamed: memory grows with N + M, not with N x M.

An operation is a room with its four forms: `softmax` (`info_nce`, `sup_con`, `row_logsumexp`), `sigmoid`
(`sigmoid_contrast`), `soft` (`soft_contrast`) and `blocks` (`contrast_blocks`, any score). Below them, from the top:
`ranks` (a batch that is split over processes), `targets` (soft targets by tile), `sums` (over rows and columns, and
the losses made of them), `tiles` (of scores), `pairs` (the rules). A room imports from those below it; `soft` also
stands on `softmax`.
"""

from .blocks import contrast_blocks
from .sigmoid import sigmoid_contrast
from .soft import soft_contrast
from .softmax import info_nce, sup_con
from .softmax.log_sums import row_logsumexp

__all__ = ["contrast_blocks", "info_nce", "row_logsumexp", "sigmoid_contrast", "soft_contrast", "sup_con"]
