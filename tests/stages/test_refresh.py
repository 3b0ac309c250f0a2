"""Stages inside a training: when they run, what they give it, and what it keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mmflow.artifacts import ColumnArtifact, HistoryArtifact, ModelArtifact, StaticArtifact

from .refreshed import ALL, Count, Seen, Told, forget

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _components(_groups: None, register: Callable[..., None]) -> None:
    register(*ALL)
    forget()


CLUSTERED = """
losses:
  pull: {use: seen, of: w, labels: em.km.label}
  proto: {use: prototypes, of: w, prototypes: em.km.centers, labels: em.km.label, temperature: em.km.density}
stages:
  fit:
    use: train
    data: train
    epochs: 3
    batch_size: 8
    log_every: 1
    optimizer: {use: sgd, lr: 0.001}
    refresh:
      em:
        every: {epochs: 1}
        stages:
          feats: {use: embed, data: train, of: w, normalize: true}
          km: {use: kmeans, of: feats.w, k: 4}
"""


def lines(ran: Any, stage: str = "fit") -> list[dict[str, float]]:
    return HistoryArtifact(ran.folder(stage)).lines()


class TestValues:
    def test_clusters_of_the_current_model_are_labels_and_constants_until_the_next_time(self, run: Run) -> None:
        ran = run(CLUSTERED)
        assert len(Seen.calls) == 9
        seen = [dict(zip(ids, labels or [], strict=True)) for ids, labels in Seen.calls]
        epochs = [{**seen[3 * e], **seen[3 * e + 1], **seen[3 * e + 2]} for e in range(3)]
        assert all(len(one) == 24 for one in epochs)
        # The data lies in four groups by the number of the row, whatever number each cluster has.
        for one in epochs:
            assert len({(int(id[1:]) % 4, label) for id, label in one.items()}) == 4
        losses = [line["loss/proto"] for line in lines(ran)]
        assert losses[-1] < losses[0]
        assert all(np.isfinite(losses))

    def test_the_values_of_the_last_time_are_outputs_of_the_training(self, run: Run) -> None:
        ran = run(
            CLUSTERED
            + "  codes: {use: mixed_radix, of: [fit.em.km.label, fit.em.km.label], base: 4}\n"
            + "  next: {use: train, start: init, data: train, steps: 1, batch_size: 24, losses: {proto: null, pull: "
            + "{use: seen, of: w, labels: fit.em.km.label}}}\n"
        )
        folder = ran.folder("fit")
        label = ColumnArtifact(folder, "em.km.label").read()
        centers, declared = StaticArtifact(folder, "em.km.centers").read()
        assert (len(label), centers.shape, declared.axes) == (24, (4, 4), ("cluster",))
        codes = ColumnArtifact(ran.folder("codes"), "code").read()
        assert codes == {id: 5 * number for id, number in label.items()}
        ids, labels = Seen.calls[-1]
        assert labels == [label[id] for id in ids]
        assert not (folder / "columns" / "em_feats_w.parquet").exists()

    def test_what_is_not_there_yet_is_none_where_it_is_optional_and_turns_a_loss_off_that_needs_it(
        self, run: Run
    ) -> None:
        ran = run(CLUSTERED, "stages.fit.refresh.em.from={epochs: 1}")
        assert [labels is None for _, labels in Seen.calls] == [True] * 3 + [False] * 6
        assert ["loss/proto" in line for line in lines(ran)] == [False] * 3 + [True] * 6

    def test_a_column_that_joins_is_a_field_of_the_data(self, run: Run) -> None:
        text = CLUSTERED.replace("data: train\n    epochs", "data: train\n    fields: {group: em.km.label}\n    epochs")
        text = text.replace("labels: em.km.label}\n  proto", "labels: group}\n  proto")
        run(text)
        named = [labels for _, labels in Seen.calls]
        forget()
        run(CLUSTERED, "name=other", "stages.fit.micro_batch_size=24")
        assert named == [labels for _, labels in Seen.calls]

    def test_a_sampler_sees_the_columns_of_the_last_time(self, run: Run) -> None:
        ran = run(CLUSTERED, "stages.fit.sampler={use: group_batches, by: em.km.label}", "stages.fit.batch_size=6")
        assert all(len(set(labels or [])) == 1 for _, labels in Seen.calls)
        assert lines(ran)[-1]["step"] == 12

    def test_an_epoch_is_as_long_as_the_column_makes_it(self, run: Run) -> None:
        text = """
losses: {pull: {use: seen, of: w}}
stages:
  feats: {use: embed, data: train, of: z, model: init}
  fit:
    use: train
    data: train
    epochs: 3
    batch_size: 4
    log_every: 1
    sampler: {use: subset, keep: some.count.label}
    refresh:
      some:
        carry: {k: 1}
        stages: {count: {use: count, of: feats.z, k: carry.k}}
        next: {k: count.following}
"""
        # Of every k rows all but the first are kept: of 24 first none, and then 12, 16, 18 in whole batches.
        with pytest.raises(AssertionError, match="keeps no sampl"):
            run(text)
        forget()
        ran = run(text, "stages.fit.refresh.some.carry.k=2")
        assert [k for k, _ in Count.calls] == [2, 3, 4, 5]
        found = lines(ran)
        assert [(line["step"], int(line["epoch"] - 1e-3)) for line in found] == [
            *((step, 0) for step in (1, 2, 3)), *((step, 1) for step in (4, 5, 6, 7)),
            *((step, 2) for step in (8, 9, 10, 11)),
        ]  # fmt: skip
        assert all(len(ids) == 4 for ids, _ in Seen.calls)


class TestTimes:
    @pytest.mark.parametrize(
        ("when", "steps"),
        [
            ("{every: {epochs: 1}}", [0, 3, 6]),
            ("{every: {epochs: 1}, from: {epochs: 2}}", [6]),
            ("{every: {epochs: 0.5}}", [0, 2, 3, 5, 6, 8]),
            ("{every: {steps: 2}, until: {steps: 5}}", [0, 2, 4]),
            ("{every: {steps: 4}, from: {epochs: 1}}", [3, 7]),
            ("{every: {epochs: 1}, from: {steps: 4}}", [4, 7]),
        ],
    )
    def test_the_times_are_from_plus_every(self, run: Run, when: str, steps: list[int]) -> None:
        text = CLUSTERED.replace("        every: {epochs: 1}\n", "").replace("k: 4}", "k: 4}\n      ")
        changed: list[int] = []

        class Watch(list[Any]):
            def append(self, one: Any) -> None:
                changed.append(len(Seen.calls))

        Count.calls = Watch()  # type: ignore[assignment]
        try:
            run(text, f"stages.fit.refresh.em={merged(when)}", "losses.proto=null", "losses.pull.labels=em.now.label")
        finally:
            Count.calls = []
        # The end is a time too where it falls on one: then no step follows.
        assert [step for step in changed if step < 9] == steps

    def test_a_group_that_nothing_reads_begins_after_one_time_and_measures_at_the_end(self, run: Run) -> None:
        Told.numbers[:] = [1, 2, 3]
        ran = run(MEASURED, "stages.fit.refresh.dev.every={steps: 4}")
        assert [line["step"] for line in lines(ran) if "dev.score.number" in line] == [4, 8, 9]


def merged(when: str) -> str:
    return when[:-1] + ", stages: {feats: {use: embed, data: train, of: w}, now: {use: count, of: feats.w}}}"


MEASURED = """
losses: {pull: {use: seen, of: w}}
stages:
  fit:
    use: train
    data: train
    epochs: 3
    batch_size: 8
    log_every: 1
    optimizer: {use: sgd, lr: 1.0}
    refresh:
      dev: {every: {steps: 1}, stages: {score: {use: told, data: train, of: w}}}
"""


class TestKeepAndStop:
    @pytest.mark.parametrize(("better", "best"), [("higher", 2), ("lower", 4)])
    def test_the_model_that_measured_best_is_the_one_that_is_left(self, run: Run, better: str, best: int) -> None:
        Told.numbers[:] = [1.0, 2.0, 9.0, 3.0, 0.5, 2.0, 9.0, 0.5, 1.0]
        ran = run(
            MEASURED + "    keep: {best: dev.score.number}\n  look: {use: embed, data: train, of: w}\n",
            f"stages.fit.refresh.dev.stages.score.better={better}",
        )
        found = ColumnArtifact(ran.folder("look"), "w").read()
        kept = torch.tensor(np.stack(list(found.values())))
        assert torch.equal(kept, Told.vectors[best])
        assert not torch.equal(kept, Told.vectors[-1])
        measured = [line["dev.score.number"] for line in lines(ran) if "dev.score.number" in line]
        assert measured == Told.numbers

    def test_values_of_stages_inside_are_those_beside_the_best_model(self, run: Run) -> None:
        Told.numbers[:] = [1.0, 5.0, 3.0]
        text = MEASURED + "    keep: {best: dev.score.number}\n"
        dev = "{every: {epochs: 1}, carry: {k: 3}, next: {k: now.following}, stages: {score: {use: told, data: train, "
        dev += "of: w}, feats: {use: embed, data: train, of: w}, now: {use: count, of: feats.w, k: carry.k}}}"
        ran = run(text, f"stages.fit.refresh.dev={dev}")
        assert [k for k, _ in Count.calls] == [3, 4, 5]
        assert StaticArtifact(ran.folder("fit"), "dev.now.following").read()[0] == 5

    def test_a_training_ends_when_a_metric_has_not_improved_for_a_while(self, run: Run) -> None:
        Told.numbers[:] = [1.0, 2.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0]
        ran = run(MEASURED + "    stop: {patience: 2, of: dev.score.number}\n")
        assert len(Told.vectors) == 4
        found = lines(ran)
        assert [line["step"] for line in found if "loss" in line] == [1, 2, 3, 4]
        assert HistoryArtifact(ran.folder("fit")).summary().get("steps") == 4

    def test_a_training_ends_when_a_loss_has_not_improved_for_so_many_epochs(self, run: Run) -> None:
        def text(of: str) -> str:
            return MEASURED.replace("refresh:\n      dev: {every: {steps: 1}, stages: {score: {use: told, data: train, "
                                    "of: w}}}", f"stop: {{patience: 2, of: {of}}}")  # fmt: skip

        for of in ("losses.total", "losses.pull"):
            # Every step multiplies the loss by more than one: the first epoch was the best.
            ran = run(text(of), "stages.fit.epochs=20", "stages.fit.optimizer.lr=5.0")
            assert HistoryArtifact(ran.folder("fit")).summary().get("steps") == 9
        ran = run(text("losses.total"), "stages.fit.epochs=5", "stages.fit.optimizer.lr=0.01")
        assert HistoryArtifact(ran.folder("fit")).summary().get("steps") == 15

    def test_a_metric_that_is_not_measured_is_told_with_those_that_are(self, run: Run) -> None:
        Told.numbers[:] = [1.0] * 9
        ran = run(MEASURED + "    keep: {best: dev.score.nummer}\n", fails=True)
        said = " ".join(ran.outcome.outcome.notes)
        assert "keep.best: dev.score has measured no `nummer`" in said

    def test_metrics_are_in_the_report(self, run: Run) -> None:
        Told.numbers[:] = [0.25 * step for step in range(9)]
        ran = run(MEASURED)
        with open(ran.outcome.report, encoding="utf-8") as file:
            assert "dev.score.number" in file.read()


class TestCarry:
    def test_a_number_goes_from_one_time_to_the_next(self, run: Run) -> None:
        text = CLUSTERED.replace(
            "        stages:\n", "        carry: {k: 2}\n        next: {k: now.following}\n        stages:\n"
        ) + "          now: {use: count, of: feats.w, k: carry.k}\n"  # fmt: skip
        ran = run(text)
        assert [k for k, _ in Count.calls] == [2, 3, 4, 5]
        assert StaticArtifact(ran.folder("fit"), "em.now.following").read()[0] == 6

    def test_a_column_goes_from_one_time_to_the_next_and_is_left_out_before(self, run: Run) -> None:
        text = CLUSTERED.replace(
            "        stages:\n", "        carry: {code: null}\n        next: {code: now.label}\n        stages:\n"
        ) + "          now: {use: count, of: feats.w, beside: [carry.code]}\n"  # fmt: skip
        run(text)
        assert [beside for _, beside in Count.calls] == [0, 1, 1, 1]

    def test_codes_grow_by_what_the_time_before_has_given(self, run: Run) -> None:
        text = CLUSTERED.replace(
            "        stages:\n", "        carry: {code: null}\n        next: {code: mix.code}\n        stages:\n"
        ) + "          mix: {use: mixed_radix, of: [carry.code, km.label], base: 4}\n"  # fmt: skip
        ran = run(text, "stages.fit.epochs=1", "stages.fit.optimizer.lr=0.0")
        codes = ColumnArtifact(ran.folder("fit"), "em.mix.code").read()
        label = ColumnArtifact(ran.folder("fit"), "em.km.label").read()
        # Nothing moved: the clusters of both times are the same, and the code is their number twice.
        assert codes == {id: 4 * number + number for id, number in label.items()}

    def test_a_number_that_may_not_stand_there_is_told(self, run: Run) -> None:
        text = CLUSTERED.replace(
            "        stages:\n", "        carry: {k: 2}\n        next: {k: km.density}\n        stages:\n"
        ) + "          now: {use: count, of: feats.w, k: carry.k}\n"  # fmt: skip
        ran = run(text, fails=True)
        assert "stage fit.em.now: `k` cannot be" in " ".join(ran.outcome.outcome.notes)


class TestModels:
    def test_a_model_that_a_stage_gives_takes_the_place_of_the_current_one(self, run: Run) -> None:
        text = MEASURED.replace("lr: 1.0", "lr: 0.0").replace("score: {use: told, data: train, of: w}", "up: scaled")
        ran = run(text, "stages.fit.refresh.dev.every={epochs: 1}")
        still = run(text, "stages.fit.refresh=null")
        ours, theirs = (ModelArtifact(one.folder("fit")).weights() for one in (ran, still))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[path], 8 * theirs[path]) for path in ours)

    def test_stages_below_use_the_model_that_one_above_gives(self, run: Run) -> None:
        Told.numbers[:] = [1, 2, 3]
        dev = "{every: {epochs: 1}, stages: {before: {use: told, data: train, of: w}, up: scaled, "
        dev += "after: {use: told, data: train, of: w}}}"
        Told.numbers[:] = [1.0] * 6
        run(MEASURED, f"stages.fit.refresh.dev={dev}", "stages.fit.optimizer.lr=0.0")
        bias = (Told.vectors[1] - 2 * Told.vectors[0]).abs().max()
        assert bias < 1e-5
        # And the training goes on from it.
        assert torch.equal(Told.vectors[2], Told.vectors[1])

    def test_a_stage_inside_may_use_the_untrained_model_and_those_of_other_stages(self, run: Run) -> None:
        Told.numbers[:] = [1.0] * 9
        text = MEASURED.replace("stages:\n  fit:", "stages:\n  warm: {use: train, data: train, steps: 2, batch_size: 8}"
                                "\n  fit:")  # fmt: skip
        dev = "{every: {epochs: 1}, stages: {a: {use: told, data: train, of: w, model: init}, b: {use: told, "
        dev += "data: train, of: w, model: warm}, c: {use: told, data: train, of: w}}}"
        ran = run(text, f"stages.fit.refresh.dev={dev}", "stages.fit.start=init")
        a, b, c = Told.vectors[0::3], Told.vectors[1::3], Told.vectors[2::3]
        assert torch.equal(a[0], a[2])
        assert torch.equal(b[0], b[2])
        assert not torch.equal(c[0], c[2])
        assert not torch.equal(a[0], b[0])
        assert ran.outcome.plan["fit"].inputs == ("warm",)
