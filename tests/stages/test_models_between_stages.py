"""Models that stages take in part, encoders of other models as nodes, and nodes that stand in for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmflow.artifacts import ColumnArtifact, ModelArtifact
from mmflow.identity.keys import Keys
from mmflow.plugin import Encoder, Model, RawValue, Ref, Source, Stage, StageContext, TensorType, Transform
from mmflow.spec import STAGE, Owner, SpecError, Target

Run = Callable[..., Any]
Load = Callable[..., Any]

TRAIN = "use: train, data: train, batch_size: 8"
STILL = "optimizer: {use: sgd, lr: 0.0}"


class Shift(Transform, name="shift"):
    """Adds noise in training, nothing in evaluation, and `by` always."""

    by: float = 0.0

    def apply(self, value: RawValue, generator: Any) -> RawValue:
        noise = 0 if generator is None else generator.normal(size=value.shape)
        return (value + self.by + noise).astype(np.float32)


class Doubled(Stage, name="doubled"):
    """The model with the weights of `w` times two."""

    gives = {"model": "Model"}
    model: Ref[Model] | None = None

    def run(self, context: StageContext) -> None:
        from mmflow.evaluate.rows import Embedder  # noqa: F401

        stored = ModelArtifact(context.upstream(context.scope.model or "")).weights()
        context.write_model({name: 2 * tensor for name, tensor in stored.items() if name.startswith("encoders.w.")})


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(Shift, Doubled, Graphs, Mix, Short)


def weights(ran: Any, stage: str) -> dict[str, Tensor]:
    return ModelArtifact(ran.folder(stage)).weights()


LOSSES = "losses: {l: {use: gap, of: [w, v]}}\n"
FIRST = LOSSES + f"stages:\n  first: {{{TRAIN}, steps: 2}}\n"


def test_a_stage_takes_over_the_entries_that_it_names(run: Run) -> None:
    rest = f"  part: {{{TRAIN}, steps: 1, start: {{from: first, only: [encoders.w]}}, {STILL}}}\n"
    rest += f"  anew: {{{TRAIN}, steps: 1, start: init, {STILL}}}\n"
    ran = run(FIRST + rest)
    first, part, drawn = (weights(ran, name) for name in ("first", "part", "anew"))
    assert torch.equal(part["encoders.w.weight"], first["encoders.w.weight"])
    assert torch.equal(part["encoders.v.weight"], drawn["encoders.v.weight"])
    assert not torch.equal(part["encoders.v.weight"], first["encoders.v.weight"])


def test_what_is_not_taken_over_is_made_as_it_is_declared_here(run: Run) -> None:
    rest = f"  part: {{{TRAIN}, steps: 1, start: {{from: first, only: [encoders.w]}}, encoders: {{v: {{bias: 1}}}}}}\n"
    with pytest.raises(SpecError, match="has no field"):
        run(FIRST + rest)
    rest = rest.replace("{v: {bias: 1}}", "{v: {of: w}}")
    ran = run(FIRST + rest)
    assert weights(ran, "part")["encoders.v.weight"].shape == (4, 4)


def test_encodings_of_what_was_not_taken_over_have_keys_of_their_own(load: Load) -> None:
    only = f"  part: {{{TRAIN}, steps: 1, start: {{from: first, only: [encoders.w]}}, losses: {{l: {{of: [w, z]}}}}}}\n"
    spec = load(FIRST + only + "eval:\n  a: {use: geometry, data: train, of: v, model: first}\n"
                "  b: {use: geometry, data: train, of: v, model: part}\n")  # fmt: skip
    keys = Keys(spec)
    target = Target("encoders", "v")
    assert keys.encoding("a", target, None)["origin"] == keys.stage("first")
    assert keys.encoding("b", target, None)["origin"] == keys.stage("part")


def test_memories_stay_behind_where_a_stage_says_so(run: Run) -> None:
    queue = "memories: {q: {use: queue, size: 16, of: w}}\nlosses: {l: {use: infonce, of: [w, v], negatives: q}}\n"
    text = queue + f"stages:\n  first: {{{TRAIN}, steps: 2}}\n"
    text += f"  kept: {{{TRAIN}, steps: 1, start: {{from: first}}}}\n"
    text += f"  left: {{{TRAIN}, steps: 1, start: {{from: first, memories: false}}}}\n"
    ran = run(text)
    filled = {s: int(ModelArtifact(ran.folder(s)).memories()["memories.q"]["filled"]) for s in ("kept", "left")}
    assert filled == {"kept": 16, "left": 8}


@pytest.mark.parametrize("stage", ["first", "init"])
def test_an_encoder_of_another_model_is_a_node_anywhere(run: Run, stage: str) -> None:
    """In a loss, and inside an encoder; with that model's weights, without a gradient."""
    text = FIRST + f"  next: {{{TRAIN}, steps: 3, start: init, encoders: {{both: {{use: concat, of: [{stage}.v, w]}}, "
    text += (
        f"head: {{use: affine, of: both}}}}, losses: {{l: {{of: [w, {stage}.w]}}, h: {{use: gap, of: [head, v]}}}}}}\n"
    )
    ran = run(text)
    name = f"encoders.{stage}:w"
    stored = weights(ran, "next")
    untrained = weights(run(FIRST, "stages.first.optimizer={use: sgd, lr: 0}"), "first")
    expected = weights(ran, "first") if stage == "first" else untrained
    assert torch.equal(stored[f"{name}.weight"], expected["encoders.w.weight"])
    assert torch.equal(stored[f"encoders.{stage}:v.bias"], expected["encoders.v.bias"])
    assert not torch.equal(stored["encoders.w.weight"], untrained["encoders.w.weight"])


def test_the_name_of_the_other_stage_is_in_no_key(load: Load) -> None:
    text = FIRST + f"  next: {{{TRAIN}, steps: 1, start: init, losses: {{l: {{of: [w, first.w]}}}}}}\n"
    assert Keys(load(text)).stage("next") == Keys(load(text.replace("first", "warm"))).stage("next")
    changed = load(text, "stages.first.steps=3")
    assert Keys(changed).stage("next") != Keys(load(text)).stage("next")
    init = text.replace("first.w]", "init.w]")
    base = Keys(load(init)).stage("next")
    assert base == Keys(load(init, "stages.first.steps=3")).stage("next")
    assert base != Keys(load(init, "encoders.w.init=null", "encoders.w.lr_scale=0.5")).stage("next")


def test_an_evaluation_measures_the_untrained_encoder_beside_the_trained(run: Run) -> None:
    text = FIRST + "  both: {use: embed, data: train, of: [w, init.w, first.v]}\n"
    text += "  alone: {use: embed, data: train, of: w, model: init}\n"
    ran = run(text)
    both, alone = (ran.folder(name) for name in ("both", "alone"))
    untrained, trained = (ColumnArtifact(both, name).read() for name in ("init.w", "w"))
    expected = ColumnArtifact(alone, "w").read()
    assert all((untrained[id] == expected[id]).all() for id in expected)
    assert not all((trained[id] == expected[id]).all() for id in expected)


def test_a_stage_may_give_a_model(run: Run) -> None:
    text = FIRST + f"  twice: {{use: doubled}}\n  more: {{{TRAIN}, steps: 1, {STILL}}}\n"
    ran = run(text)
    first, more = weights(ran, "first"), weights(ran, "more")
    assert ran.outcome.plan["more"].inputs == ("twice",)
    assert torch.equal(more["encoders.w.weight"], 2 * first["encoders.w.weight"])
    assert torch.equal(more["encoders.v.weight"], first["encoders.v.weight"])


VIEWS = """  a: {use: affine, of: two, dim: 0}
  b: {use: affine, of: above, dim: 0}
views:
  two: {of: x, copies: 2, apply: [shift]}
  plain: {of: x, apply: [{use: shift, by: 3.0}]}
  above: {of: two.0, apply: [{use: shift, by: 10.0}]}
"""


def test_a_view_stands_in_for_another_wherever_it_is_read(run: Run) -> None:
    text = VIEWS + "stages:\n  one: {use: embed, data: train, of: [z, a, b], replace: {two: plain}, model: init}\n"
    ran = run(text)
    z, a, b = (ColumnArtifact(ran.folder("one"), name).read() for name in "zab")
    assert all(np.allclose(a[id], z[id] + 3) for id in z)
    assert all(np.allclose(b[id], z[id] + 13) for id in z)


def test_an_encoder_and_a_field_stand_in(run: Run, load: Load) -> None:
    text = VIEWS.replace("plain: {of: x", "plain: {of: fields.x")
    text += "stages:\n  one: {use: embed, data: train, of: w, replace: {w: v}, model: init}\n"
    text += "  two: {use: embed, data: train, of: v, model: init}\n"
    text += "  three: {use: embed, data: train, of: z, replace: {x: plain}, model: init}\n"
    ran = run(text)
    one, two = (ColumnArtifact(ran.folder(n), name).read() for n, name in (("one", "w"), ("two", "v")))
    assert all((one[id] == two[id]).all() for id in one)
    reader = load(text).data["train"].open()
    shifted = ColumnArtifact(ran.folder("three"), "z").read()
    assert all(np.allclose(shifted[reader.id(i)], reader[i]["x"] + 3) for i in range(24))
    scope = load(text).scope("one")
    assert scope.targets(STAGE)["of", 0] == Target("encoders", "v")
    assert scope.targets(Owner("encoders", "v"))["of", 0] == Target("fields", "x")


class Short(Source, name="short"):
    """Rows that have no `x`, and vectors `y`."""

    def fields(self) -> Mapping[str, TensorType]:
        return {"y": TensorType("vector", size=(4,)), "id": TensorType("id", dtype="str")}

    def open(self) -> Any:
        return ShortRows()


class ShortRows:
    def __len__(self) -> int:
        return 5

    def id(self, index: int) -> str:
        return f"s{index}"

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"id": self.id(index), "y": np.arange(4, dtype=np.float32) + index}

    def static(self) -> Mapping[str, Any]:
        return {}


REPLACED = """  q: {use: affine, of: w}
losses: {l: {use: gap, of: [q, v]}}
stages:
  fit: {use: train, data: train, batch_size: 8, steps: 1}
  feats: {use: embed, data: short, of: q, encoders: {given: {use: affine, of: y, dim: 0}}, replace: {w: given}}
"""


def test_what_a_stage_replaces_needs_no_data(run: Run, load: Load) -> None:
    ran = run(REPLACED, "data.short=short")
    stored = weights(ran, "fit")
    y = torch.stack([torch.arange(4.0) + row for row in range(5)])
    expected = y @ stored["encoders.q.weight"].T + stored["encoders.q.bias"]
    found = ColumnArtifact(ran.folder("feats"), "q").read()
    torch.testing.assert_close(torch.tensor(np.stack([found[f"s{row}"] for row in range(5)])), expected)
    with pytest.raises(SpecError, match="there is no `x` here"):
        load(REPLACED.replace(", replace: {w: given}", ""), "data.short=short")


# --- one big graph -------------------------------------------------------------------------------------------


class Graphs(Source, name="one_graph"):
    """Six nodes with features, names and classes, and no samples."""

    def fields(self) -> Mapping[str, TensorType]:
        node = TensorType("vector", ("node",), (3,))
        return {
            "node.x": node,
            "node.id": TensorType("id", ("node",), dtype="str"),
            "node.label": TensorType("label", ("node",), dtype="int64", names=("a", "b")),
            "id": TensorType("id", dtype="str"),
        }

    def open(self) -> Any:
        return Nodes()


class Nodes:
    def __len__(self) -> int:
        return 0

    def id(self, index: int) -> str:
        raise IndexError(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        raise IndexError(index)

    def static(self) -> Mapping[str, Any]:
        x = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1]] * 4
        return {"node.x": list(x + 0.01), "node.id": list("pqrstu"), "node.label": [0, 0, 0, 1, 1, 1]}


class Mix(Encoder, name="mix_nodes"):
    """Each node with the mean of all: it needs the whole graph."""

    def scope(self) -> Any:
        return "batch"

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, x: Tensor) -> Tensor:
        return x + x.mean(0)


GRAPH = """  h: {use: affine, of: node.x}
  g: {use: mix_nodes, of: h}
  logits: {use: affine, of: g, dim: 2}
losses:
  c: {use: cross_entropy, of: logits, labels: node.label}
  k: {use: cross_entropy, of: logits, labels: km.label}
stages:
  feats: {use: embed, data: graph, of: node_x, model: init, encoders: {node_x: {use: affine, of: node.x, dim: 0}}}
  km: {use: kmeans, of: feats.node_x, k: 2}
  fit: {use: train, data: graph, steps: 30, optimizer: {use: adam, lr: 0.1}, losses: [c, k]}
eval:
  near: {use: knn, data: graph, of: g, labels: node.label, k: 1}
"""


def test_a_graph_trains_and_its_nodes_are_embedded_clustered_and_measured(run: Run) -> None:
    ran = run(GRAPH, "data.graph=one_graph")
    column = ColumnArtifact(ran.folder("feats"), "node_x")
    assert column.type().axes == ("node",)
    assert list(column.read()) == list("pqrstu")
    labels = ColumnArtifact(ran.folder("km"), "label").read()
    assert labels["p"] == labels["q"] == labels["r"] != labels["s"]
    assert ran.metrics("near")["accuracy"] == 1.0
