"""What changes a key and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmflow.flow.plan import Plan, build_plan
from mmflow.flow.store import RunStore
from mmflow.plugin import ComponentError, Target
from mmflow.spec import load_spec

BASE = """
mmflow: 1
name: base
seed: 3
data:
  train: {use: shapes, split: train, size: 64}
  test: {use: shapes, split: test, size: 32}
encoders:
  image: {use: vit, of: image, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  spare: {use: vit, of: fields.image, width: 16, depth: 1, heads: 2}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
train: {data: train, epochs: 1, batch_size: 16, optimizer: {use: adamw, lr: 1e-3}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
  zero_shot: {use: zero_shot, data: test, of: [image, text], labels: label, prompts: ["a {}"]}
  geometry: {use: geometry, data: test, of: [image, text]}
"""
STAGES = ("train", "retrieval", "zero_shot", "geometry")


@pytest.fixture
def plan_of(tmp_path: Path):
    def plan(text: str = BASE, *overrides: str) -> Plan:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return build_plan(load_spec(str(path), overrides))

    return plan


def changed(before: Plan, after: Plan) -> set[str]:
    return {stage.name for stage in before if after[stage.name].key != stage.key}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("eval.retrieval.at=[1, 10]", {"retrieval"}),
        ('eval.zero_shot.prompts=["the {}"]', {"zero_shot"}),
        ("losses.align.temperature=0.1", set(STAGES)),
        ("losses.align.score=dot", set(STAGES)),
        ("train.optimizer.lr=2e-3", set(STAGES)),
        ("train.batch_size=32", set(STAGES)),
        ("train.precision=bfloat16", set(STAGES)),
        ("encoders.image.head.dim=8", set()),
        ("encoders.image.depth=2", set(STAGES)),
        ("encoders.spare.depth=2", set()),
        ("seed=4", set(STAGES)),
        ("data.train.seed=1", set(STAGES)),
        ("data.train.size=65", set(STAGES)),
        ("data.test.size=33", set(STAGES) - {"train"}),
        ("name=other", set()),
        ("train.workers=2", set()),
        ("train.log_every=3", set()),
        ("train.checkpoint_every=3", set()),
        ("eval.retrieval.batch_size=7", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_changes_with_what_the_stage_depends_on(plan_of, override: str, expected: set[str]):
    assert changed(plan_of(), plan_of(BASE, override)) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("train: {use: shapes, split: train, size: 64}", "fit: {use: shapes, split: train, size: 64}"),
        ("test: {use: shapes", "held_out: {use: shapes"),
    ],
)
def test_names_of_data_entries_mean_nothing(plan_of, before: str, after: str):
    old, new = before.partition(":")[0], after.partition(":")[0]
    text = BASE.replace(before, after).replace(f"data: {old}", f"data: {new}")
    assert changed(plan_of(), plan_of(text)) == set()


def test_names_of_stages_mean_nothing(plan_of):
    before, after = plan_of(), plan_of(BASE.replace("  retrieval: {", "  search: {"))
    assert after["search"].key == before["retrieval"].key
    assert after["train"].key == before["train"].key


def test_order_and_comments_mean_nothing(plan_of):
    raw = yaml.safe_load(BASE.replace("1e-3", "1.0e-3"))
    turned = {
        section: dict(reversed(entries.items())) if section in ("data", "encoders") else entries
        for section, entries in reversed(raw.items())
    }
    text = "# a comment\n" + yaml.safe_dump(turned, sort_keys=False)
    assert changed(plan_of(), plan_of(text)) == set()


def test_names_of_nodes_are_part_of_a_result(plan_of):
    text = BASE.replace("  text: {", "  words: {").replace("[image, text]", "[image, words]")
    assert changed(plan_of(), plan_of(text)) == set(STAGES)
    text = BASE.replace("  align: {", "  match: {")
    assert changed(plan_of(), plan_of(text)) == set(STAGES)


def test_writing_a_default_out_means_nothing(plan_of):
    assert changed(plan_of(), plan_of(BASE, "losses.align.score=cosine", "losses.align.weight=1.0")) == set()


TRAIN = Target("data", "train")


def test_members_of_a_seed_study_share_their_data(plan_of):
    before, after = plan_of(), plan_of(BASE, "seed=4")
    assert before.keys.data(TRAIN) == after.keys.data(TRAIN)


def test_the_content_of_an_initial_file_is_in_the_key_and_its_place_is_not(plan_of, tmp_path: Path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before = plan_of(BASE, f"encoders.image.init={first}")
    assert changed(plan_of(), before) == set(STAGES)
    assert changed(before, plan_of(BASE, f"encoders.image.init={second}")) == set()
    assert changed(before, plan_of(BASE, f"encoders.image.init=file://{second}")) == set()
    # Of equal length, at once: times of change do not decide.
    first.write_bytes(b"WEIGHTS")
    assert changed(before, plan_of(BASE, f"encoders.image.init={first}")) == set(STAGES)
    with pytest.raises(ComponentError, match=r"init: .*absent\.safetensors cannot be read"):
        plan_of(BASE, f"encoders.image.init={tmp_path / 'absent.safetensors'}")


def test_the_size_of_evaluation_batches_counts_where_an_encoder_sees_the_whole_batch(plan_of):
    batched = BASE.replace(
        "head: {use: linear, dim: 8}}\n  text", "head: {use: mlp, dims: [16, 8], norm: batch}}\n  text"
    )
    before, after = plan_of(batched), plan_of(batched, "eval.retrieval.batch_size=7")
    assert changed(before, after) == {"retrieval"}
    assert encoding(before, "image") != encoding(after, "image")
    assert encoding(before, "text") == encoding(after, "text")


@pytest.mark.parametrize(
    "own", ["eval.retrieval.model=train", "eval.retrieval.encoders.image={use: frozen, weights: train.image}"]
)
def test_it_counts_too_where_the_encoder_comes_from_another_stage(plan_of, own):
    head = "train.encoders.image.head={use: mlp, dims: [16, 8], norm: batch}"
    before, after = plan_of(BASE, head, own), plan_of(BASE, head, own, "eval.retrieval.batch_size=7")
    assert changed(before, after) == {"retrieval"}


def test_stages_are_ordered_after_what_they_read(plan_of):
    plan = plan_of()
    assert [stage.name for stage in plan] == list(STAGES)
    assert plan["train"].inputs == ()
    assert {plan[name].inputs for name in STAGES[1:]} == {("train",)}
    assert plan.following(["train"]) == STAGES
    assert plan.following(["geometry"]) == ("geometry",)


def test_a_stored_result_is_seen(plan_of, tmp_path: Path):
    plan = plan_of()
    store = RunStore(tmp_path / "store")
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "stage.json").write_text("{}")
    store.publish(plan["geometry"].key, folder, {})
    spec = load_spec(str(tmp_path / "spec.yaml"))
    assert {stage.name: stage.cached for stage in build_plan(spec, store)} == {
        "train": False, "retrieval": False, "zero_shot": False, "geometry": True,
    }  # fmt: skip


# Encodings


def encoding(plan: Plan, name: str, data: str | None = None) -> object:
    return plan.keys.encoding("retrieval", Target("encoders", name), Target("data", data) if data else None)


def test_an_encoding_depends_on_its_own_encoder_only(plan_of):
    before, after = plan_of(), plan_of(BASE, "encoders.spare.depth=2")
    assert encoding(before, "image") == encoding(after, "image")
    assert encoding(before, "spare") != encoding(after, "spare")


def test_training_that_cannot_have_changed_an_encoder_is_no_part_of_its_encodings(plan_of):
    before, after = plan_of(), plan_of(BASE, "losses.align.temperature=0.1")
    assert encoding(before, "image") != encoding(after, "image")
    assert encoding(before, "spare") == encoding(after, "spare")


def test_an_encoding_depends_on_the_data(plan_of):
    plan = plan_of()
    assert encoding(plan, "image") == encoding(plan, "image", "test")
    assert encoding(plan, "image") != encoding(plan, "image", "train")


def test_evaluations_of_one_model_share_their_encodings(plan_of):
    from mmflow.spec import Target

    plan = plan_of()
    target = Target("encoders", "text")
    assert plan.keys.encoding("retrieval", target, None) == plan.keys.encoding("zero_shot", target, None)


REPEATED = BASE.replace(
    "eval:\n", "stages:\n  again: {use: train, data: train, start: init, epochs: 1, batch_size: 16}\neval:\n"
)


@pytest.mark.parametrize(
    ("own", "same"),
    [("", True), ("seed: 3, ", True), ("seed: 4, ", False), ("log_every: 3, ", True), ("clip: 1.0, ", False)],
)
def test_equal_stages_are_one_unless_they_have_seeds_of_their_own(plan_of, own: str, same: bool) -> None:
    text = REPEATED.replace("optimizer: {use: adamw, lr: 1e-3}", "").replace("start: init", f"{own}start: init")
    plan = plan_of(text.replace("batch_size: 16, }", "batch_size: 16}"))
    assert (plan["again"].key == plan["train"].key) == same
    assert plan.equal() == ({"again": "train"} if same else {})
