"""Evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmflow_evaluators.relevance.pairwise_retrieval import PairwiseRetrieval

from mmflow.plugin import Encoding, EvaluationResult, Evaluator, Labels, Metric, Ref

if TYPE_CHECKING:
    from torch import Tensor


class Classification(Evaluator, name="classification"):
    """Accuracy of logits."""

    labels: Ref[Labels]

    def evaluate(self, logits: Encoding, labels: Tensor) -> EvaluationResult:
        right = (logits.pooled.argmax(-1) == labels).double().mean()
        return EvaluationResult([Metric("accuracy", float(right), chance=1 / logits.pooled.shape[-1])])


class RetrievalMatrix(PairwiseRetrieval, name="retrieval_matrix"):
    """Retrieval between all pairs of spaces."""
