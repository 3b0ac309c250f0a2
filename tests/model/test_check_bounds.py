"""`check --shapes` stays within 5 s and 1 GB beside the imports, whatever sizes a spec says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mmflow.model.shapes import ShapeCheck, check_shapes
from mmflow.plugin import Encoding, Memory, TensorType
from mmflow.spec import load_text
from tests.machine import seconds_here

SPEC = """
mmflow: 1
name: bounds
data:
  train: {use: shapes, size: 32, pixels: 16}
views:
  two: {of: image, apply: [{use: random_resized_crop, size: 16}]}
encoders:
  image: {use: vit, of: two, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
memories:
  queue: {use: queue, size: 16, of: text, fill: random}
losses:
  align: {use: infonce, of: [image, text], negatives: queue}
train: {data: train, steps: 1, batch_size: 16}
eval:
  retrieval: {use: retrieval, data: train, of: [image, text]}
  again: {use: geometry, data: train, of: image}
"""


def peak() -> int:
    """The largest memory of this process so far, or since it was set back, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    check_shapes(load_text(SPEC))


ALL = ["train", "retrieval", "again"]
CROP = "views.two.apply=[{use: random_resized_crop, size: %d}]"
LARGE: dict[str, tuple[list[str], list[str], str]] = {
    "queue": (["memories.queue.size=1000000000"], [], ""),
    "depth": (["encoders.image.depth=1024", "encoders.text.depth=1024"], ALL, "a check builds no more"),
    "layers": (
        ["encoders.image.depth=140", "encoders.text.depth=140"],
        ["encoders.text (text_transformer)", "retrieval"],
        "a check traces no more",
    ),
    "width": (["encoders.image.width=65536", "encoders.text.width=65536"], [], ""),
    "view": ([CROP % 8192], ALL, "a check reads no more"),
    "pixels": (["encoders.image.size=4096", "encoders.image.of=image"], ALL, "a check reads no more"),
    "copies": ([CROP % 1024, "views.two.copies=64", "encoders.image.of=two.0"], ALL, "a check reads no more"),
    "samples": (["data.train.size=1000000000"], [], ""),
    "batch": (["train.batch_size=1000000000"], [], ""),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone can set back the peak")
@pytest.mark.parametrize("name", LARGE)
def test_a_check_of_a_large_spec_is_bounded_and_names_all_that_it_leaves_out(name: str) -> None:
    overrides, untraced, reason = LARGE[name]
    spec = load_text(SPEC, overrides=overrides)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = peak(), time.process_time()
    report = check_shapes(spec)
    assert time.process_time() - began < seconds_here(5)
    assert peak() - before < 1_000_000
    assert report.problems == []
    assert [line.partition(":")[0] for line in report.untraced] == untraced
    assert all(reason in line for line in report.untraced[:1])


def test_memories_take_no_memory_and_are_told() -> None:
    report = check_shapes(load_text(SPEC, overrides=["memories.queue.size=1000000000"]))
    assert report.memories == ["train: memories.queue holds 32,000.0 MB"]


def test_encoders_of_several_stages_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    from mmflow_encoders.modules.text_transformer import TextTransformer

    forward = TextTransformer.forward
    counted = lambda self, *a, **k: calls.append("text") or forward(self, *a, **k)  # noqa: E731
    monkeypatch.setattr(TextTransformer, "forward", counted)
    again = "stages={second: {use: train, data: train, steps: 1, encoders: {image: {freeze: true}}}}"
    assert check_shapes(load_text(SPEC, overrides=[again])).problems == []
    assert calls == ["text"]


def test_specs_that_are_checked_together_share_what_they_have_in_common_and_the_bounds() -> None:
    check = ShapeCheck()
    first, other = (load_text(SPEC, overrides=[f"losses.align.temperature={value}"]) for value in (0.1, 0.2))
    assert check.of(first).problems == []
    operations = check._tracing.operations
    assert check.of(other).problems == []
    assert check._tracing.operations - operations < operations / 2
    wide = load_text(SPEC, overrides=["encoders.text.head.dim=9"])
    assert [problem.path for problem in check.of(wide).problems] == [("losses", "align")]
    deep = load_text(SPEC, overrides=LARGE["layers"][0])
    assert any("a check" in line for line in check.of(deep).untraced)
    assert any("a check" in line for line in check.of(load_text(SPEC, overrides=["encoders.text.width=32"])).untraced)


def test_other_data_under_the_same_name_are_read() -> None:
    check = ShapeCheck()
    assert check.of(load_text(SPEC)).problems == []
    broken = load_text(SPEC, overrides=["data.train={use: shapes, size: 5, pixels: 16}"])
    assert check.of(broken).problems == []
    assert [source.size for source, _ in check._read_already] == [32, 5]


def test_what_an_evaluation_cannot_compare_is_found_in_what_training_traced() -> None:
    own = ["losses.align={use: alignment, of: [image, image]}", "losses.own={use: alignment, of: [text, text]}"]
    report = check_shapes(load_text(SPEC, overrides=["encoders.text.head.dim=9", "memories=null", *own]))
    (problem,) = report.problems
    assert "retrieval cannot compare image [2, 8] and text [2, 9]" in problem.message


class Values(Memory, name="memory_of_values"):
    """Looks at its numbers when it begins."""

    example: ClassVar[str] = "{use: memory_of_values, of: text}"

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = torch.randn((4, 8), generator=generator)
        return {"rows": drawn[drawn.sum(1) > 0]}

    def update(self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        return {"value": Encoding({"pooled": state["rows"]}, ("entry",))}


def test_a_memory_that_cannot_begin_without_values_is_named(register: Callable[..., None]) -> None:
    register(Values)
    report = check_shapes(load_text(SPEC, overrides=["memories.queue={use: memory_of_values, of: text}"]))
    assert report.problems == []
    assert [line.partition(":")[0] for line in report.untraced] == ["memories.queue (memory_of_values)"]
