"""`check --shapes` finds what does not fit before any work, and names what it cannot trace."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch

from mmflow.model.outlook import outlook
from mmflow.model.shapes import ShapeReport, check_shapes
from mmflow.plugin import Bank, Encoder, Encoding, Loss, Ref, TensorType
from mmflow.spec import load_text

SPEC = """
mmflow: 1
name: shapes
data:
  train: {use: shapes, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
memories:
  queue: {use: queue, size: 16, of: text}
losses:
  align: {use: infonce, of: [image, text], negatives: queue, temperature: {use: learned, init: 0.1}}
  pairs: {use: siglip, of: [image, text]}
train: {data: train, epochs: 1, batch_size: 16}
eval:
  retrieval: {use: retrieval, data: train, of: [image, text]}
"""


def check(*overrides: str) -> ShapeReport:
    return check_shapes(load_text(SPEC, overrides=overrides))


def test_a_good_spec_has_no_problems_and_shows_its_shapes() -> None:
    report = check()
    assert report.problems == []
    assert report.untraced == []
    assert "encoders.image.head: pooled [2, 8]" in report.shapes


@pytest.mark.parametrize("score", ["maxsim", "neg_sq_euclid", "dot"])
def test_scores_are_traced(score: str) -> None:
    overrides = ["encoders.image.tokens={use: linear, dim: 4}", "encoders.text.tokens={use: linear, dim: 4}"]
    report = check(f"losses.align.score={score}", "losses.align.negatives=null", *overrides)
    assert (report.problems, report.untraced) == ([], [])


def test_a_wrong_dimension_is_found_with_its_line_and_both_sizes() -> None:
    report = check("encoders.text.head.dim=9")
    assert len(report.problems) == 2, "one for each loss"
    message = str(report.problems[0])
    assert message.startswith(
        "<text>:12:3: losses.align: infonce does not fit its inputs (pooled [2, 8], pooled [2, 9])"
    )


def test_the_global_state_of_kernels_and_generators_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMFLOW_KERNELS", "chunked")
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    check()
    assert os.environ["MMFLOW_KERNELS"] == "chunked"
    assert torch.equal(torch.get_rng_state(), before)


class ReadsValues(Encoder, name="reads_values"):
    """Looks at numbers to decide what to do, as an adaptive encoder does."""

    example: ClassVar[str] = "{use: reads_values, of: image}"

    def outputs(self, *inputs: TensorType) -> dict[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, a: torch.Tensor) -> torch.Tensor:
        return a[a.sum(1) > 0] if bool((a > 0).any()) else a


def test_what_cannot_be_traced_is_named_and_not_failed(register: Callable[..., None]) -> None:
    register(ReadsValues)
    report = check("encoders.odd={use: reads_values, of: image}", "losses.odd={use: infonce, of: [odd, text]}")
    assert report.problems == []
    assert [line.split(":")[0] for line in report.untraced] == ["encoders.odd (reads_values)"]


def test_check_tells_what_is_kept_and_that_batch_norm_sees_a_micro_batch() -> None:
    spec = load_text(SPEC, overrides=["train.micro_batch_size=4", "encoders.image={use: convnet4, of: image}"])
    lines = outlook(spec)
    assert "train: 1 wave, batches of 16 in micro-batches of 4" in lines
    assert any("keeps 2 outputs of the whole batch" in line for line in lines)
    assert "train: encoders.image has batch norm inside, which sees its micro-batch of 4 rows only" in lines
    spec = load_text(
        SPEC, overrides=["train.micro_batch_size=4", "encoders.image={use: convnet4, of: image, norm: group}"]
    )
    assert not any("batch norm" in line for line in outlook(spec))


class AgainstMemory(Loss, name="against_memory"):
    """Cannot do without its memory."""

    bank: Ref[Bank]

    def compute(self, a: torch.Tensor, bank: Encoding) -> torch.Tensor:
        return -(a @ bank.pooled.T).logsumexp(1)


class Raises(Loss, name="raises"):
    """Fails in a way that says nothing about its inputs."""

    how: str

    def compute(self, a: torch.Tensor, how: str) -> torch.Tensor:
        raise {"attribute": AttributeError("no such thing"), "zero": ZeroDivisionError(), "os": OSError("disk")}[how]


def test_a_loss_that_requires_a_memory_is_traced_with_rows_in_it(register: Callable[..., None]) -> None:
    register(AgainstMemory)
    good = check("losses.against={use: against_memory, of: image, bank: queue}")
    assert (good.problems, good.untraced) == ([], [])
    wide = "memories.wide={use: queue, size: 4, of: image.features}"
    bad = check("losses.against={use: against_memory, of: image, bank: wide}", wide)
    (problem,) = bad.problems
    assert "against_memory does not fit its inputs" in problem.message


@pytest.mark.parametrize("how", ["zero", "os"])
def test_whatever_a_component_raises_is_named(how: str, register: Callable[..., None]) -> None:
    register(Raises)
    report = check(f"losses.odd={{use: raises, of: image, how: {how}}}")
    assert report.problems == []
    assert [line.split(":")[0] for line in report.untraced] == ["losses.odd (raises)"]


def test_a_component_that_takes_its_input_for_another_kind_of_object_does_not_fit(
    register: Callable[..., None],
) -> None:
    register(Raises)
    (problem,) = check("losses.odd={use: raises, of: image, how: attribute}").problems
    assert problem.message.endswith("AttributeError: no such thing")


class CannotBeBuilt(Encoder, name="cannot_be_built"):
    """A body whose `build` fails."""

    def outputs(self, *inputs: TensorType) -> dict[str, TensorType]:
        return {"pooled": TensorType("vector", size=(8,))}

    def build(self, *inputs: TensorType, state: object) -> torch.nn.Module:
        raise KeyError("depth")


@pytest.mark.parametrize(
    ("encoder", "said"),
    [("{use: cannot_be_built, of: image}", "CannotBeBuilt): there is no 'depth' (KeyError, "),
     ("{use: vit, of: image, size: 16, patch: 8, width: 16, head: {use: linear, dim: 8}, init: none.safetensors}",
      "cannot read the weights none.safetensors")],
)  # fmt: skip
def test_a_fault_stands_once_at_its_line_however_many_stages_meet_it(
    encoder: str, said: str, register: Callable[..., None]
) -> None:
    register(CannotBeBuilt)
    report = check(f"encoders.image={encoder}", "eval.again={use: geometry, data: train, of: image}")
    (problem,) = report.problems
    assert said in problem.message
    assert problem.path == ("encoders", "image")


class Whole(Loss, name="whole"):
    """Gives what no loss may give."""

    how: str

    def compute(self, a: torch.Tensor, b: torch.Tensor, how: str) -> object:
        scores = a @ b.T
        return {"matrix": scores, "cube": scores[..., None], "list": [scores.sum()], "none": None}[how]


@pytest.mark.parametrize(
    ("how", "found"), [("matrix", "a tensor [2, 2]"), ("cube", "[2, 2, 1]"), ("list", "list"), ("none", "NoneType")]
)
def test_a_loss_that_gives_no_value_a_row_is_told_with_its_line(
    how: str, found: str, register: Callable[..., None]
) -> None:
    register(Whole)
    (problem,) = check(f"losses.whole={{use: whole, of: [image, text], how: {how}}}").problems
    assert f"compute() of Whole ({__file__}:" in problem.message
    assert f"returned {found}" in problem.message or found in problem.message
    assert problem.expected is not None
    assert problem.expected.startswith("one value a row [N]")
