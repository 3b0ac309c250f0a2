"""Models that stages take over from each other: structure, weights and learned preprocessing, whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mmflow.artifacts import ModelArtifact
from mmflow.model.model import Model
from mmflow.plugin import Encoder, Source, TensorType, Value, default
from mmflow.spec import Owner, Spec, SpecError, load_text
from mmflow.train.optimization import Optimization
from mmflow.train.settings import Training


class Words(Source, name="words"):
    """Texts `a` and `b` of two words each, and `names`, a static text."""

    first: str = "red"
    second: str = "blue"

    def fields(self) -> Mapping[str, TensorType]:
        text = TensorType("text", dtype="str")
        return {"id": TensorType("id", dtype="str"), "a": text, "b": text, "names": text.with_(axes=("class",))}

    def open(self) -> Any:
        return Reader(self.first, self.second)


class Reader:
    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return 8

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"id": str(index), "a": f"{self.first} {index % 2}", "b": f"{self.second} {index % 3}"}

    def static(self) -> Mapping[str, Any]:
        return {"names": ["green", "yellow"]}


class Scaled(Encoder, name="scaled"):
    """x W times a number that may be learned."""

    by: Value = default(1.0)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=(3,))}

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> torch.nn.Module:
        return ScaledModule(inputs[0].size[-1] or 0)


class ScaledModule(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(width, 3)

    def forward(self, a: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return self.inner(a) * by


SPEC = """
mmflow: 1
data:
  one: {use: words}
  two: {use: words, first: cat, second: dog}
encoders:
  text: {use: text_transformer, of: a, width: 16, depth: 1, heads: 2, length: 8, head: {use: linear, dim: 8}}
  other: {use: text_transformer, of: b, width: 16, depth: 1, heads: 2, length: 8, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [text, other]}
stages:
  fit: {use: train, data: one, steps: 2, batch_size: 4}
"""


class Stages:
    """Trains the stages of a spec one after another in a folder."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.device, self.workers, self.report = "cpu", 0, self

    def progress(self, done: int, total: int, **metrics: float) -> None: ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
    def remark(self, text: str) -> None: ...
    def should_stop(self) -> bool:
        return False

    def upstream(self, stage: str) -> Path:
        return self.folder / stage

    def save_partial(self, directory: Path) -> None: ...
    def load_partial(self) -> None: ...

    def train(self, *stages: str) -> ModelArtifact:
        for stage in stages:
            self.name, self.scope, self.output = stage, self.spec.scope(stage), self.folder / stage
            self.output.mkdir()
            declaration: Any = self.spec.stages[stage]
            declaration.run(self)
        return ModelArtifact(self.output)


def words(artifact: ModelArtifact, encoder: str) -> set[str]:
    return {word for word in artifact.states()[encoder]["ids"] if word.isalpha()}


@pytest.fixture(autouse=True)
def _registered(register: Callable[..., None]) -> None:
    register(Words, Scaled)


def test_a_frozen_encoder_is_built_as_the_stage_that_made_it_says(tmp_path: Path) -> None:
    """Another width there, another tower under the same name here, other words in the data here."""
    text = SPEC.replace("batch_size: 4}", "batch_size: 4, encoders: {text: {width: 32, heads: 4}}}")
    text += """  next:
    use: train
    data: two
    start: init
    steps: 2
    batch_size: 4
    encoders: {teacher: {use: frozen, weights: fit.text}, text: null}
    losses: {align: {of: [other, teacher]}}
"""
    stages = Stages(load_text(text), tmp_path)
    fit, following = stages.train("fit"), stages.train("next")
    assert words(following, "encoders.teacher") == words(fit, "encoders.text") == {"red"}
    assert words(following, "encoders.other") == {"dog"}
    one, two = fit.weights(), following.weights()
    names = {name.removeprefix("encoders.text.") for name in one if name.startswith("encoders.text.")}
    assert {name.removeprefix("encoders.teacher.") for name in two if name.startswith("encoders.teacher.")} == names
    assert all(torch.equal(one[f"encoders.text.{name}"], two[f"encoders.teacher.{name}"]) for name in names)
    assert not any(name.startswith("encoders.text.") for name in two)


def test_a_stage_goes_on_with_encoders_as_they_were_made(tmp_path: Path) -> None:
    """`start` and `model` bring another width, and words that the data of the second stage has not."""
    text = SPEC.replace("batch_size: 4}", "batch_size: 4, encoders: {text: {width: 32, heads: 4}}}")
    text += "  more: {use: train, data: two, steps: 1, batch_size: 4, optimizer: {use: adamw, lr: 0.0}}\n"
    text += "eval:\n  found: {use: retrieval, data: two, of: [text, other]}\n"
    spec = load_text(text)
    stages = Stages(spec, tmp_path)
    fit, more = stages.train("fit"), stages.train("more")
    assert all(torch.equal(tensor, more.weights()[name]) for name, tensor in fit.weights().items())
    assert words(more, "encoders.text") == {"red"}
    scope = spec.scope("found")
    model = Model.load(more, scope, scope.roots(), seed=0)
    assert model.modules.state_dict()["encoders.text.norm.weight"].shape == (32,)


def test_a_stage_hands_on_what_it_does_not_use(tmp_path: Path) -> None:
    text = (
        SPEC
        + """  more:
    use: train
    data: two
    steps: 1
    batch_size: 4
    encoders: {third: {use: text_transformer, of: b, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}}
    losses: {align: {of: [other, third]}}
eval:
  found: {use: retrieval, data: two, of: [text, other]}
"""
    )
    stages = Stages(load_text(text), tmp_path)
    fit, more = stages.train("fit"), stages.train("more")
    kept = [name for name in fit.weights() if name.startswith("encoders.text.")]
    assert kept
    assert all(torch.equal(fit.weights()[name], more.weights()[name]) for name in kept)
    assert words(more, "encoders.text") == {"red"}
    # An encoder that begins here learns from the data here.
    assert words(more, "encoders.third") == {"dog"}


@pytest.mark.parametrize("own", ["{text: {width: 8}}", "{other: {head: {dim: 4}}}", "{text: {tokenizer: byte}}"])
def test_a_declaration_that_contradicts_the_model_is_refused(own: str) -> None:
    with pytest.raises(SpecError, match="comes from the model of fit as it was made there"):
        load_text(SPEC + f"  more: {{use: train, data: two, steps: 1, batch_size: 4, encoders: {own}}}\n")
    used = "{text: {freeze: true, lr_scale: 0.1}, other: {of: a}}"
    load_text(SPEC + f"  more: {{use: train, data: two, steps: 1, batch_size: 4, encoders: {used}}}\n")


@pytest.mark.parametrize("use", ["copy", "ema", "frozen"])
def test_learned_numbers_inside_an_encoder_go_with_its_weights(use: str) -> None:
    text = f"""
mmflow: 1
data: {{train: {{use: digits, split: train}}}}
views: {{small: {{of: image, apply: [{{use: resize, size: 8}}]}}}}
encoders:
  body: {{use: convnet4, of: image, width: 4, norm: group}}
  x: {{use: scaled, of: body, by: {{use: learned, init: 2.0}}}}
  y: {{use: {use}, weights: x}}
losses: {{l: {{use: mse, of: [x, y]}}}}
train: {{data: train, steps: 1, batch_size: 4}}
"""
    spec = load_text(text)
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0)
    state = model.modules.state_dict()
    assert torch.equal(state["encoders.x.by.raw"], state["encoders.y.by.raw"])
    assert isinstance(scope.declaration, Training)
    trained = {name for name, _ in Optimization(scope.declaration, model).named}
    assert ("encoders.y.by.raw" in trained) == (use == "copy")


def test_fields_that_share_weights_are_learned_from_together() -> None:
    text = SPEC.replace("other: {use: text_transformer, of: b, ", "wide: {use: text_transformer, of: b, ")
    text = text.replace(
        "losses:", "  other: {use: same, weights: text, of: b}\n  names: {use: same, weights: text, of: names}\nlosses:"
    )
    scope = load_text(text).scope("fit")
    roots = [*scope.roots(), Owner("encoders", "names")]
    states = Model.learn_states(scope, roots, scope.source)
    assert {"red", "blue", "green", "yellow"} <= set(states["encoders.text"]["ids"])
    assert set(states) == {"encoders.text"}
    one = Model.learn_states(scope, [Owner("encoders", "text")], scope.source)
    assert "blue" not in one["encoders.text"]["ids"]


@pytest.mark.parametrize("use", ["copy", "ema"])
def test_copies_of_a_structure_are_learned_from_with_it(use: str) -> None:
    text = SPEC.replace("losses:", f"  twin: {{use: {use}, weights: text, of: b}}\nlosses:")
    text = text.replace("of: [text, other]", "of: [text, twin]")
    scope = load_text(text).scope("fit")
    states = Model.learn_states(scope, scope.roots(), scope.source)
    assert {"red", "blue"} <= set(states["encoders.text"]["ids"])


AVERAGED = """
mmflow: 1
data: {one: {use: words}}
encoders:
  text: {use: text_transformer, of: a, width: 16, depth: 1, heads: 2, length: 8, head: {use: linear, dim: 8}}
  other: {use: text_transformer, of: b, width: 16, depth: 1, heads: 2, length: 8, head: {use: linear, dim: 8}}
  slow: {use: ema, weights: text, momentum: 0.5, WHEN}
  beside: {use: text_transformer, of: b, width: 16, depth: 1, heads: 2}
  apart: {use: ema, weights: beside}
losses: {align: {use: infonce, of: [text, other]}}
train: {data: one, steps: 3, batch_size: 4, optimizer: {use: sgd, lr: 1.0}}
"""


@pytest.mark.parametrize("when", ["when: after_step", "when: before_forward", "of: b"])
def test_an_average_that_no_loss_reads_moves_with_its_encoder(tmp_path: Path, when: str) -> None:
    """A later stage may read it; it costs no forward pass. Averages of encoders that do not train are not there."""
    spec = load_text(AVERAGED.replace("WHEN", when))
    stored = Stages(spec, tmp_path).train("train").weights()
    one, slow = (stored[f"encoders.{name}.head.linear.weight"] for name in ("text", "slow"))
    assert not torch.equal(one, slow)
    scope = spec.scope("train")
    model = Model.create(scope, scope.roots(), seed=0, states=ModelArtifact(tmp_path / "train").states())
    begun = model.modules.state_dict()
    assert torch.equal(begun["encoders.text.head.linear.weight"], begun["encoders.slow.head.linear.weight"])
    assert not torch.equal(slow, begun["encoders.slow.head.linear.weight"])
    assert not any(name.startswith(("encoders.apart", "encoders.beside")) for name in stored)
    assert [str(node.owner) for node in model.graph.working if "slow" in str(node.owner)] == []


def test_an_encoder_that_only_lends_its_structure_is_not_trained() -> None:
    text = SPEC.replace("losses:", "  twin: {use: copy, weights: text, of: a}\nlosses:").replace(
        "[text, other]", "[twin, other]"
    )
    scope = load_text(text).scope("fit")
    model = Model.create(scope, scope.roots(), seed=0, states=Model.learn_states(scope, scope.roots(), scope.source))
    assert isinstance(scope.declaration, Training)
    trained = {name.split(".")[1] for name, _ in Optimization(scope.declaration, model).named}
    assert trained == {"twin", "other"}
