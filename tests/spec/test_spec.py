"""What a sound spec means: stages, scopes, targets, types, order, and its form written out."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from mmflow.plugin.component import ComponentError
from mmflow.spec import STAGE, Owner, Spec, SpecError, Target, load_text
from mmflow.spec.text.yaml_reader import parse_text

TEXT = """\
data:
  train: {use: shapes, split: train, size: 400}
  test: {use: shapes, split: test, size: 100}
views:
  two: {of: image, copies: 2, apply: [flip]}
  image: {of: image, apply: [flip]}
encoders:
  image: {use: vit, of: image, width: 32, depth: 2, patch: 8, size: 48, head: {use: linear, dim: 16}}
  raw: {use: same, weights: image, of: fields.image}
  both: {use: same, weights: image, of: two}
  text: {use: text_transformer, of: caption, width: 32, depth: 1, head: {use: linear, dim: 16}}
  narrow: {use: linear, of: image, dim: 4}
  two_0: {use: same, weights: image, of: two.0}
  two_1: {use: same, weights: image, of: two.1}
  slow: {use: ema, weights: image, of: two.1, momentum: 0.99, when: before_forward}
memories:
  keys: {use: queue, size: 64, of: {image: slow, text: text}}
  past: {use: queue, size: 64, of: text.detach}
parts:
  late: {use: score/maxsim}
losses:
  align: {use: infonce, of: [image, text], temperature: {use: learned, init: 0.07}, negatives: keys.text}
  more:
    {use: infonce, of: [slow, text], score: parts.late, temperature: losses.align.temperature, negatives: past.after}
  same: {use: supcon, of: [two_0, two_1], labels: label}
stages:
  warm: {use: train, data: train, steps: 5, losses: [align], encoders: {two_0: null, two_1: null}}
  main:
    use: train
    data: train
    steps: 9
    losses: {align: {weight: 0.5}, same: null, more: {score: cosine}}
eval:
  near: {use: retrieval, data: test, of: [image, text]}
  first: {use: retrieval, data: {use: shapes, split: test, size: 50}, of: [image, warm.text], model: warm}
  plain: {use: geometry, data: test, of: [image, text], model: init, encoders: {image: {of: fields.image}}}
"""


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_text(TEXT.replace("encoders: {two_0: null, two_1: null}", "precision: float32"), "method.yaml")


def test_names_seed_and_stages_in_order(spec: Spec) -> None:
    assert (spec.name, spec.seed) == ("method", 0)
    assert list(spec.stages) == ["warm", "main", "near", "first", "plain"]
    short = load_text(
        "data: {d: {use: shapes, size: 9}}\neval: {e: {use: geometry, data: d, of: [image]}}\n"
        "encoders: {image: {use: vit, of: image}}\nlosses: {u: {use: uniformity, of: image}}\n"
        "train: {data: d, steps: 1}\n"
    )
    assert list(short.stages) == ["train", "e"]
    assert short.scope("e").model == "train"


def test_a_name_is_looked_up_encoder_over_view_over_field_and_outward_inside_itself(spec: Spec) -> None:
    scope = spec.scope("main")
    assert scope.targets(Owner("losses", "align"))["of", 0] == Target("encoders", "image")
    assert scope.targets(Owner("encoders", "narrow"))["of", 0] == Target("encoders", "image")
    assert scope.targets(Owner("encoders", "image"))["of", 0] == Target("views", "image")
    assert scope.targets(Owner("views", "image"))["of", 0] == Target("fields", "image")
    assert scope.targets(Owner("encoders", "raw")) == {
        ("weights",): Target("encoders", "image"),
        ("of", 0): Target("fields", "image"),
    }


def test_what_follows_the_name(spec: Spec) -> None:
    scope = spec.scope("main")
    assert scope.targets(Owner("encoders", "slow"))["of", 0] == Target("views", "two", index=1)
    assert scope.targets(Owner("losses", "align"))["negatives",] == Target("memories", "keys", output="text")
    assert scope.targets(Owner("losses", "more"))["negatives",] == Target("memories", "past", after=True)
    assert scope.targets(Owner("memories", "past")) == {("of", "value"): Target("encoders", "text", detach=True)}
    assert scope.targets(Owner("memories", "keys"))["of", "image"] == Target("encoders", "slow")
    assert scope.targets(Owner("losses", "more"))["temperature",] == Target("losses", "align", field=("temperature",))
    assert spec.scope("warm").targets(Owner("losses", "more"))["score",] == Target("parts", "late")
    assert spec.scope("first").targets(STAGE)["of", 1] == Target("encoders", "text", stage="warm")


def test_types_follow_views_copies_heads_and_weights(spec: Spec) -> None:
    scope = spec.scope("main")
    view = scope.type_of(Target("views", "two"))
    assert (view.modality, view.axes, view.groups) == ("image", ("sample", "copy"), (2,))
    assert scope.type_of(Target("views", "two", index=1)).axes == ("sample",)
    for name in ("image", "raw", "slow"):
        declared = scope.type_of(Target("encoders", name))
        assert (declared.modality, declared.axes, declared.size) == ("vector", ("sample",), (16,))
    assert scope.type_of(Target("encoders", "both")).axes == ("sample", "copy")
    assert scope.type_of(Target("encoders", "both", index=0)).axes == ("sample",)
    assert scope.type_of(Target("encoders", "image", output="features")).size == (32,)
    assert scope.type_of(Target("encoders", "image", output="tokens")).modality == "tokens"
    assert scope.type_of(Target("memories", "keys", output="text")).axes == ("keys",)
    assert {"pooled", "features", "tokens"} <= set(scope.outputs(Owner("encoders", "image")))
    with pytest.raises(ComponentError):
        scope.type_of(Target("stages", "warm"))


def test_reach_gives_what_is_needed_each_after_what_it_needs(spec: Spec) -> None:
    scope = spec.scope("warm")
    reached = [str(owner) for owner in scope.reach(Owner("losses", "align"))]
    assert set(reached) == {
        "losses.align", "encoders.image", "encoders.text", "encoders.slow", "memories.keys",
        "views.image", "views.two", "fields.image", "fields.caption",
    }  # fmt: skip
    for before, after in (
        ("fields.image", "views.two"), ("views.two", "encoders.slow"), ("encoders.image", "encoders.slow"),
        ("encoders.slow", "memories.keys"), ("encoders.text", "losses.align"),
    ):  # fmt: skip
        assert reached.index(before) < reached.index(after)
    after = [str(owner) for owner in spec.scope("main").reach(Owner("losses", "more"))]
    assert after.index("memories.past") < after.index("losses.more")
    assert Owner("fields", "image") in spec.scope("near").reach(STAGE)


def test_stages_see_their_own_sections(spec: Spec) -> None:
    assert list(spec.scope("warm").losses) == ["align"]
    main = spec.scope("main")
    assert list(main.losses) == ["align", "more"]
    assert main.losses["align"].declared()["weight"] == 0.5
    assert main.losses["align"].declared()["temperature"]["init"] == 0.07
    assert main.losses["more"].declared()["score"] == {"use": "cosine", **main.losses["more"].declared()["score"]}
    assert spec.losses["align"].declared()["weight"] == 1.0
    assert spec.scope("plain").targets(Owner("encoders", "image"))["of", 0] == Target("fields", "image")
    assert list(spec.scope("near").losses) == []


def test_encoders_of_another_stage_are_typed_there() -> None:
    text = TEXT.replace(
        "encoders: {two_0: null, two_1: null}", "encoders: {image: {head: {dim: 4}}, extra: {use: same, weights: text}}"
    )
    text = text.replace("losses: [align], encoders", "losses: [align, own], encoders").replace(
        "\nstages:", "\n  own: {use: uniformity, of: text}\nstages:"
    )
    frozen = "encoders: {image: {use: frozen, weights: warm.image}}"
    old = f"old: {{use: geometry, data: test, of: [warm.extra, warm.image, image], {frozen}}}"
    text = text.replace("eval:\n", f"eval:\n  {old}\n")
    scope = load_text(text, "s.yaml").scope("old")
    assert scope.targets(STAGE)["of", 0] == Target("encoders", "extra", stage="warm")
    assert scope.type_of(Target("encoders", "image", stage="warm")).size == (4,)
    assert scope.type_of(Target("encoders", "image")).size == (4,)
    with pytest.raises(SpecError, match=r"of\.0: the stage warm gives no `nothing`: expected an encoder"):
        load_text(text.replace("[warm.extra,", "[warm.nothing,"))
    untrained = load_text(text.replace("[warm.extra,", "[init.text,"), "s.yaml").scope("old")
    assert untrained.targets(STAGE)["of", 0] == Target("encoders", "text", stage="init")


def test_models_and_data_of_stages(spec: Spec) -> None:
    scopes = spec.scopes
    assert [scopes[name].start for name in ("warm", "main")] == [None, "warm"]
    assert [scopes[name].model for name in ("near", "first", "plain")] == ["main", "warm", None]
    assert [scopes[name].data_name for name in spec.stages] == ["train", "train", "test", "first_data", "test"]
    # A stage waits for the data that vocabularies are learned from only where one of its encoders has one.
    prepared = {name: scopes[name].preparation_data for name in spec.stages}
    assert prepared.pop("first") is None
    assert all(data == Target("data", "train") for data in prepared.values())
    assert scopes["near"].fields["caption"].modality == "text"
    assert scopes["near"].fields["id"].modality == "id"
    assert scopes["first"].source == spec.data["first_data"]


def test_the_resolved_spec_validates_to_an_equal_one(spec: Spec) -> None:
    text = spec.to_yaml()
    again = load_text(text, "again.yaml")
    assert again == spec
    assert again.to_yaml() == text
    assert spec != load_text(text.replace("weight: 0.5", "weight: 0.25"), "again.yaml")


def test_a_spec_travels_to_other_processes(spec: Spec) -> None:
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert again.scope("main").reach(Owner("losses", "align")) == spec.scope("main").reach(Owner("losses", "align"))


def test_values_of_the_environment_are_not_written_out() -> None:
    text = (
        "vars: {n: $env.COUNT, s: a$$b}\nname: $vars.s\ndata: {d: {use: shapes, size: 9}}\n"
        "encoders: {image: {use: vit, of: image}}\nlosses: {u: {use: uniformity, of: image}}\n"
        "train: {data: d, steps: 1, workers: $vars.n}\nreport: {title: costs $$5}\n"
    )
    spec = load_text(text, env={"COUNT": "3"})
    assert spec.stages["train"].declared()["workers"] == 3
    assert spec.name == "a$b"
    written = spec.to_yaml()
    assert "workers: ${env.COUNT}" in written
    assert load_text(written, env={"COUNT": "3"}) == spec
    assert load_text(written, env={"COUNT": "4"}).stages["train"].declared()["workers"] == 4
    assert parse_text(written, "w").data["name"] == "a$$b"
    assert parse_text(written, "w").data["report"] == {"title": "costs $$5"}


def test_the_title_of_a_report_is_not_read_from_the_environment() -> None:
    text = "data: {d: {use: shapes, size: 9}}\nreport: {title: $env.TITLE}\n"
    with pytest.raises(SpecError, match=r"report.title: \$env.TITLE") as caught:
        load_text(text, env={"TITLE": "a secret"})
    assert "a secret" not in str(caught.value)


def test_checking_a_spec_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mmflow.spec import load_text; load_text(sys.stdin.read()); "
        "heavy = ('torch', 'numpy', 'prefect', 'fsspec', 'sklearn', 'matplotlib', 'pandas'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    text = TEXT.replace("encoders: {two_0: null, two_1: null}", "precision: float32")
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
