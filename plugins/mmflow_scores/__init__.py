"""Scores: the similarity of two rows, shared by losses, miners and retrieval."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "score/cosine": "mmflow_scores.products:Cosine",
        "score/dot": "mmflow_scores.products:Dot",
        "score/neg_sq_euclid": "mmflow_scores.neg_sq_euclid:NegativeSquaredEuclidean",
        "score/cross_encoder": "mmflow_scores.cross_encoder:CrossEncoder",
        "score/maxsim": "mmflow_scores.maxsim:MaxSim",
    }
