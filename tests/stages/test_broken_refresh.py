"""Broken stages inside a training: each mistake gives one message, with its line and how to fix it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mmflow.spec import SpecError

from .refreshed import ALL

BASE = """\
losses:
  pull: {use: seen, of: w, labels: em.km.label}
stages:
  fit:
    use: train
    data: train
    epochs: 3
    batch_size: 8
    refresh:
      em:
        every: {epochs: 1}
        carry: {k: 4}
        next: {k: now.following}
        stages:
          feats: {use: embed, data: train, of: w}
          km: {use: kmeans, of: feats.w, k: 4}
          now: {use: count, of: feats.w, k: carry.k}
      dev: {every: {steps: 2}, stages: {score: {use: told, data: train, of: w}}}
    keep: {best: dev.score.number}
    stop: {patience: 2, of: dev.score.number}
  after: {use: embed, data: train, of: w}
"""
HEAD = 7
"""Lines in front of it."""

# what is written, what stands there instead, "line: path" of the one message, words in it
BROKEN = [
    (
        "every: {epochs: 1}",
        "every: {epoch: 1}",
        "11: stages.fit.refresh.em.every.epoch",
        ["expected one of steps, epochs"],
    ),
    ("every: {epochs: 1}", "every: {epochs: 0}", "11: stages.fit.refresh.em.every", ["epochs above 0"]),
    (
        "every: {epochs: 1}",
        "every: {epochs: 1, steps: 2}",
        "11: stages.fit.refresh.em.every",
        ["a number of steps or of epochs"],
    ),
    ("every: {epochs: 1}", "every: 1", "11: stages.fit.refresh.em.every", ["expected a mapping"]),
    (
        "every: {epochs: 1}",
        "every: {epochs: 1}\n        until: {epochs: -1}",
        "12: stages.fit.refresh.em.until",
        ["not negative"],
    ),
    ("every: {epochs: 1}", "evry: {epochs: 1}", "11: stages.fit.refresh.em.evry", ["did you mean every?"]),
    (
        "next: {k: now.following}",
        "next: {k: now.folowing}",
        "13: stages.fit.refresh.em.next.k",
        ["write now.following"],
    ),
    ("next: {k: now.following}", "next: {k: km.label}", "13: stages.fit.refresh.em.next.k", ["write km.centers"]),
    (
        "next: {k: now.following}",
        "next: {k: nobody.count}",
        "17: stages.fit.refresh.em.stages.now.k",
        ["nobody.count", "a whole number"],
    ),
    ("of: feats.w, k: 4", "of: feets.w, k: 4", "16: stages.fit.refresh.em.stages.km.of", ["did you mean feats?"]),
    (
        "of: feats.w, k: 4",
        "of: dev.score, k: 4",
        "16: stages.fit.refresh.em.stages.km.of",
        ["put the two in one group"],
    ),
    ("km: {use: kmeans", "km: {use: kmaens", "16: stages.fit.refresh.em.stages.km.use", ["did you mean 'kmeans'?"]),
    ("labels: em.km.label", "labels: em.km.lable", "2: losses.pull.labels", ["did you mean label?"]),
    (
        "labels: em.km.label",
        "labels: em.kn.label",
        "2: losses.pull.labels",
        ["no stage `kn` in the group em", "feats, km, now"],
    ),
    ("labels: em.km.label", "labels: me.km.label", "2: losses.pull.labels", ["there is no `me` here"]),
    ("labels: em.km.label", "labels: em.feats.w", "2: losses.pull.labels", ["a stage's column of vector"]),
    ("best: dev.score.number", "best: dev.score", "19: stages.fit.keep.best", ["such as dev.score.accuracy"]),
    ("best: dev.score.number", "best: dev.scores.number", "19: stages.fit.keep.best", ["did you mean dev.score?"]),
    (
        "best: dev.score.number",
        "best: dve.score.number",
        "19: stages.fit.keep.best",
        ["no group `dve`", "did you mean dev.score?"],
    ),
    (
        "best: dev.score.number",
        "best: em.km.number",
        "19: stages.fit.keep.best",
        ["km measures nothing", "write dev.score.METRIC"],
    ),
    ("patience: 2", "patience: 0", "20: stages.fit.stop.patience", ["at least 1"]),
    (
        "patience: 2, of: dev.score.number",
        "patience: 2, of: losses.pul",
        "20: stages.fit.stop.of",
        ["did you mean losses.pull?"],
    ),
    ("patience: 2, of: dev.score.number", "patience: 2", "20: stages.fit.stop", ["stop needs `of`"]),
    ("patience: 2, of: dev.score.number", "patience: 2, of: pull", "20: stages.fit.stop.of", ["no group `pull`"]),
    (
        "score: {use: told, data: train, of: w}}",
        "score: {use: told, data: train, of: w, model: after}}",
        "18: stages.fit.refresh.dev.stages.score.model",
        ["expected a stage that gives a model", "such as fit"],
    ),
    (
        "score: {use: told, data: train, of: w}}",
        "score: {use: told, data: train, of: q}}",
        "18: stages.fit.refresh.dev.stages.score.of",
        ["there is no `q` here", "z, w, v"],
    ),
    (
        "score: {use: told, data: train, of: w}}",
        "score: {use: told, data: test, of: w}}",
        "18: stages.fit.refresh.dev.stages.score.data",
        ["there is no `test` here", "train, other"],
    ),
    (
        "after: {use: embed, data: train, of: w}",
        "after: {use: kmeans, of: fit.em.feats.w, k: 2}",
        "21: stages.after.of",
        ["are not stored", "embed the data again"],
    ),
    (
        "after: {use: embed, data: train, of: w}",
        "after: {use: kmeans, of: fit.em.km.lable, k: 2}",
        "21: stages.after.of",
        ["gives no `em.km.lable`"],
    ),
    (
        "after: {use: embed, data: train, of: w}",
        "after: {use: embed, data: train, of: w, refresh: {a: {every: {steps: 1}}}}",
        "21: stages.after.refresh",
        ['has no field "refresh"'],
    ),
]


@pytest.fixture(autouse=True)
def _components(_groups: None, register: Callable[..., None]) -> None:
    register(*ALL)


def test_the_base_is_sound(load: Callable[..., Any]) -> None:
    assert set(load(BASE).scope("fit").groups) == {"em", "dev"}


@pytest.mark.parametrize(("before", "after", "place", "words"), BROKEN, ids=[case[1].strip()[:44] for case in BROKEN])
def test_a_mistake_gives_one_message(
    load: Callable[..., Any], before: str, after: str, place: str, words: list[str]
) -> None:
    assert before in BASE
    with pytest.raises(SpecError) as caught:
        load(BASE.replace(before, after, 1))
    (problem,) = caught.value.problems
    line, path = place.split(": ")
    assert problem.mark is not None
    assert problem.mark.line == int(line) + HEAD
    assert path in str(problem)
    assert all(word in str(problem) for word in words), str(problem)
    assert "@" not in str(problem)


def test_several_mistakes_are_all_told_with_their_lines(load: Callable[..., Any]) -> None:
    broken = BASE.replace("carry: {k: 4}", "carry: {j: 4}").replace("best: dev", "bset: dev")
    with pytest.raises(SpecError) as caught:
        load(broken)
    assert len(caught.value.problems) > 4
    assert all(problem.mark is not None and problem.mark.line > HEAD for problem in caught.value.problems)
