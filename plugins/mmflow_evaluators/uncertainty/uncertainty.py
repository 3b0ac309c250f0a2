"""Whether errors come where the model is unsure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, RawField, Ref, Score, Tally, default
from mmflow_evaluators.declared import OfTwo, Refusal, too_few
from mmflow_evaluators.reading import NUMBER


class Uncertainty(OfTwo, name="uncertainty"):
    """Whether the uncertainty of a query tells that its first candidate is wrong.

    `of` names the encoders of queries and candidates; the right answer of a query is the candidate of its own row.
    `uncertainty` names a field or a column with one number a row; without it, it is minus the highest score.
    `error_auroc` is the probability that a wrong query is less sure than a right one (chance 0.5), `aurc` the mean
    error over coverages, the surest first (Geifman et al., 2019; chance is the mean error, `best` what no uncertainty
    can undercut), and `rank_correlation` Spearman's of uncertainty and error. Ties count by expectation; intervals
    are those of a bootstrap over queries. Where every query is right, or every one wrong, this is said.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"uncertainty": NUMBER}
    example: ClassVar[str] = "{use: uncertainty, data: test, of: [image, text]}"

    uncertainty: Ref[RawField] | None = default(None, description="one number a row, higher for less sure")
    score: Score = default("cosine")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def evaluate(self, queries: Encoding, candidates: Encoding, uncertainty: Any, score: Any) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.binary.correlation import spearman
        from mmflow_evaluators.binary.scores import auroc
        from mmflow_evaluators.choice.scores import top_hits
        from mmflow_evaluators.estimates import bootstrapped, estimate, result, share
        from mmflow_evaluators.ranking import fold, score_rows
        from mmflow_evaluators.uncertainty import measures as of
        from mmflow_evaluators.vectors import numbers_of

        (a, own), (b, other) = fold(queries), fold(candidates)
        rows, columns = own.cpu().numpy(), other.cpu().numpy()
        hits, highest = [], []
        for start, block in score_rows(score, a, b, swap=False):
            s = block.double().cpu().numpy()
            hits.append(top_hits(s, rows[start : start + len(s), None] == columns[None], 1))
            highest.append(s.max(1))
        known = np.isin(rows, columns)
        if not known.any():
            raise ComponentError("uncertainty: no query has its own candidate")
        hit = np.concatenate(hits)
        unsure = -np.concatenate(highest) if uncertainty is None else numbers_of(uncertainty)[rows]
        known &= np.isfinite(unsure)
        hit, unsure = hit[known], unsure[known]
        if not len(hit):
            raise ComponentError("uncertainty: no query with a candidate has an uncertainty")
        errors, wrong = 1 - hit, hit < 0.5
        metrics = [share("r1", hit, rows[known], title="R@1", chance=1 / len(columns))]
        if wrong.all() or not wrong.any():
            said = f"The first candidate is {'wrong' if wrong.all() else 'right'} for every query: nothing to foretell."
            return result(metrics, [said])
        count = len(hit)
        metrics += [
            bootstrapped(
                "error_auroc", lambda i: auroc(unsure[i], wrong[i]), count, title="AUROC of errors", chance=0.5
            ),
            bootstrapped(
                "aurc", lambda i: of.risk_coverage_area(unsure[i], errors[i]), count, title="AURC",
                chance=float(errors.mean()), better="lower",
            ),
            estimate("best_aurc", of.best_risk_coverage_area(errors), title="best AURC", better=""),
        ]  # fmt: skip
        if np.ptp(unsure) > 0:
            metrics.append(
                bootstrapped(
                    "rank_correlation", lambda i: spearman(unsure[i], errors[i]), count, bounds=(-1.0, 1.0), chance=0.0
                )
            )
        return result(metrics, [] if np.ptp(unsure) > 0 else ["All queries are equally sure: no correlation."])
