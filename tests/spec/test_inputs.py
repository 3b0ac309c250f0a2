"""What components say of themselves is held against what the spec gives them, with a plugin of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmflow.plugin import hookimpl
from mmflow.plugin.registry import Registry
from mmflow.spec import Owner, Spec, SpecError, Target, load_text
from mmflow.spec.text.yaml_reader import parse_text
from mmflow.spec.text.yaml_writer import write_yaml

BASE = """\
data:
  d: {use: shapes, size: 20}
  g: {use: graph}
views:
  two: {of: image, copies: 2}
encoders:
  x: {use: folded, of: image}
  xx: {use: folded, of: two}
  y: {use: speaker, of: caption}
losses:
  l: {use: pair, of: [x, y]}
train: {data: d, steps: 1}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_text(text, "s.yaml")
    return [str(problem) for problem in caught.value.problems]


def changed(before: str, after: str) -> str:
    assert before in BASE
    return BASE.replace(before, after, 1)


@pytest.mark.usefixtures("plugged")
class TestWithAPlugin:
    def test_the_base_is_sound(self) -> None:
        assert load_text(BASE).scope("train").targets(Owner("losses", "l"))["of", 1] == Target("encoders", "y")

    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [
            ("pair, of: [x, y]", "pair, of: [x]", ["s.yaml:11:22: losses.l.of", "2 to 3 inputs (a, b, c)", "found 1"]),
            ("pair, of: [x, y]", "pair, of: [x, y, x, y]", ["takes 2 to 3 inputs", "found 4"]),
            ("pair, of: [x, y]", "pair, of: [xx, y]", ["losses.l.of.0: xx has 2 copies", "write xx.0"]),
            ("pair, of: [x, y]", "pair, of: [x.parts, y]", ["x.parts has 3 of the axis part", "write x.parts.0"]),
            ("pair, of: [x, y]", "pair, of: [x, y.next]", ["y is an encoder without `next`", "pooled, tokens"]),
            ("pair, of: [x, y]", "listener, of: x", ["loss listener needs next_token of x", "folded"]),
            ("pair, of: [x, y]", "infonce, of: [x, y], score: maxsim", ["maxsim needs tokens of x", "y gives it"]),
            ("pair, of: [x, y]", "heavy, of: x", ["heavy needs a_module_that_is_not_there", "install a_module"]),
            ("x: {use: folded", "x: {use: broken", ["encoders.x: broken does not fit", "7 is no multiple of 2"]),
            ("x: {use: folded, of: image", "x: {use: folded, of: [image, image]", ["folded takes 1 input", "found 2"]),
            ("g: {use: graph}", "g: {use: absent}", ["data.g: there is no table pictures.csv; did you mean"]),
            ("g: {use: graph}", "g: {use: raising}", ["data.g: source raising cannot be read: RuntimeError: boom"]),
            ("x: {use: folded", "x: {use: folded, lora: {rank: 2}", ["encoders.x.lora: folded has no weights"]),
            ("data: d,", "data: g,", ["encoders.x.of: there is no `image`"]),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_told_once(self, before: str, after: str, words: list[str]) -> None:
        messages = problems(changed(before, after))
        for word in words:
            assert word in messages[0]
        if before != "data: d,":
            assert len(messages) == 1

    def test_group_axes_are_folded_around_an_encoder_that_knows_rows_only(self) -> None:
        scope = load_text(BASE).scope("train")
        assert scope.type_of(Target("encoders", "xx")).axes == ("sample", "copy")
        parts = scope.type_of(Target("encoders", "xx", output="parts"))
        assert (parts.axes, parts.groups) == (("sample", "copy", "part"), (2, 3))

    def test_static_fields_have_dotted_names_and_a_row_axis_of_their_own(self) -> None:
        text = (
            "data: {g: {use: graph}}\nencoders: {h: {use: linear, of: node.x, dim: 3}}\n"
            "losses: {c: {use: cross_entropy, of: h, labels: node.label}}\ntrain: {data: g, steps: 1}\n"
        )
        scope = load_text(text).scope("train")
        assert scope.targets(Owner("encoders", "h"))["of", 0] == Target("fields", "node.x")
        assert scope.type_of(Target("encoders", "h")).axes == ("node",)
        assert [*map(str, scope.reach(Owner("losses", "c")))] == [
            "fields.node.x", "encoders.h", "fields.node.label", "losses.c"
        ]  # fmt: skip

    def test_a_memory_read_before_its_update_makes_no_circle_and_after_it_does(self) -> None:
        text = BASE.replace("losses:", "  keep: {use: relabel, of: x, prototypes: protos}\nlosses:").replace(
            "train:", "memories: {protos: {use: queue, size: 4, of: x, rows: keep.weight}}\ntrain:"
        )
        text = text.replace("l: {use: pair, of: [x, y]}", "l: {use: cross_entropy, of: x, labels: keep.label}")
        reached = load_text(text).scope("train").reach(Owner("losses", "l"))
        assert {Owner("memories", "protos"), Owner("encoders", "keep")} <= set(reached)
        (message,) = problems(text.replace("prototypes: protos", "prototypes: protos.after"))
        assert "a circle: encoders.keep -> memories.protos -> encoders.keep" in message

    def test_one_name_of_two_distributions_names_both(self, plugged: Registry) -> None:
        again = SimpleNamespace(mmflow_components=hookimpl(lambda: {"loss/pair": "a_plugin_of_a_test:Pair"}))
        plugged.add("again", lambda: again, "other-plugin", "2")
        (message,) = problems(BASE)
        assert "losses.l.use: two distributions register loss 'pair': a-plugin and other-plugin" in message
        assert "pair@a-plugin" in message
        assert load_text(changed("use: pair,", "use: pair@a-plugin,")).losses["l"].use == "pair"

    def test_the_environment_may_be_read_where_it_cannot_change_a_result(self) -> None:
        text = changed("{use: graph}", "{use: graph, path: $env.PLACE/x}")
        spec = load_text(text, env={"PLACE": "/data"})
        assert spec.data["g"].declared()["path"] == "/data/x"
        assert parse_text(spec.to_yaml(), "again.yaml").data["data"]["g"]["path"] == "${env.PLACE}/x"


WORDS = [
    "x", "y", "xx", "two", "image", "caption", "label", "d", "train", "init", "losses.l", "parts.p", "x.0", "two.1",
    "x.tokens", "y.detach", "q.after", "losses.l.weight", "cosine", "vit", "pair", "queue", "shapes", "$vars.a", "[",
    "use", "", "a b",
]  # fmt: skip
values = st.recursive(
    st.sampled_from(WORDS) | st.integers(-2, 70) | st.booleans() | st.none() | st.floats(allow_nan=True),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["use", "of", "head", "data", "score", "labels", "losses", "x"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
SOUND = """\
data: {d: {use: shapes, size: 20}}
views: {two: {of: image, copies: 2, apply: [flip]}}
encoders:
  x: {use: vit, of: image, width: 32, depth: 1, head: {use: linear, dim: 4}}
  y: {use: text_transformer, of: caption, width: 32, depth: 1, head: {use: linear, dim: 4}}
  s: {use: ema, weights: x, of: two.1, momentum: 0.9}
memories: {q: {use: queue, size: 8, of: {a: s, b: y}}}
parts: {p: {use: score/maxsim}}
losses:
  l: {use: infonce, of: [x, y], temperature: {use: learned, init: 0.1}, negatives: q.b, score: cosine}
  m: {use: supcon, of: [x, s], labels: label, temperature: losses.l.temperature}
train: {data: d, steps: 2, losses: [l, m], groups: {g: {match: "encoders.*"}}, optimizer: {use: adamw, lr: 0.1}}
eval: {e: {use: retrieval, data: d, of: [x, train.y], encoders: {x: {depth: 2}}}}
"""


def outcome(text: str) -> Spec | SpecError:
    try:
        return load_text(text, "s.yaml")
    except SpecError as error:
        return error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_change_of_a_sound_spec_gives_a_spec_or_problems(data: st.DataObject) -> None:
    tree = parse_text(SOUND, "s.yaml").data
    for _ in range(data.draw(st.integers(1, 2))):
        holder: object = tree
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))  # type: ignore[arg-type]
            key = data.draw(st.sampled_from(keys)) if keys else None
            inner = holder[key] if key is not None else None  # type: ignore[index]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 3)) == 0:
                break
            holder = inner
        if key is None:
            continue
        action = data.draw(st.sampled_from(["put", "remove", "add"]))
        if action == "put":
            holder[key] = data.draw(values)  # type: ignore[index]
        elif action == "remove":
            del holder[key]  # type: ignore[attr-defined]
        elif isinstance(holder, dict):
            holder[data.draw(st.sampled_from(WORDS))] = data.draw(values)
    found = outcome(write_yaml(tree))
    if isinstance(found, SpecError):
        assert found.problems
        assert all(problem.mark is not None for problem in found.problems)
        assert all(len(line) < 1000 and "Error:" not in line for line in str(found).splitlines())
    else:
        assert load_text(found.to_yaml(), "again.yaml") == found


def test_an_input_that_takes_only_pictures_means_the_field_of_that_name() -> None:
    from mmflow.spec import load_text

    spec = load_text(
        "mmflow: 1\nname: n\ndata: {train: {use: shapes, size: 8}}\nencoders:\n"
        "  patches: {use: vit, of: image}\n"
        "  image: {use: attention_pool, of: patches.tokens, head: {use: linear, dim: 8}}\n"
        "  text: {use: text_transformer, of: caption, head: {use: linear, dim: 8}}\n"
        "  again: {use: linear, of: image, dim: 4}\n"
        "losses: {align: {use: infonce, of: [image, text]}}\n"
        "train: {data: train, steps: 1}\n"
    )
    scope = spec.scope("train")
    assert scope.targets(Owner("encoders", "patches"))["of", 0].owner == Owner("fields", "image")
    assert scope.targets(Owner("encoders", "again"))["of", 0].owner == Owner("encoders", "image")
