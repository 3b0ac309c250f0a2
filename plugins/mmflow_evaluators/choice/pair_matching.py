"""Matching two pairs that differ in little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Metric, Score, default
from mmflow_evaluators.declared import OfTwo, Refusal, not_grouped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PairMatching(OfTwo, name="pair_matching"):
    """Whether two images and two texts of a row are matched rightly (Thrush et al., 2022).

    `of` names two encoders whose fields hold two values a row, the first of one belonging to the first of the other.
    With `of: [image, text]`, `image_to_text` is their text score (for each image the right text scores higher),
    `text_to_image` their image score and `both` their group score. Ties count by expectation: equal scores are
    exactly at chance, which is 1/4, 1/4 and 1/6. Rows where one of the four is absent are left out.
    """

    example: ClassVar[str] = "{use: pair_matching, data: test, of: [image, text]}"

    score: Score = default("cosine")

    def refuses_encodings(self, *of: Encoding) -> Iterator[Refusal]:
        yield from not_grouped(self.use, self.of, of, (2, 2))

    def evaluate(self, a: Encoding, b: Encoding, score: Score) -> EvaluationResult:
        import numpy as np

        from mmflow_evaluators.choice import scores as choice
        from mmflow_evaluators.choice.grouped import member, scores_of_members
        from mmflow_evaluators.estimates import result

        if len(a.axes) != 2 or len(b.axes) != 2:
            raise ComponentError(
                f"pair_matching: {self.of[0]} has the axes {', '.join(a.axes)} and {self.of[1]} {', '.join(b.axes)}",
                hint="both come from a field that holds a list of two values a row",
            )
        both = [scores_of_members(score, member(a, i), b, "pair_matching") for i in (0, 1)]
        if both[0][0].shape[1] != 2:
            raise ComponentError(f"pair_matching: {self.of[1]} has {both[0][0].shape[1]} values a row, not two")
        there = np.logical_and.reduce((both[0][1] & both[1][1]).T)
        if not there.any():
            raise ComponentError("pair_matching: no row has all four values")
        hits = choice.matching_hits(np.stack([s for s, _ in both], axis=1)[there])
        first, second = (name.replace(".", "_") for name in self.of)
        notes = [] if there.all() else [f"{(~there).sum()} of {len(there)} rows lack one of their four values."]
        rows = np.flatnonzero(there)
        metrics = [
            _metric(f"{first}_to_{second}", f"{first} → {second}", hits.forward, rows, choice.FORWARD_CHANCE),
            _metric(f"{second}_to_{first}", f"{second} → {first}", hits.backward, rows, choice.BACKWARD_CHANCE),
            _metric("both", "both", hits.both, rows, choice.BOTH_CHANCE),
        ]
        return result(metrics, notes)


def _metric(name: str, title: str, hits: NDArray[np.float64], rows: NDArray[np.int64], chance: float) -> Metric:
    from mmflow_evaluators.estimates import share

    return share(name, hits, rows, title=title, chance=chance)
