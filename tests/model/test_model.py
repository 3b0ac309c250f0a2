"""Weights and their applications, group axes, presence and static fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmflow.artifacts import ModelArtifact
from mmflow.data import Batch
from mmflow.model.graph_builder import build_graph
from mmflow.model.model import Model
from mmflow.plugin import Clock
from mmflow.spec import Owner, Spec
from mmflow.train.step import Step

Make = Callable[..., Spec]
Build = Callable[[Spec], tuple[Model, Batch]]


def gradients(model: Model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.modules.named_parameters() if p.grad is not None}


def test_same_is_the_very_weights_and_copy_its_own(spec: Make, build: Build) -> None:
    model, batch = build(
        spec(
            "x: {use: affine, of: a}, y: {use: same, weights: x, of: some}, z: {use: copy, weights: x, of: some}",
            "one: {use: gap, of: [x, y]}, two: {use: gap, of: [x, z]}",
        )
    )
    assert [n for n, _ in model.modules.named_parameters()] == [
        "encoders.x.weight", "encoders.x.bias", "encoders.z.weight", "encoders.z.bias"
    ]  # fmt: skip
    encoded = model.encode(["x", "y", "z"], batch)
    weight = model.modules.state_dict()["encoders.x.weight"]
    shift = (torch.ones(6) @ weight.T).expand(12, 4)
    here = [i for i in range(12) if i % 3 != 1]
    torch.testing.assert_close(encoded["y"].pooled[here], (encoded["x"].pooled + shift)[here])
    assert not torch.allclose(encoded["z"].pooled, encoded["y"].pooled)


def test_copy_may_start_equal(spec: Make, build: Build) -> None:
    model, _ = build(
        spec("x: {use: affine, of: a}, z: {use: copy, weights: x, of: some, start: equal}", "l: {use: gap, of: [x, z]}")
    )
    state = model.modules.state_dict()
    assert torch.equal(state["encoders.x.weight"], state["encoders.z.weight"])


def test_weights_are_drawn_by_path_and_not_by_company(spec: Make, build: Build) -> None:
    alone, _ = build(spec("x: {use: affine, of: a}, y: {use: affine, of: a}", "l: {use: gap, of: [x, y]}"))
    more, _ = build(
        spec(
            "w: {use: affine, of: a}, y: {use: affine, of: a}, x: {use: affine, of: a}",
            "k: {use: gap, of: [w, y]}, l: {use: gap, of: [x, y]}",
        )
    )
    one, two = alone.modules.state_dict(), more.modules.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_group_axes_are_folded_into_rows_and_unfolded_after(spec: Make, build: Build) -> None:
    model, batch = build(spec("x: {use: affine, of: many}", "l: {use: gap, of: [x.0, x.1]}"))
    encoding = model.encode(["x"], batch)["x"]
    assert encoding.axes == ("sample", "view")
    assert encoding.pooled.shape == (12, 3, 4)
    state = model.modules.state_dict()
    raw = batch.columns["fields.many>encoders.x#0"].values
    torch.testing.assert_close(
        encoding.pooled[5, 1], raw[5, 1] @ state["encoders.x.weight"].T + state["encoders.x.bias"]
    )
    assert encoding.present is not None
    assert encoding.present[:, 2].tolist() == [i % 2 == 0 for i in range(12)]


def test_a_loss_sees_the_rows_present_in_all_its_inputs(spec: Make, build: Build) -> None:
    model, batch = build(spec("x: {use: affine, of: a}, y: {use: affine, of: some}", "l: {use: gap, of: [x, y]}"))
    result = Step(model, micro_batch_size=5).run(batch, Clock(0, 1))
    assert result.rows["l"] == 8
    encoded = model.encode(["x", "y"], batch)
    here = [i for i in range(12) if i % 3 != 1]
    expected = (encoded["x"].pooled - encoded["y"].pooled)[here].square().mean()
    assert float(result.losses["l"]) == pytest.approx(float(expected), rel=1e-6)


def test_encoders_run_on_static_fields_once_a_step(spec: Make, build: Build) -> None:
    loaded = spec("x: {use: affine, of: a}, n: {use: affine, of: names}", "l: {use: gap, of: [x, x.detach]}")
    scope = loaded.scope("train")
    graph = build_graph(scope, [Owner("encoders", "n"), Owner("encoders", "x")])
    assert (graph.nodes[Owner("encoders", "n")].scope, graph.nodes[Owner("encoders", "n")].static) == ("batch", True)
    model = Model.create(scope, [Owner("encoders", "n"), Owner("encoders", "x")], seed=0)
    _, batch = build(loaded)
    encoding = model.encode(["n"], batch)["n"]
    assert encoding.axes == ("class",)
    assert encoding.pooled.shape == (4, 4)


def test_detach_carries_no_gradient(spec: Make, build: Build) -> None:
    model, batch = build(spec("x: {use: affine, of: a}, y: {use: affine, of: a}", "l: {use: gap, of: [x, y.detach]}"))
    Step(model, micro_batch_size=None).run(batch, Clock(0, 1))
    assert set(gradients(model)) == {"encoders.x.weight", "encoders.x.bias"}


@pytest.mark.parametrize(("freeze", "trained"), [("true", set()), ("{except: [bias]}", {"encoders.x.bias"})])
def test_freeze_leaves_out_all_but_what_it_excepts(spec: Make, build: Build, freeze: str, trained: set[str]) -> None:
    model, batch = build(
        spec(f"x: {{use: affine, of: a, freeze: {freeze}}}, y: {{use: affine, of: a}}", "l: {use: gap, of: [x, y]}")
    )
    Step(model, micro_batch_size=None).run(batch, Clock(0, 1))
    assert {n for n in gradients(model) if n.startswith("encoders.x")} == trained


def test_an_averaged_encoder_follows_after_each_step(spec: Make, build: Build) -> None:
    from mmflow.train.optimization import move_averages

    model, _ = build(
        spec("x: {use: affine, of: a}, s: {use: ema, weights: x, momentum: 0.75}", "l: {use: gap, of: [x, s]}")
    )
    before = {n: v.clone() for n, v in model.modules.state_dict().items()}
    assert torch.equal(before["encoders.s.weight"], before["encoders.x.weight"])
    with torch.no_grad():
        next(p for n, p in model.modules.named_parameters() if n == "encoders.x.weight").add_(1.0)
    move_averages(model, "before_forward", Clock(0, 10))
    assert torch.equal(model.modules.state_dict()["encoders.s.weight"], before["encoders.s.weight"])
    move_averages(model, "after_step", Clock(0, 10))
    after = model.modules.state_dict()["encoders.s.weight"]
    torch.testing.assert_close(after, before["encoders.s.weight"] + 0.25)


def test_a_model_is_stored_and_read_back_equal(spec: Make, build: Build, tmp_path: Path) -> None:
    loaded = spec("x: {use: affine, of: a, head: {use: affine, dim: 2}}", "l: {use: gap, of: [x, x.detach]}")
    model, batch = build(loaded)
    with torch.no_grad():
        for _, parameter in model.modules.named_parameters():
            parameter.add_(0.5)
    model.save(ModelArtifact(tmp_path))
    again = Model.load(ModelArtifact(tmp_path), loaded.scope("train"), [Owner("encoders", "x")], seed=1)
    assert torch.equal(again.encode(["x"], batch)["x"].pooled, model.encode(["x"], batch)["x"].pooled)
    assert "encoders.x.head.weight" in again.modules.state_dict()


def test_a_file_of_weights_that_does_not_fit_is_refused(spec: Make, build: Build, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from mmflow.plugin import ComponentError

    save_file({"other": torch.zeros(2)}, tmp_path / "w.safetensors")
    loaded = spec(f"x: {{use: affine, of: a, init: {tmp_path}/w.safetensors}}", "l: {use: gap, of: [x, x.detach]}")
    with pytest.raises(ComponentError, match="do not fit"):
        build(loaded)
    with pytest.raises(ComponentError, match="cannot read the weights"):
        build(spec(f"x: {{use: affine, of: a, init: {tmp_path}/none.safetensors}}", "l: {use: gap, of: [x, x.detach]}"))


def test_stacked_groups_keep_the_presence_of_each_member(spec: Make, build: Build) -> None:
    model, batch = build(
        spec(
            "x: {use: affine, of: a}, y: {use: affine, of: some}, s: {use: stack, of: [x, y, x], axis: copy}",
            "l: {use: gap, of: [s.0, s.1]}",
        )
    )
    encoding = model.encode(["s"], batch)["s"]
    assert encoding.axes == ("sample", "copy")
    assert encoding.present is not None
    assert encoding.present.tolist() == [[True, i % 3 != 1, True] for i in range(12)]
    assert Step(model, micro_batch_size=5).run(batch, Clock(0, 1)).rows["l"] == 8
