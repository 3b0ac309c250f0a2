"""Whether a score tells pairs that belong together from pairs that do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import Encoding, EvaluationResult, Labels, Ref, Score, default
from mmflow_evaluators.declared import Counts, OfTwo, Refusal, WithClasses
from mmflow_evaluators.reading import CLASS

if TYPE_CHECKING:
    from torch import Tensor


TITLES = {"auroc": "AUROC", "best_f1": "best F1"}


class PairClassification(WithClasses, OfTwo, name="pair_classification"):
    """Paraphrase, duplicate, verification: pairs of rows with the label 1 belong together, those with 0 do not.

    `average_precision` and `auroc` need no threshold; `best_accuracy` and `best_f1` are those of the threshold that is
    best on these very rows, as is usual (Muennighoff et al., 2022), and so a little high; the interval chooses the
    threshold again in each draw. A threshold never parts equal scores. Chance is the share of positives, 0.5, the
    more frequent kind and 2 p / (1 + p). Rows with a negative label are left out.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": CLASS}
    example: ClassVar[str] = "{use: pair_classification, data: test, of: [first, second], labels: same}"

    labels: Ref[Labels] = default(..., description="1 for pairs that belong together, 0 for others")
    score: Score = default("cosine")

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        if known and max(known) > 1:
            yield "labels", f"labels are 0 and 1, there is a {max(known)}", "1 for pairs that belong together, else 0"
        elif len(known) < 2:
            said = f"there are {known.get(1, 0)} pairs with the label 1 and {known.get(0, 0)} with 0"
            yield "labels", said, "both kinds are needed"

    def evaluate(self, a: Encoding, b: Encoding, labels: Tensor, score: Score) -> EvaluationResult:
        from mmflow_evaluators.binary import scores as binary
        from mmflow_evaluators.binary.pairs import pair_scores
        from mmflow_evaluators.estimates import bootstrapped, result

        scores, present = pair_scores(score, a, b, "pair_classification")
        classes = labels.cpu().numpy().reshape(-1)
        kept = present & (classes >= 0)
        self.require("pair_classification", classes[kept])
        s, t = scores[kept], classes[kept] == 1
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
