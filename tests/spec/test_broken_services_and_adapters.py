"""Broken specs with services, trackers, emitted values and adapters: one message each, with its line and the fix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmflow.model.shapes import check_shapes
from mmflow.plugin import Encoder, Loss, Service, TensorType, default
from mmflow.spec import SpecError, load_text

BASE = """\
mmflow: 1
data:
  train: {use: shapes, size: 16, pixels: 16}
parts:
  writer: {use: service/http_chat, model: small, endpoint: "http://127.0.0.1:1/v1", key: $env.TEST_KEY}
  judge: {use: service/scripted, rules: [{when: "a (\\\\w+)", answer: "\\\\1"}]}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, lora: {rank: 2}, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  sure: {use: sure, of: image}
losses:
  align: {use: infonce, of: [image, text]}
  pull: {use: emitted, of: sure.doubt}
stages:
  fit: {use: train, data: train, steps: 1, batch_size: 8}
  said: {use: ask, data: train, of: [caption, label], service: parts.judge, prompt: "Is {caption} a {label}?"}
track: {log: jsonl, board: {use: wandb, mode: offline}}
"""  # noqa: E501
LORA = "lora: {rank: 2}"
TRACK = "track: {log: jsonl, board: {use: wandb, mode: offline}}"


class Sure(Encoder, name="sure"):
    """Passes its input on, and emits a doubt."""

    def emits(self) -> tuple[str, ...]:
        return ("doubt",)

    def outputs(self, *inputs: TensorType) -> dict[str, TensorType]:
        return {"pooled": inputs[0]}

    def apply(self, x):
        from mmflow.plugin import emit

        emit("doubt", x.square().sum(-1))
        return x


class Judged(Loss, name="judged"):
    """A loss that wants to ask."""

    judge: Service = default("scripted")

    def compute(self, x, judge):
        return x.sum(-1)


@pytest.fixture(autouse=True)
def registered(register: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    register(Sure, Judged)
    monkeypatch.setenv("TEST_KEY", "a-key-that-opens-doors")


def test_the_base_is_sound() -> None:
    assert check_shapes(load_text(BASE)).problems == []


# what is written, what stands there instead, "line:column: path" of the one message, words in it
BROKEN = [
    # services
    ("model: small, ", "", "5:11: parts.writer", ["service http_chat needs `model`"]),
    ("key: $env.TEST_KEY", "key: sk-123456", "5:90: parts.writer.key",
     ["`key` is a secret, and may not be written down", "write $env.NAME"]),
    ("key: $env.TEST_KEY", "key: 123456", "5:90: parts.writer.key", ["is a secret"]),
    ("key: $env.TEST_KEY", "key: $env.NO_SUCH_KEY_HERE", "5:90: parts.writer.key", ["the environment has no"]),
    ("model: small", "model: $env.TEST_KEY", "5:43: parts.writer.model",
     ["$env.TEST_KEY in a field that can change a result", "endpoint", "key"]),
    ("http://127.0.0.1:1/v1", "127.0.0.1:1/v1", "5:60: parts.writer.endpoint", ["a URL that begins with http:// or https://"]),
    ("model: small", "model: small, retries: -1", "5:59: parts.writer.retries", ["found -1", "at least 0"]),
    ("model: small", "model: small, options: {temperature: 1}", "5:59: parts.writer.options",
     ["`temperature` is said by a field of its own"]),
    ("model: small", "model: small, timeuot: 5", "5:50: parts.writer.timeuot", ["did you mean timeout?"]),
    ('when: "a (', 'when: "(a (', "6:49: parts.judge.rules.0.when", ["is no regular expression"]),
    ('rules: [{when: "a (\\\\w+)", answer: "\\\\1"}]', "rules: []", "6:10: parts.judge", ["it has no answer at all"]),
    ('when: "a (\\\\w+)", ', "", "6:42: parts.judge.rules.0", ["give either `prompt` or `when`"]),
    ("pull: {use: emitted, of: sure.doubt}", "pull: {use: judged, of: image, judge: parts.judge}",
     "13:41: losses.pull.judge", ["a service answers stages, not a loss", "ask it in a stage"]),
    # the stage ask
    ("service: parts.judge", "service: parts.juge", "16:64: stages.said.service", ["there is no `juge`", "judge"]),
    ("service: parts.judge", "service: encoders.text", "16:64: stages.said.service", ["an encoder", "a service"]),
    ("service: parts.judge, ", "", "16:9: stages.said", ["stage ask needs `service`"]),
    ("a {label}?", "a {lable}?", "16:9: stages.said", ["the prompt has {lable}, and `of` names caption, label"]),
    (" a {label}?", "?", "16:9: stages.said", ["the prompt has no place {label} for `label`"]),
    ("of: [caption, label], service", "of: [image, label], service", "16:9: stages.said", ["has {caption}"]),
    ('of: [caption, label], service: parts.judge, prompt: "Is {caption} a {label}?"',
     'of: image, service: parts.judge, prompt: "What is {image}?"', "16:37: stages.said.of",
     ["the stage ask cannot read `image`: found image, expected text or label or number or id"]),
    ("prompt:", "choices: [yes, Yes], prompt:", "16:86: stages.said.choices", ["two or more words, all different"]),
    ("prompt:", "choices: [yes, no], read: number, prompt:", "16:9: stages.said", ["leave out `read`"]),
    # trackers
    ("track: {log: jsonl", "track: {log: jsnol", "17:14: track.log", ["unknown tracker", "did you mean 'jsonl'?"]),
    ("mode: offline", "mode: of", "17:47: track.board.mode", ["one of online, offline"]),
    ("mode: offline", "key: abcdef", "17:46: track.board.key", ["is a secret"]),
    (TRACK, "track: [jsonl, {use: wandb, modus: offline}]", "17:29: track.1.modus", ["did you mean mode?"]),
    (TRACK, "track: [jsonl, {folder: x}]", "17:16: track.1", ["tracker without `use`"]),
    (TRACK, "track: jsonl", "17:8: track", ["expected named entries", "track: {NAME: {...}}"]),
    # emitted values
    ("sure.doubt", "sure.dobt", "13:28: losses.pull.of", ["sure is an encoder without `dobt`", "did you mean doubt?"]),
    # adapters
    (LORA, "lora: {}", "8:89: encoders.image.lora", ["needs `rank`"]),
    (LORA, "lora: 4", "8:89: encoders.image.lora", ["found 4", "a mapping"]),
    (LORA, "lora: {rank: 0}", "8:96: encoders.image.lora.rank", ["at least 1"]),
    (LORA, "lora: {rank: 2, targets: []}", "8:108: encoders.image.lora.targets", ["at least 1 entries"]),
    (LORA, "lora: {rank: 2, dropout: 1}", "8:108: encoders.image.lora.dropout", ["below 1"]),
    (LORA, "lora: {rank: 2, aplha: 4}", "8:99: encoders.image.lora.aplha", ["did you mean alpha?"]),
    (LORA, "lora: {rank: 2}, freeze: true", "8:108: encoders.image.freeze",
     ["leaves nothing to train for `lora`", "leave it out"]),
    ("sure: {use: sure, of: image}", "sure: {use: sure, of: image, lora: {rank: 1}}", "10:32: encoders.sure.lora",
     ["sure has no weights that `lora` could stand beside"]),
    ("of: image}\n", "of: image}\n  twin: {use: same, weights: image, lora: {rank: 1}}\n",
     "11:37: encoders.twin.lora", ["`lora` belongs to the encoder that has the weights"]),
    ("of: image}\n", "of: image}\n  twin: {use: copy, weights: image, lora: {rank: 1}}\n",
     "11:37: encoders.twin.lora", ["image has adapters of its own"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "place", "words"), BROKEN)
def test_a_mistake_gives_one_message(before: str, after: str, place: str, words: list[str]) -> None:
    assert before in BASE
    with pytest.raises(SpecError) as caught:
        load_text(BASE.replace(before, after, 1), file="s.yaml")
    (problem,) = caught.value.problems
    said = str(problem)
    assert said.startswith(f"s.yaml:{place}: "), said
    assert [word for word in words if word not in said] == [], said
    assert "sk-123456" not in said
    assert "opens-doors" not in said


@pytest.mark.parametrize(
    ("after", "place", "words"),
    [
        ("lora: {rank: 2, targets: blocks.0.self_attention.quary}", "8:108: encoders.image.lora.targets",
         ["matches no layer of encoders.image", "did you mean blocks.0.self_attention.query?"]),
        ("lora: {rank: 2, targets: [patches, '*.mpl.*']}", "8:108: encoders.image.lora.targets",
         ["`*.mpl.*` matches no layer"]),
    ],
)  # fmt: skip
def test_layers_of_adapters_are_looked_for_before_a_run(after: str, place: str, words: list[str]) -> None:
    problems = check_shapes(load_text(BASE.replace(LORA, after, 1), file="s.yaml")).problems
    (said,) = {str(problem) for problem in problems}
    assert said.startswith(f"s.yaml:{place}: "), said
    assert [word for word in words if word not in said] == [], said
