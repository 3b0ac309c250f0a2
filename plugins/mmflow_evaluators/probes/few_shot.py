"""Classification from few rows a class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Data, Encoding, EvaluationResult, PositiveFloat, PositiveInt, Ref, default
from mmflow_evaluators.declared import Counts, OfEach, Refusal, WithClasses, amount, known_classes, two_classes

if TYPE_CHECKING:
    from torch import Tensor

By = Literal["mean", "neighbor", "linear"]


class FewShot(WithClasses, OfEach, name="few_shot"):
    """Accuracy in episodes of `ways` classes with `shots` rows each to learn from (Vinyals et al., 2016).

    For each encoder in `of`: an episode draws classes, rows to learn from and `queries` other rows of each, at the
    address of its number, so that encoders meet the same episodes. Classes with too few rows are left out, which is
    said. `by: mean` takes the class mean with the highest cosine, `neighbor` the nearest row, `linear` a logistic
    regression; ties count by expectation. Chance is 1 / ways; the interval is that of the mean over episodes, which
    says how exactly these rows were measured, not how other rows would do.
    """

    example: ClassVar[str] = "{use: few_shot, data: test, of: image, labels: label, ways: 5, shots: [1, 5]}"

    ways: PositiveInt = default(5, ge=2, description="classes of an episode")
    shots: tuple[PositiveInt, ...] = default((1, 5), min_length=1, description="rows of a class to learn from")
    queries: PositiveInt = default(15, description="rows of a class to classify")
    episodes: PositiveInt = 200
    by: By = "mean"
    c: PositiveFloat = default(1.0, description="inverse strength of the penalty, of `by: linear`")
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        least = min(self.shots) + self.queries
        usable = sum(rows >= least for rows in known.values())
        if usable < self.ways:
            has = f"an episode needs {self.ways} classes with {min(self.shots)} + {self.queries} rows each"
            said = f"{has}, and {usable} of {len(known)} classes have so many"
            yield "ways", said, "lower `ways`, `shots` or `queries`, or name more data"

    def evaluate(self, *of: Encoding, labels: Tensor) -> EvaluationResult:
        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.estimates import estimate, group_of, result
        from mmflow_evaluators.intervals import share_interval
        from mmflow_evaluators.probes.episodes import classify, draw_episode, enough, hits
        from mmflow_evaluators.vectors import vectors_of

        metrics, notes = [], []
        for name, encoding in zip(self.of, of, strict=True):
            x, here = vectors_of(encoding, f"few_shot of {name}")
            classes = np.where(here, labels.cpu().numpy().reshape(-1), -1)
            self.require(f"few_shot of {name}", classes)
            group = group_of(name, len(of) == 1)
            for shots in self.shots:
                known, usable = enough(classes, 1), enough(classes, shots + self.queries)
                if len(usable) < self.ways:
                    notes.append(
                        f"{shots} shots are not measured: {len(usable)} of {len(known)} classes have "
                        f"{shots + self.queries} rows, an episode needs {self.ways}."
                    )
                    continue
                if len(usable) < len(known):
                    notes.append(f"{len(known) - len(usable)} classes have fewer than {shots + self.queries} rows.")
                values = []
                for number in range(self.episodes):
                    generator = numpy_generator("mmflow_evaluators.few_shot", self.seed, shots, number)
                    drawn = draw_episode(classes, self.ways, shots, self.queries, generator)
                    found = classify(self.by, x[drawn.support], drawn.support_class, x[drawn.query], self.c)
                    values.append(hits(found, drawn.query_class).mean())
                metrics.append(
                    estimate(
                        f"{shots}_shot", float(np.mean(values)), share_interval(values), group=group,
                        title=f"{self.ways} classes, {shots} shots", chance=1 / self.ways,
                    )
                )  # fmt: skip
        return result(metrics, notes, "few_shot")


class KShotProbe(WithClasses, OfEach, name="k_shot_probe"):
    """Accuracy on all classes of `test`, learned from k rows a class of `data`: a curve over k.

    Each k is drawn `draws` times, at an address, and the accuracies averaged; the interval is that of the mean over
    test rows, each with its share of draws that were right. Classes with fewer than k rows are not learned, and their
    test rows wrong; this is said. Chance is 1 / the number of classes in both.
    """

    example: ClassVar[str] = "{use: k_shot_probe, data: train, test: test, of: image, labels: label, shots: [1, 4, 16]}"

    test: Ref[Data] = default(..., description="rows to classify")
    shots: tuple[PositiveInt, ...] = default(
        (1, 2, 4, 8, 16), min_length=1, description="rows of a class, from few to many"
    )
    draws: PositiveInt = 5
    by: By = "linear"
    c: PositiveFloat = default(1.0, description="inverse strength of the penalty, of `by: linear`")
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    def lacks(self, known: Counts, asked: Counts | None) -> Iterator[Refusal]:
        yield from two_classes(known, "a classifier")
        yield from known_classes(known, asked)
        usable = sum(rows >= min(self.shots) for rows in known.values())
        if len(known) > 1 and usable < 2:
            least = amount(min(self.shots), "row")
            said = f"{usable} of {len(known)} classes have {least} to learn from, two are needed"
            yield "shots", said, "write fewer shots, or name more data"

    def evaluate(self, *of: Encoding, labels: Tensor, test: Any) -> EvaluationResult:
        import numpy as np

        from mmflow.plugin import numpy_generator
        from mmflow_evaluators.estimates import group_of, result, share
        from mmflow_evaluators.probes.episodes import classify, draw_shots, enough
        from mmflow_evaluators.vectors import vectors_of

        metrics, notes = [], []
        curves: dict[str, list[float]] = {}
        measured_at: list[int] = []
        for place, (name, encoding) in enumerate(zip(self.of, of, strict=True)):
            x, here = vectors_of(encoding, f"k_shot_probe of {name}")
            y, here_y = vectors_of(test.of[place], f"k_shot_probe of {name} (test)")
            classes = np.where(here, labels.cpu().numpy().reshape(-1), -1)
            asked = np.where(here_y, test.fields["labels"].cpu().numpy().reshape(-1), -1)
            rows = np.flatnonzero(asked >= 0)
            y, asked = y[rows], asked[rows]
            self.require(f"k_shot_probe of {name}", classes, asked)
            every = np.union1d(enough(classes, 1), asked)
            for k in self.shots:
                usable = enough(classes, k)
                if len(usable) < 2:
                    notes.append(f"{k} shots are not measured: {len(usable)} classes have so many rows.")
                    continue
                if len(usable) < len(every):
                    notes.append(f"{len(every) - len(usable)} classes have fewer than {k} rows to learn from.")
                right = np.zeros(len(asked))
                for number in range(self.draws):
                    generator = numpy_generator("mmflow_evaluators.k_shot_probe", self.seed, k, number)
                    drawn = draw_shots(classes, k, generator)
                    names, own = np.unique(classes[drawn], return_inverse=True)
                    found = classify(self.by, x[drawn], own.astype(np.int64), y, self.c)
                    at = np.minimum(np.searchsorted(names, asked), len(names) - 1)
                    right += np.where(names[at] == asked, found[np.arange(len(asked)), at], 0.0) / self.draws
                group = group_of(name, len(of) == 1)
                metrics.append(
                    share(
                        f"{k}_shot_accuracy", right, rows, group=group, title=f"accuracy, {k} shots",
                        chance=1 / len(every),
                    )
                )  # fmt: skip
                curves.setdefault(str(name), []).append(float(right.mean()))
                measured_at = [*measured_at, k] if k not in measured_at else measured_at
        measured = result(metrics, notes, "k_shot_probe")
        if all(len(curve) == len(measured_at) for curve in curves.values()):
            measured.figures["Accuracy by rows a class"] = {
                "kind": "lines", "x": measured_at, "x_label": "rows a class", "series": curves,
            }  # fmt: skip
        return measured
