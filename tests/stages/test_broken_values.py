"""Broken specs about values and models of stages: each mistake gives one message with its line and its fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmflow.plugin import Component, Labels, Loss, Ref, Static, Value, default
from mmflow.spec import SpecError


class Margin(Loss, name="margin"):
    margin: Value = default(0.1, per_row=True)
    scale: Value = default(1.0)
    bank: Ref[Static] | None = None

    def compute(self, a: torch.Tensor, margin: Any, scale: Any, bank: Any) -> torch.Tensor:
        return a.mean(-1)


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(Margin)


BASE = """\
memories: {bank: {use: queue, size: 8, of: w}}
views: {two: {of: x, copies: 2}}
losses: {l: {use: margin, of: w}}
stages:
  feats: {use: embed, data: train, of: z, model: init}
  km: {use: kmeans, of: feats.z, k: 4}
  odd: {use: select, data: train, keep: label}
  fit: {use: train, data: train, steps: 2, losses: [l]}
  more: {use: train, data: train, steps: 2, start: fit}
  vectors: {use: embed, data: odd, of: w, model: fit}
"""
HEAD = 6
"""Lines in front of it."""

# what is written, what stands there instead, "line: path" of the one message, words in it
BROKEN = [
    ("of: feats.z", "of: feats.y", "6: stages.km.of", ["the stage feats gives no `y`", "there is z"]),
    ("of: feats.z", "of: km.centers", "6: stages.km.of",
     ["a stage's static output", "expected a stage's column", "write km.label"]),
    ("of: feats.z", "of: odd", "6: stages.km.of", ["`odd`, data made by a stage", "such as feats, km"]),
    ("of: feats.z", "of: z", "6: stages.km.of", ["`z` is an encoder", "expected a stage's column"]),
    ("data: odd", "data: km", "10: stages.vectors.data",
     ["a stage's column", "expected an entry of data", "such as odd"]),
    ("data: odd", "data: odd.lines", "10: stages.vectors.data", ["gives no `lines`", "there is rows"]),
    ("data: odd", "data: vectors", "10: stages.vectors.data", ["a stage's column"]),
    ("steps: 2, losses", "steps: 2, fields: {x: km.label}, losses", "8: stages.fit.fields.x", ["field `x` of its own"]),
    ("steps: 2, losses", "steps: 2, fields: {g: km.lable}, losses", "8: stages.fit.fields.g", ["no `lable`", "label?"]),
    ("steps: 2, losses", "steps: 2, fields: {g: label}, losses", "8: stages.fit.fields.g", ["`label` is a field"]),
    ("steps: 2, losses", "steps: 2, fields: [km.label], losses", "8: stages.fit.fields", ["found a list of 1"]),
    ("steps: 2, losses", "steps: 2, replace: {tow: two}, losses", "8: stages.fit.replace.tow", ["to replace", "two?"]),
    ("steps: 2, losses", "steps: 2, replace: {two: z}, losses", "8: stages.fit.replace.two", ["no encoder `two`"]),
    ("steps: 2, losses", "steps: 2, replace: {w: zz}, losses", "8: stages.fit.replace.w", ["there is no `zz`"]),
    ("start: fit}", "start: {from: fit, only: [encoders.q]}}", "9: stages.more.start.only.0",
     ["the model of fit has nothing at `encoders.q`", "encoders.w"]),
    ("start: fit}", "start: {from: km}}", "9: stages.more.start.from", ["a stage that gives a model", "such as fit"]),
    ("start: fit}", "start: {only: [encoders.w]}}", "9: stages.more.start", ["needs `from`"]),
    ("start: fit}", "start: {from: fit, onyl: []}}", "9: stages.more.start.onyl", ["did you mean only?"]),
    ("of: w}}\nstages", "of: w, scale: km.density}}\nstages", "3: losses.l.scale",
     ["takes one number", "gives one a row"]),
    ("of: w}}\nstages", "of: w, weight: fields.label}}\nstages", "3: losses.l.weight", ["write `rows: NAME`"]),
    ("of: w}}\nstages", "of: w, margin: km.centers}}\nstages", "3: losses.l.margin",
     ["one number a row", "write km.label or km.density"]),
    ("of: w}}\nstages", "of: w, margin: km.width}}\nstages", "3: losses.l.margin", ["gives no `width`", "density"]),
    ("of: w}}\nstages", "of: w, margin: fields.name}}\nstages", "3: losses.l.margin",
     ["a field of text", "one number a row"]),
    ("of: w}}\nstages", "of: w, bank: km.label}}\nstages", "3: losses.l.bank",
     ["a stage's column of label", "write km.centers"]),
    ("of: w}}\nstages", "of: init.q}}\nstages", "3: losses.l.of", ["the stage init gives no `q`", "v, w, z"]),
    ("of: w}}\nviews", "of: w, initial: {other: km.centers}}}\nviews", "1: memories.bank",
     ["`initial` gives other", "value"]),
    ("of: w}}\nviews", "of: w, initial: w}}\nviews", "1: memories.bank.initial",
     ["`w` is an encoder", "static output"]),
    ("k: 4", "k: km.label", "6: stages.km.k", ['found "km.label"', "a whole number"]),
    ("keep: label", "keep: keep", "7: stages.odd.keep", ["there is no `keep` here"]),
]  # fmt: skip


def test_the_base_is_sound(load: Callable[..., Any]) -> None:
    assert load(BASE).scope("vectors").fields["x"].size == (6,)


@pytest.mark.parametrize(("before", "after", "place", "words"), BROKEN, ids=[case[1][:44] for case in BROKEN])
def test_a_mistake_gives_one_message(
    load: Callable[..., Any], before: str, after: str, place: str, words: list[str]
) -> None:
    assert before in BASE
    with pytest.raises(SpecError) as caught:
        load(BASE.replace(before, after, 1))
    (problem,) = caught.value.problems
    line, path = place.split(": ")
    assert problem.mark is not None
    message = str(problem)
    assert f"s.yaml:{int(line) + HEAD + 1}:" in message, message
    assert f": {path}: " in message, message
    for word in words:
        assert word in message, message


def test_stages_that_need_each_others_values_are_a_circle(load: Callable[..., Any]) -> None:
    text = BASE.replace("data: train, of: z", "data: train, fields: {g: km.label}, of: z")
    with pytest.raises(SpecError, match="a circle of stages: feats -> km -> feats"):
        load(text)


class Weigher(Component, kind="weigher"):
    """Says how much a row counts."""

    labels: Ref[Labels] | None = None


class ByLabel(Weigher, name="by_label"):
    """By its label."""


class Weighed(Loss, name="weighed"):
    """Mean square, with a component inside."""

    by: Weigher = default("by_label")

    def compute(self, a: Any, by: Any) -> Any:
        return a.square().mean(-1)


def test_a_component_inside_a_loss_is_given_no_values_of_a_step(
    load: Callable[..., Any], register: Callable[..., None]
) -> None:
    register(ByLabel, Weighed)
    text = "losses:\n  l: {use: weighed, of: w, by: {use: by_label, labels: label}}\n"
    with pytest.raises(SpecError) as caught:
        load(text + "stages:\n  fit: {use: train, data: train, steps: 1, batch_size: 8}\n")
    (problem,) = caught.value.problems
    assert "losses.l.by.labels: a component inside a loss cannot be given `label`" in str(problem)
    assert "name it in a field of weighed itself" in str(problem)
