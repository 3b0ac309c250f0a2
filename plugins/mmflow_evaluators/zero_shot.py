"""Classification by the names of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from mmflow.plugin import (
    ComponentError,
    Encoding,
    EvaluationResult,
    ItemScores,
    Metric,
    PositiveInt,
    Score,
    Source,
    Tally,
    default,
)
from mmflow_evaluators.declared import Counts, OfTwo, Refusal, WithClasses, counts, groups_of_rows, unnamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

LARGEST_MATRIX = 60
"""Classes up to which the confusion matrix is kept."""


class ZeroShot(WithClasses, OfTwo, name="zero_shot"):
    """Accuracy when each row is given the class whose name scores highest with it (Radford et al., 2021).

    `of` names the encoder of the rows and the one of the class names. Each name is put into every prompt, and a
    class is the mean of its L2-normalized prompt vectors; a score that reads tokens is averaged over the prompts
    instead. Where the second has rows of an axis of its own (a vector for each class, in the order of their numbers),
    these are the classes, and there are no prompts. Ties count by expectation: equal scores for all classes give
    exactly K / C. Rows without a label are left out. Chance is K / C for C classes; the spread is half the 95 % Wilson
    interval.
    """

    example: ClassVar[str] = '{use: zero_shot, data: test, of: [image, text], labels: label, prompts: ["a {}"]}'

    encodes: ClassVar[Mapping[int, str]] = {1: "text"}

    prompts: tuple[str, ...] = default(("{}",), min_length=1, description="texts with {} where the class name goes")
    names: tuple[str, ...] = default(
        (), description="class names in the order of the labels, or the data's own in any order"
    )
    at: tuple[PositiveInt, ...] = default((1, 5), min_length=1, description="the K of top-K accuracy")
    score: Score = default("cosine")

    @field_validator("prompts")
    @classmethod
    def _places(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if prompt.count("{}") != 1:
                raise ValueError(f"prompt {prompt!r} must contain {{}} exactly once")
        return prompts

    def refuses(self, source: Source) -> Iterator[tuple[str, str, str]]:
        field = source.fields().get(self.labels.removeprefix("fields."))
        stated = field.names if field is not None else ()
        try:
            names = self._in_order(stated)
        except ComponentError as error:
            yield "names", str(error), error.hint
            return
        if len(names) < max(2, len(stated)) and (self.names or field is not None):
            few = f"zero_shot has {len(names)} names, and the field {self.labels} has {len(stated)} classes"
            none = f"zero_shot needs the names of at least two classes; the field {self.labels} gives {len(names)}"
            yield "names" if self.names else "labels", few if stated else none, "write a name for each class in `names`"

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from super().refuses_rows(tallies)
        named = len(self.names or tallies["data"].names.get(self.labels, ()))
        yield from unnamed(self.use, tallies["data"].classes.get(self.labels, {}), named)

    def refuses_encodings(self, *of: Encoding) -> Iterator[Refusal]:
        yield from groups_of_rows(self.use, self.of[0], of[0])

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        if not known:
            yield "labels", "no row has a label", "name data with labels"

    def evaluate(self, rows: Encoding, texts: Encoding, labels: Tensor, score: Any, model: Any) -> EvaluationResult:
        import torch

        from mmflow_evaluators.estimates import share
        from mmflow_evaluators.ranking import Ranks, rank

        names = self._in_order(model.names("labels"))
        if len(names) < 2:
            raise ComponentError(
                f"zero_shot needs the names of at least two classes; the field {self.labels!r} gives {len(names)}",
                hint="write them in `names`",
            )
        kept = labels >= 0 if rows.present is None else (labels >= 0) & rows.present
        rows, labels, places = rows.rows(kept), labels[kept], kept.nonzero()[:, 0].cpu().numpy()
        if not len(labels):
            raise ComponentError("zero_shot: no row of the data has both a label and a value for the encoder")
        for _, message, hint in unnamed("zero_shot", counts(labels.cpu()), len(names)):
            raise ComponentError(message, hint=hint)
        given = texts.axes[0] != "sample"
        if given and len(texts) != len(names):
            raise ComponentError(
                f"zero_shot: {self.of[1]} has {len(texts)} rows, and there are {len(names)} classes",
                hint="give a vector for each class, in the order of their numbers",
            )
        scores = self._against(rows, texts, score) if given else self._scores(rows, names, score, model)
        truth = torch.nn.functional.one_hot(labels, len(names)).bool()
        ranks: Ranks = rank(iter([(0, scores)]), lambda start, count: truth[start : start + count], len(names))
        at = sorted({k for k in self.at if k < len(names)} or {1})
        metrics = []
        for k in at:
            hits = ranks.hits(k)
            metrics.append(share(f"top{k}_accuracy", hits, places, title=f"top-{k} accuracy", chance=k / len(names)))
        return self._tell(metrics, ranks.hits(1), scores.argmax(1).cpu(), labels.cpu(), list(names), places)

    def _in_order(self, stated: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the classes by their numbers: those of `names`, in the order of the data where it has the same.

        Raises `ComponentError` where some of the data's names stand at other numbers.
        """
        if not self.names or not stated:
            return self.names or stated
        if set(self.names) == set(stated):
            return stated
        moved = next((n for n, name in enumerate(self.names) if name in stated and stated.index(name) != n), None)
        if moved is not None:
            name = self.names[moved]
            raise ComponentError(
                f"zero_shot: the class {name!r} is number {stated.index(name)} in the data and {moved} in `names`",
                found=", ".join(self.names[:20]), expected=", ".join(stated[:20]),
                hint="write names of your own in the order of the data's",
            )  # fmt: skip
        return self.names

    def _against(self, rows: Encoding, classes: Encoding, score: Any) -> Tensor:
        """[N, C] scores of rows and the vectors of classes."""
        import torch

        from mmflow_evaluators.ranking import score_rows

        return torch.cat([block for _, block in score_rows(score, rows, classes, swap=False)])

    def _scores(self, rows: Encoding, names: Any, score: Any, model: Any) -> Tensor:
        """[N, C] scores of rows and classes."""
        import torch

        if tuple(rows.outputs) == ("pooled",):
            vectors = []
            for prompt in self.prompts:
                encoded = model.encode(self.of[1], [prompt.replace("{}", name) for name in names])
                vectors.append(torch.nn.functional.normalize(encoded.pooled, dim=-1))
            classes = Encoding({"pooled": torch.stack(vectors).mean(0)})
            return self._against(rows, classes, score)
        total = None
        for prompt in self.prompts:
            classes = model.encode(self.of[1], [prompt.replace("{}", name) for name in names])
            one = self._against(rows, classes, score)
            total = one if total is None else total + one
        assert total is not None
        return total / len(self.prompts)

    def _tell(
        self,
        metrics: list[Metric],
        right: Any,
        predicted: Tensor,
        labels: Tensor,
        names: list[str],
        places: Any,
    ) -> EvaluationResult:
        import numpy as np

        truth = labels.numpy()
        counts = np.bincount(truth, minlength=len(names))
        sums = np.bincount(truth, weights=right, minlength=len(names))
        seen = np.flatnonzero(counts)
        by_class = sums[seen] / counts[seen]
        # Weighted by how rare their classes are, the rows have this mean.
        weighted = ItemScores(right * (len(truth) / (len(seen) * counts[truth])), places)
        metrics.append(Metric("mean_class_accuracy", float(by_class.mean()), 1 / len(names), items=weighted))
        order = sorted(range(len(seen)), key=lambda i: by_class[i])
        figures: dict[str, dict[str, Any]] = {
            "Accuracy by class": {
                "kind": "bars",
                "labels": [names[seen[i]] for i in order],
                "values": [float(by_class[i]) for i in order],
                "counts": [int(counts[seen[i]]) for i in order],
                "chance": 1 / len(names),
            }
        }
        if len(names) <= LARGEST_MATRIX:
            matrix = np.zeros((len(names), len(names)), dtype=np.int64)
            np.add.at(matrix, (truth, predicted.numpy()), 1)
            figures["Confusion"] = {
                "kind": "matrix", "rows": names, "columns": names, "values": matrix.tolist(),
                "row_title": "true class", "column_title": "predicted class",
            }  # fmt: skip
        from mmflow_evaluators.estimates import never_predicted

        return EvaluationResult(metrics, figures=figures, remarks=never_predicted(predicted.numpy(), truth, names))
