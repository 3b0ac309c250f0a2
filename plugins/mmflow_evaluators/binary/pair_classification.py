"""Whether a score tells pairs that belong together from pairs that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Evaluator, Labels, Ref, Score, default

if TYPE_CHECKING:
    from torch import Tensor


TITLES = {"auroc": "AUROC", "best_f1": "best F1"}


class PairClassification(Evaluator, name="pair_classification"):
    """Paraphrase, duplicate, verification: pairs of rows with the label 1 belong together, those with 0 do not.

    `average_precision` and `auroc` need no threshold; `best_accuracy` and `best_f1` are those of the threshold that is
    best on these very rows, as is usual (Muennighoff et al., 2022), and so a little high; the interval chooses the
    threshold again in each draw. A threshold never parts equal scores. Chance is the share of positives, 0.5, the
    more frequent kind and 2 p / (1 + p). Rows with a negative label are left out.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    example: ClassVar[str] = "{use: pair_classification, data: test, of: [first, second], labels: same}"

    labels: Ref[Labels] = default(..., description="1 for pairs that belong together, 0 for others")
    score: Score = default("cosine")

    @model_validator(mode="after")
    def _two(self) -> PairClassification:
        if len(self.of) != 2:
            raise ValueError(f"`of` names two encoders; it has {len(self.of)}")
        return self

    def evaluate(self, a: Encoding, b: Encoding, labels: Tensor, score: Score) -> EvaluationResult:
        from mmflow_evaluators.binary import scores as binary
        from mmflow_evaluators.binary.pairs import pair_scores
        from mmflow_evaluators.estimates import bootstrapped, result

        scores, present = pair_scores(score, a, b, "pair_classification")
        classes = labels.cpu().numpy().reshape(-1)
        if classes.max(initial=0) > 1:
            raise ComponentError(f"pair_classification: labels are 0 and 1, there is a {classes.max()}")
        kept = present & (classes >= 0)
        s, t = scores[kept], classes[kept] == 1
        if not t.any() or t.all():
            kinds = "belong together" if len(t) else "are labeled and present"
            raise ComponentError(f"pair_classification: {'all' if len(t) and t.all() else 'no'} pairs {kinds}")
        share = float(t.mean())
        measures = {
            "average_precision": (binary.average_precision, share),
            "auroc": (binary.auroc, 0.5),
            "best_accuracy": (lambda x, y: binary.best_accuracy(x, y)[0], max(share, 1 - share)),
            "best_f1": (lambda x, y: binary.best_f1(x, y)[0], 2 * share / (1 + share)),
        }
        metrics = [
            bootstrapped(name, lambda i, of=measure: of(s[i], t[i]), len(s), title=TITLES.get(name, ""), chance=chance)
            for name, (measure, chance) in measures.items()
        ]
        return result(metrics)
