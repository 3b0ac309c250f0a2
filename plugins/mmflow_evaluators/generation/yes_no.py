"""Questions that are answered by yes or no."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, EvaluationResult, Evaluator, Labels, RawField, Ref, default
from mmflow_evaluators.reading import CLASS, TEXT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class YesNoQuestions(Evaluator, name="yes_no"):
    """Accuracy, precision, recall and F1 of yes, and the share of yes, of answers in words (Li et al., 2023).

    `answers` names the field or column with the texts; the first word that is yes or no counts. An answer with
    neither is wrong and counted in `unread`. `labels` is 1 for yes. A model that affirms what is not there has a
    share of yes above that of the questions, and low precision. Chance of accuracy is the more frequent answer; of
    F1, saying yes always. Intervals are those of a bootstrap over questions.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"answers": TEXT, "labels": CLASS}
    example: ClassVar[str] = "{use: yes_no, data: test, answers: ask.text, labels: present}"

    answers: Ref[RawField] = default(..., description="the answers as texts")
    labels: Ref[Labels] = default(..., description="1 where yes is right, 0 where no is")

    def evaluate(self, answers: Any, labels: Tensor) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.estimates import bootstrapped, result
        from mmflow_evaluators.generation.answers import read_answers, yes_no_scores

        truth = labels.cpu().numpy().reshape(-1)
        kept = np.flatnonzero(truth >= 0)
        if not len(kept) or truth.max() > 1:
            raise ComponentError("yes_no: labels are 1 for yes and 0 for no, and at least one row has one")
        said = read_answers([list(answers)[i] for i in kept])
        wanted = truth[kept] == 1
        share = float(wanted.mean())
        chances = {
            "accuracy": max(share, 1 - share), "precision": share, "f1": 2 * share / (1 + share), "yes": None,
            "recall": None, "unread": None,
        }  # fmt: skip

        def scores(name: str, index: NDArray[np.int64]) -> float:
            return getattr(yes_no_scores([said[i] for i in index], wanted[index]), name)

        metrics, notes = [], []
        for name, chance in chances.items():
            if math.isnan(scores(name, np.arange(len(said)))):
                notes.append(f"{name}: {'no question is answered' if name == 'yes' else 'no yes, or none wanted'}.")
                continue
            title = {"f1": "F1 of yes", "yes": "share of yes", "unread": "unread answers"}.get(name, name)
            better = "" if name == "yes" else "lower" if name == "unread" else "higher"
            metrics.append(
                bootstrapped(
                    name, lambda i, of=name: scores(of, i), len(said), title=title, chance=chance, better=better
                )
            )
        return result(metrics, notes)
