"""Classification by the nearest neighbors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from mmflow.plugin import (
    Data,
    Encoding,
    EvaluationResult,
    PositiveFloat,
    PositiveInt,
    Ref,
    Score,
    default,
)
from mmflow_evaluators.declared import Counts, OfEach, Refusal, WithClasses, amount, known_classes, two_classes


class Knn(WithClasses, OfEach, name="knn"):
    """Accuracy of a vote among the `k` rows of `data` that score highest, for each encoder in `of`.

    Rows of `test` are classified; without `test` each row of `data` is, by the others (leave one out). Votes are
    equal, or exp(score / temperature) with `temperature` (Wu et al., 2018, use cosine and 0.07). A tie of votes
    goes to the class with the nearest neighbor. Chance is the majority class. A `k` beyond the rows that vote is
    refused.
    """

    example: ClassVar[str] = "{use: knn, data: train, test: test, of: image, labels: label, k: 20}"

    test: Ref[Data] | None = default(None, description="rows to classify; without it those of `data`, leave one out")
    k: PositiveInt = 20
    temperature: PositiveFloat | None = default(None, description="weights of the votes; equal votes without it")
    score: Score = default("cosine")

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        yield from two_classes(known, "a vote")
        yield from known_classes(known, asked)
        voters = sum(known.values()) - (asked is None)
        if self.k > voters > 0:
            yield "k", f"k is {self.k}, and {amount(voters, 'labeled row')} can vote", f"write k: {max(1, voters // 4)}"

    def evaluate(
        self, *of: Encoding, labels: Any, ids: list[str], score: Any, test: Any, model: Any
    ) -> EvaluationResult:
        import torch

        from mmflow_evaluators.estimates import accuracy, never_predicted
        from mmflow_evaluators.ranking import score_rows

        measured = EvaluationResult([])
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            known, classes, rows = _kept(encoding, labels)
            asked, truth = known, classes
            if test is not None:
                asked, truth, rows = _kept(test.of[place], test.fields["labels"])
            self.require(f"knn of {name}", classes.cpu(), None if test is None else truth.cpu())
            predictions = []
            for start, scores in score_rows(score, asked, known, swap=False):
                if test is None:
                    itself = torch.arange(len(scores), device=scores.device)
                    scores[itself, itself + start] = -torch.inf
                best, at = scores.sort(dim=1, descending=True, stable=True)
                best, voters = best[:, : self.k], classes[at[:, : self.k]]
                predictions.append(self._vote(best, voters))
            predicted, train, held = (x.cpu().numpy() for x in (torch.cat(predictions), classes, truth))
            hits = (predicted == held).astype(float)
            measured.metrics.append(accuracy(name, hits, rows, train, held, alone=len(of) == 1))
            where = "" if len(of) == 1 else f"{name}: "
            measured.remarks += never_predicted(predicted, held, model.names("labels"), where)
        return measured

    def _vote(self, scores: Any, voters: Any) -> Any:
        """The class [b] with most votes; `voters` [b, k] are sorted by falling score."""
        import torch

        if self.temperature is None:
            weights = torch.ones_like(scores)
        else:
            weights = ((scores - scores[:, :1]) / self.temperature).exp()
        same = voters[:, :, None] == voters[:, None, :]
        votes = (weights[:, None, :] * same).sum(2)
        # Votes of a class are the same number at all its voters, so the first of the highest is the nearest.
        first = (votes >= votes.amax(1, keepdim=True) * (1 - 1e-6)).int().argmax(1)
        return voters.gather(1, first[:, None])[:, 0]


def _kept(encoding: Encoding, labels: Any) -> tuple[Encoding, Any, Any]:
    """Present rows that have a label, their labels, and their places."""
    kept = labels >= 0 if encoding.present is None else (labels >= 0) & encoding.present
    return encoding.rows(kept), labels[kept], kept.nonzero()[:, 0].cpu().numpy()
