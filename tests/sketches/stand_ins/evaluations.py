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


class SecondOrderAttribution(Evaluator, name="second_order_attribution"):
    """How much each pair of dimensions gives to the similarity of pairs (Möller et al., 2024): of the vectors alone."""

    steps: int = 10

    def evaluate(self, a: Encoding, b: Encoding) -> EvaluationResult:
        import torch

        shares = torch.arange(1, self.steps + 1, dtype=torch.float64) / self.steps
        pairs = (a.pooled.double().unsqueeze(2) * b.pooled.double().unsqueeze(1)).mean(0)
        total = (shares * 2 / (self.steps + 1)).sum() * pairs.diagonal().sum()
        return EvaluationResult([Metric("on the diagonal", float(total), better="")])
