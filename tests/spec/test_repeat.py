"""`repeat` is written out as stages of every iteration; each mistake in it is told once, with its line and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.flow.plan import build_plan
from mmflow.identity.keys import Keys
from mmflow.plugin.registry import Registry
from mmflow.spec import SpecError, load_text

ROUND = """\
  round:
    use: repeat
    times: 3
    carry: {model: base}
    stages:
      fit: {use: train, start: carry.model, data: train, steps: 1}
      dev: {use: retrieval, data: test, of: [image, text]}
    next: {model: fit}
"""
BASE = f"""\
mmflow: 1
name: rounds
data:
  train: {{use: shapes, split: train, size: 40}}
  test: {{use: shapes, split: test, size: 40}}
encoders:
  image: {{use: vit, of: image, width: 32, depth: 2, head: {{use: linear, dim: 16}}}}
  text: {{use: text_transformer, of: caption, width: 32, depth: 1, head: {{use: linear, dim: 16}}}}
losses:
  align: {{use: infonce, of: [image, text]}}
stages:
  base: {{use: train, data: train, steps: 1}}
{ROUND}\
eval:
  after: {{use: retrieval, data: test, of: [image, text]}}
"""
AFTER = "after: {use: retrieval,"
UNTIL = "until: {metric: dev.image_to_text_r1, patience: 2, at_most: 5}"


def test_each_iteration_begins_with_what_the_one_before_has_given() -> None:
    spec = load_text(BASE)
    assert list(spec.stages) == [
        "base", "round.0.fit", "round.0.dev", "round.1.fit", "round.1.dev", "round.2.fit", "round.2.dev", "after",
    ]  # fmt: skip
    starts = [spec.scope(f"round.{i}.fit").start for i in range(3)]
    assert starts == ["base", "round.0.fit", "round.1.fit"]
    assert [spec.scope(f"round.{i}.dev").model for i in range(3)] == [f"round.{i}.fit" for i in range(3)]
    assert spec.scope("after").model == "round.2.fit"


def test_a_stage_that_names_no_model_has_the_one_above_in_the_file_in_every_iteration() -> None:
    spec = load_text(BASE.replace("start: carry.model, ", ""))
    assert [spec.scope(f"round.{i}.fit").start for i in range(3)] == ["base"] * 3


def test_names_of_iterations() -> None:
    text = BASE.replace("of: [image, text]}\n\n", "").replace(
        "  after:",
        "  first: {use: geometry, data: test, of: round.0.fit.image}\n"
        "  last: {use: geometry, data: test, of: stages.round.last.fit.image}\n"
        "  all: {use: geometry, data: test, of: [base.image, round.all.fit.image, text]}\n"
        "  whole: {use: geometry, data: test, of: round.all.fit.image}\n"
        "  after:",
    )
    spec = load_text(text)
    keys = Keys(spec)
    assert keys.upstream("first") == ("round.0.fit", "round.2.fit"), "encoders come from one, the model is the last"
    assert keys.upstream("last") == ("round.2.fit",)
    of = [str(name) for name in spec.stages["all"].of]  # pyright: ignore[reportAttributeAccessIssue]
    assert of == ["base.image", "round.0.fit.image", "round.1.fit.image", "round.2.fit.image", "text"]
    assert len(spec.stages["whole"].of) == 3  # pyright: ignore[reportAttributeAccessIssue]


def test_iterations_that_say_the_same_differ_by_their_seed() -> None:
    text = (
        BASE.replace("carry.model", "init")
        .replace("    carry: {model: base}\n", "")
        .replace("    next: {model: fit}\n", "")
    )
    spec = load_text(text)
    plan = build_plan(spec)
    assert len({plan[f"round.{i}.fit"].key for i in range(3)}) == 3
    assert len({spec.scope(f"round.{i}.fit").seed for i in range(3)} | {spec.seed}) == 4
    # Their evaluations have no draws of their own: equal models would have equal keys.
    again = build_plan(load_text(text.replace("times: 3", "times: 4")))
    for stage in plan:
        assert stage.name == "after" or again[stage.name].key == stage.key
    assert again["after"].key != plan["after"].key
    other = build_plan(load_text(text, overrides=["seed=1"]))
    assert other["round.1.fit"].key != plan["round.1.fit"].key


def test_a_carried_nothing_is_left_out_of_lists_and_fields() -> None:
    carry = "carry: {seen: null, kept: [base.image]}"
    history = (
        "      dev: {use: geometry, data: test, of: [carry.seen, image]}\n"
        "      wide: {use: geometry, data: test, of: carry.kept}\n"
    )
    text = BASE.replace("carry: {model: base}", carry).replace("carry.model", "base")
    text = text.replace("      dev: {use: retrieval, data: test, of: [image, text]}\n", history)
    text = text.replace("next: {model: fit}", "next: {seen: fit.image, kept: [carry.kept, fit.image]}")
    spec = load_text(text)
    of = [list(map(str, spec.stages[f"round.{i}.dev"].of)) for i in range(3)]  # pyright: ignore[reportAttributeAccessIssue]
    assert of == [["image"], ["round.0.fit.image", "image"], ["round.1.fit.image", "image"]]
    kept = list(map(str, spec.stages["round.2.wide"].of))  # pyright: ignore[reportAttributeAccessIssue]
    assert kept == ["base.image", "round.0.fit.image", "round.1.fit.image"]


def test_the_resolved_spec_says_repeat_and_is_the_same_spec() -> None:
    for text in (BASE, BASE.replace("times: 3", UNTIL)):
        spec = load_text(text.replace("steps: 1}\n      dev", "steps: 1, workers: $env.N}\n      dev"), env={"N": "1"})
        again = load_text(spec.to_yaml(), env={"N": "1"})
        assert again == spec
        assert [s.key for s in build_plan(again)] == [s.key for s in build_plan(spec)]
        assert "use: repeat" in spec.to_yaml()
        assert "${env.N}" in spec.to_yaml()


def test_with_until_readers_of_the_last_iteration_have_no_key_before_it_has_ended() -> None:
    plan = build_plan(load_text(BASE.replace("times: 3", UNTIL)))
    assert [stage.name for stage in plan if not stage.key] == ["after"]
    assert plan["after"].inputs == ("round.last.fit",)
    assert plan["round.4.fit"].state == "to run, unless ended"
    assert "round.3.dev" in plan["round.4.fit"].after
    assert set(plan["after"].after) == {f"round.{i}.{stage}" for i in range(5) for stage in ("fit", "dev")}
    more = build_plan(load_text(BASE.replace("times: 3", UNTIL.replace("at_most: 5", "at_most: 6"))))
    assert all(more[stage.name].key == stage.key for stage in plan)


def test_a_long_repetition_is_worked_out() -> None:
    spec = load_text(BASE.replace("times: 3", "times: 100"))
    plan = build_plan(spec)
    assert len(plan.stages) == 202
    assert len({stage.key for stage in plan}) == 201, "the last evaluation stands twice"


# what is written, what stands there instead, "line:column: path" of the one message, words in it
BROKEN = [
    ("times: 3", "times: 0", "15:12: stages.round.times", ["found 0", "at least 1"]),
    ("times: 3", "times: 1000", "15:12: stages.round.times", ["found 1000", "at most 100"]),
    ("times: 3", "times: $vars.n", "15:12: stages.round.times", ["no variable vars.n"]),
    ("    times: 3\n", "", "14:5: stages.round", ["either `times` or `until`"]),
    ("times: 3", f"times: 3\n    {UNTIL}", "14:5: stages.round", ["either `times` or `until`"]),
    ("times: 3", "time: 3", "15:5: stages.round.time", ["no field", "did you mean times?"]),
    ("times: 3", UNTIL.replace("dev.", "dve."), "15:21: stages.round.until.metric", ["no stage `dve`", "mean dev?"]),
    ("times: 3", UNTIL.replace("dev.", "fit."), "15:21: stages.round.until.metric", ["measures nothing"]),
    ("times: 3", "until: {metric: dev, at_most: 4}", "15:21: stages.round.until.metric", ["write dev.METRIC"]),
    ("times: 3", "until: {metric: dev.x}", "15:12: stages.round.until", ["needs `at_most`"]),
    ("times: 3", UNTIL.replace("patience: 2", "patience: 0"), "15:53: stages.round.until.patience", ["at least 1"]),
    ("carry: {model: base}", "carry: base", "16:12: stages.round.carry", ['found "base"', "a mapping"]),
    ("carry: {model: base}", "carry: {model: base, code: null}", "16:26: stages.round.carry.code",
     ["`next` does not say", "write next: {code: STAGE}"]),
    ("next: {model: fit}", "next: {model: fit, code: dev}", "20:24: stages.round.next.code", ["not carried"]),
    ("next: {model: fit}", "next: {modle: fit, model: fit}", "20:12: stages.round.next.modle", ["did you mean model?"]),
    ("next: {model: fit}", "next: {model: fti}", "18:32: stages.round.stages.fit.start",
     ["no `fti`", "mean fit?", "carried from s.yaml:20:19"]),
    ("carry: {model: base}", "carry: {model: bsae}", "18:32: stages.round.stages.fit.start",
     ["no `bsae`", "mean base?", "carried from s.yaml:16:20"]),
    ("start: carry.model", "start: carry.modle", "18:32: stages.round.stages.fit.start",
     ["`modle` is not carried", "did you mean model?"]),
    ("carry: {model: base}", "carry: {model: 3}", "18:32: stages.round.stages.fit.start", ["not a reference"]),
    ("      fit: {use: train, start: carry.model, data: train, steps: 1}\n"
     "      dev: {use: retrieval, data: test, of: [image, text]}\n", "      {}\n", "14:5: stages.round",
     ["a repeat without stages", "write stages: {fit:"]),
    ("    stages:\n      fit: {use: train, start: carry.model, data: train, steps: 1}\n"
     "      dev: {use: retrieval, data: test, of: [image, text]}\n", "    stages: [fit]\n",
     "17:13: stages.round.stages", ["found a list of 1", "named stages"]),
    ("      fit:", "      base:", "18:7: stages.round.stages.base", ["two stages are called base", "s.yaml:12:3"]),
    ("      dev: {use: retrieval, data: test", "      dev: {use: repeat, times: 2, stages: {}",
     "19:18: stages.round.stages.dev.use", ["a repeat inside a repeat", "one after another"]),
    ("      dev:", "      d.v:", "19:7: stages.round.stages.d.v", ["cannot be referred to"]),
    ("start: carry.model, data: train", "start: carry.model, data: trian", "18:51: stages.round.stages.fit.data",
     ["no `trian`", "did you mean train?"]),
    ("start: carry.model", "start: round.fit", "18:32: stages.round.stages.fit.start", ["round is repeated"]),
    ("start: carry.model", "start: round.last.fit", "18:7: stages.round.stages.fit", ["a circle of stages"]),
    # references from outside
    (AFTER, f"{AFTER} model: round,", "22:34: eval.after.model",
     ["no iteration of round", "round.last.dev"]),
    (AFTER, f"{AFTER} model: round.fit,", "22:34: eval.after.model",
     ["is repeated", "write round.last.fit"]),
    (AFTER, f"{AFTER} model: round.3.fit,", "22:34: eval.after.model", ["has 3 iterations", "round.last"]),
    (AFTER, f"{AFTER} model: round.last.fti,", "22:34: eval.after.model", ["no stage `fti`", "did you mean fit?"]),
    (AFTER, f"{AFTER} model: round.all.fit,", "22:34: eval.after.model", ["not a reference", "a list of 3"]),
    (AFTER, f"{AFTER} model: fit,", "22:34: eval.after.model",
     ["there is no `fit`"]),
]  # fmt: skip


@pytest.mark.parametrize(("written", "instead", "place", "says"), BROKEN)
def test_a_mistake_has_one_message_with_its_line(written: str, instead: str, place: str, says: list[str]) -> None:
    assert BASE.count(written) == 1, written
    with pytest.raises(SpecError) as caught:
        load_text(BASE.replace(written, instead), file="s.yaml")
    assert len(caught.value.problems) == 1, str(caught.value)
    message = str(caught.value.problems[0])
    assert message.startswith(f"s.yaml:{place}: "), message
    for words in says:
        assert words in message, message


@pytest.mark.parametrize(
    ("reference", "says"),
    [("round.2.fit", ["known only while round runs", "write round.last.fit"]), ("round.9.fit", ["has 5 iterations"])],
)
def test_with_until_only_the_first_and_the_last_iteration_can_be_named(reference: str, says: list[str]) -> None:
    text = BASE.replace("times: 3", UNTIL)
    load_text(text.replace("after: {use: retrieval,", "after: {use: retrieval, model: round.0.fit,"))
    with pytest.raises(SpecError) as caught:
        load_text(text.replace("after: {use: retrieval,", f"after: {{use: retrieval, model: {reference},"))
    assert all(words in str(caught.value) for words in says), str(caught.value)


def test_with_until_there_is_no_list_of_all_iterations() -> None:
    with pytest.raises(SpecError) as caught:
        load_text(BASE.replace("times: 3", UNTIL).replace("of: [image, text]}\n      ", "").replace(
            "after: {use: retrieval, data: test, of: [image, text]}",
            "after: {use: geometry, data: test, of: [round.all.fit.image]}"), file="s.yaml")  # fmt: skip
    (problem,) = caught.value.problems
    assert str(problem).startswith(
        "s.yaml:22:43: eval.after.of.0: how many iterations round has is known only while it"
    )
    assert problem.hint == "write round.last.fit.image, or `times` instead of `until`"


def test_mistakes_inside_are_told_for_one_iteration(plugged: Registry, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_text(
            BASE.replace("times: 3", "times: 50").replace(
                "steps: 1}\n      dev", "losses: [nothing], steps: 1}\n      dev"
            )
        )
    assert len(caught.value.problems) == 1
