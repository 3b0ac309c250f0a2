"""Contrastive operations whose memory grows with the batch and not with its square: exact, on GPU and CPU.

Depends on torch, and on triton where there is one. `dispatch` says which form of an operation runs and how to force it.
Two operations are named like their folder and are imported from it: `mmflow.kernels.sinkhorn.sinkhorn` (with
`assignment`) and `mmflow.kernels.uniformity.uniformity`; `mmflow.kernels.dtw.alignment` stays there too.
"""

from .cluster import kmeans, nearest_center
from .contrast import contrast_blocks, info_nce, sigmoid_contrast, soft_contrast, sup_con
from .dtw import pair_soft_dtw, soft_dtw
from .gram import gram_contrast, gram_volume
from .late_interaction import max_sim, max_sim_contrast
from .sample_distance import match_log_probability, sample_contrast
from .search import knn_vote, top_k

__all__ = [
    "contrast_blocks",
    "gram_contrast",
    "gram_volume",
    "info_nce",
    "kmeans",
    "knn_vote",
    "match_log_probability",
    "max_sim",
    "max_sim_contrast",
    "nearest_center",
    "pair_soft_dtw",
    "sample_contrast",
    "sigmoid_contrast",
    "soft_contrast",
    "soft_dtw",
    "sup_con",
    "top_k",
]
