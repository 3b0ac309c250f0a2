"""Contrastive operations whose memory grows with the batch and not with its square: exact, on GPU and CPU.

Every operation is imported from here: `from mmflow.kernels import info_nce`. Depends on torch, and on triton where
there is one. `dispatch` says which form of an operation runs and how to force it.
"""

from .cluster import kmeans, nearest_center
from .codes import binary_codes, binary_values, int8_codes, int8_ranges, int8_values
from .contrast import contrast_blocks, info_nce, row_logsumexp, sigmoid_contrast, soft_contrast, sup_con
from .dtw import alignment, pair_soft_dtw, soft_dtw
from .gaussian_potential import uniformity
from .gram import gram_contrast, gram_volume
from .late_interaction import max_sim, max_sim_contrast
from .sample_distance import match_log_probability, sample_contrast
from .search import knn_vote, top_k
from .transport import assignment, sinkhorn

__all__ = [
    "alignment",
    "assignment",
    "binary_codes",
    "binary_values",
    "contrast_blocks",
    "gram_contrast",
    "gram_volume",
    "info_nce",
    "int8_codes",
    "int8_ranges",
    "int8_values",
    "kmeans",
    "knn_vote",
    "match_log_probability",
    "max_sim",
    "max_sim_contrast",
    "nearest_center",
    "pair_soft_dtw",
    "row_logsumexp",
    "sample_contrast",
    "sigmoid_contrast",
    "sinkhorn",
    "soft_contrast",
    "soft_dtw",
    "sup_con",
    "top_k",
    "uniformity",
]
