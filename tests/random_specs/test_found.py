"""Faults of mmflow that random specs have found, each with what is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_objectives.prediction.mse import MeanSquaredError
from mmflow_samplers.balanced import Balanced
from mmflow_samplers.episodes import Episodes
from mmflow_samplers.repeated import Repeated
from mmflow_samplers.shuffle import Shuffle
from mmflow_synthetic.graphs import Graphs
from mmflow_synthetic.shapes import Shapes

from mmflow.data import Loader, collate
from mmflow.evaluate.trial import StageCheck
from mmflow.plugin import Ref, TensorType, Tokens
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_text
from tests.random_specs.running import carry_out

SPEC = """\
mmflow: 1
data: {{one: {source}}}
views: {views}
encoders: {{image: {{use: convnet4, of: {of}, width: 4}}}}
losses: {{loss: {{use: uniformity, of: image}}}}
stages:
  train: {{use: train, data: one, steps: 2, batch_size: 8}}
  {stage}
"""


def refused(
    views: str = "{}", stage: str = "e: {use: embed, data: one, of: image}", of: str = "image", source: str = "{}"
) -> str:
    source = "{use: shapes, size: 16, pixels: 16, objects: [1, 2]}" if source == "{}" else source
    with pytest.raises(SpecError) as found:
        load_text(SPEC.format(views=views, stage=stage, of=of, source=source))
    return str(found.value)


@pytest.mark.parametrize("field", ["scales", "places", "things"])
def test_a_sampler_goes_by_a_member_of_a_group(field: str) -> None:
    source = Shapes(size=16, pixels=16, objects=(1, 2))
    reader = source.open()
    first = [reader[index][field][0] for index in range(16)]
    target: Any = Ref(f"{field}.0")
    for sampler in (Balanced(by=target, classes=2), Episodes(by=target, way=2, shot=1, query=1, episodes=1)):
        with Loader(
            source, {}, [], sampler=sampler, batch_size=4, seed=0, sampled={"by": Target("fields", field, 0)}
        ) as loader:
            batch = [first[index] for index in loader.draw()]
        assert sorted(batch.count(label) for label in set(batch)) == [2, 2]


@pytest.mark.parametrize("sampler", [Shuffle(), Repeated(times=2)])
def test_one_big_graph_has_no_rows_to_draw(sampler: Any) -> None:
    source = Graphs(authors=12, papers=20, venues=4, features=4)
    with Loader(source, {}, [], sampler=sampler, batch_size=4, seed=0) as loader:
        assert list(loader.draw()) == []
        assert list(loader.sizes()) == []
        assert [batch.size for batch in loader.epoch(0)] == [0]


@pytest.mark.parametrize("use", ["gain", "reverse_time", "{use: shift_time, most: 0.5}"])
def test_boxes_and_texts_have_no_length_in_time(use: str) -> None:
    said = refused(views=f"{{moved: {{of: [boxes.1, caption], apply: [{use}]}}}}")
    assert "needs a value along time" in said
    assert said.startswith("<text>:3:")


def test_a_row_whose_fields_along_time_are_absent_stays_as_it_is() -> None:
    from mmflow_views.time.reverse_time import ReverseTime
    from mmflow_views.time.shift_time import ShiftTime

    for transform in (ReverseTime(), ShiftTime(most=0.5)):
        assert transform.apply({"caption": "a red star"}, np.random.default_rng(0)) == {"caption": "a red star"}


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        ("ask: {use: ask, data: one, of: caption, prompt: '{caption}', service: parts.it}", "ask.answer, text"),
        ("feats: {use: embed, data: one, of: image}", "feats.image"),
    ],
)
def test_digits_are_whole_numbers(stage: str, found: str) -> None:
    name, output = found.removesuffix(", text").split(".")
    parts = "\nparts: {it: {use: service/scripted, rules: [], otherwise: red}}"
    said = refused(stage=f"{stage}\n  code: {{use: mixed_radix, of: {name}.{output}, base: 4}}{parts}")
    assert "mixed_radix reads one whole number a row" in said
    assert said.startswith("<text>:9:")


def test_a_value_that_is_not_emitted_is_refused_without_torch() -> None:
    with pytest.raises(SpecError) as found:
        load_text(
            SPEC.format(
                source="{use: shapes, size: 16, pixels: 16}", views="{}", of="image",
                stage="e: {use: embed, data: one, of: image}",
            ).replace("{use: uniformity, of: image}", "{use: emitted, of: image}")
        )  # fmt: skip
    assert "`emitted` reads one number a row" in str(found.value)


@pytest.mark.parametrize("size", [(), (3,)])
def test_mse_of_sequences_counts_the_places_that_both_have(size: tuple[int, ...]) -> None:
    a = torch.arange(2 * 4 * max(1, len(size) * 3)).reshape(2, 4, *size).double()
    b = a + torch.tensor([1.0, 2.0, 3.0, 4.0]).double().view(1, 4, *[1] * len(size))
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    loss, weight = MeanSquaredError().compute(Tokens(a, mask), Tokens(b, mask))
    assert loss.tolist() == pytest.approx([(1 + 4 + 9) / 3, 1.0])
    assert weight.tolist() == [3.0, 1.0]


def test_an_image_that_is_absent_leaves_the_other_fields_of_a_view() -> None:
    from mmflow_views.images.color_jitter import ColorJitter
    from mmflow_views.images.flip import Flip

    for transform in (ColorJitter(), Flip()):
        for left in ({"caption": "a red star"}, {"label": 2, "names": ["a", "b"]}):
            assert transform.apply(left, np.random.default_rng(0)) == left


@pytest.mark.parametrize("of", ["node.x", "[node.coauthors, venue.label]"])
def test_a_view_of_a_static_field_is_refused_at_its_line(of: str) -> None:
    graph = "{use: graphs, authors: 12, papers: 20}"
    said = refused(views=f"{{moved: {{of: {of}, apply: [add_noise]}}}}", of="moved", source=graph)
    assert said.startswith("<text>:3:")
    assert "one of its inputs is a static field" in said


@pytest.mark.parametrize("place", ["schedule: parts.near", "optimizer: {use: adamw, lr: parts.near}"])
def test_a_number_of_the_batch_has_no_value_outside_of_losses_also_behind_a_path(place: str) -> None:
    near = "{use: value/adaptive, score: cosine, of: [image, image], base: 0.1}"
    with pytest.raises(SpecError, match="adaptive is a number of the batch") as found:
        load_text(
            SPEC.format(
                source="{use: shapes, size: 16, pixels: 16}", views="{}", of="image",
                stage=f"e: {{use: embed, data: one, of: image}}\nparts: {{near: {near}}}",
            ).replace("batch_size: 8", f"batch_size: 8, {place}")
        )  # fmt: skip
    assert str(found.value).startswith("<text>:7:")


@pytest.mark.parametrize(("axes", "rows"), [(("sample", "caption"), [[], None]), (("sample",), [[], []])])
def test_empty_groups_and_empty_sequences_have_one_place_that_is_not_there(axes: tuple[str, ...], rows: Any) -> None:
    column = collate(rows, TensorType("tokens", axes, (None,), dtype="int64"), template=[1, 2])
    values = column.values
    assert isinstance(values, Tokens)
    assert values.values.shape == (2, 1, 1) if len(axes) > 1 else (2, 1)
    assert not values.mask.any()


def test_rows_of_one_big_graph_are_no_samples() -> None:
    spec = load_text("""
mmflow: 1
data: {one: {use: graphs, authors: 12, papers: 20, venues: 4, features: 4}}
encoders: {node: {use: graph, of: [node.x, node.coauthors], width: 8, depth: 1}}
stages:
  near: {use: relevance, data: one, of: node, labels: fields.node.label}
  power: {use: spectrum, data: one, of: node}
""")
    assert StageCheck().of(spec).problems == []


@pytest.mark.parametrize("of", ["[text.ids, text.ids.detach]", "[fields.label, fields.shape]"])
def test_whole_numbers_alone_have_no_distance(of: str) -> None:
    with pytest.raises(SpecError, match="mse takes numbers that an encoder makes"):
        load_text(f"""
mmflow: 1
data: {{one: {{use: shapes, size: 16, pixels: 16}}}}
encoders: {{text: {{use: text_transformer, of: caption, width: 8, depth: 1, heads: 2, length: 12}}}}
losses: {{same: {{use: mse, of: {of}}}}}
train: {{data: one, steps: 1, batch_size: 8}}
""")


@pytest.mark.parametrize("dim", [8, 20])
def test_ids_beyond_the_logits_are_told_before_the_run(dim: int) -> None:
    said = [
        str(problem)
        for problem in StageCheck().of(
            load_text(f"""
mmflow: 1
data: {{one: {{use: shapes, size: 16, pixels: 16}}}}
encoders:
  text: {{use: text_transformer, of: caption, width: {dim}, depth: 1, heads: 2, length: 12}}
losses: {{next: {{use: caption_nll, of: text.tokens, targets: text.ids}}}}
train: {{data: one, steps: 1, batch_size: 8}}
""")
        )
    ]
    assert len(said) == 1
    assert f"a label is too large for logits of {dim} classes" in said[0]
    assert said[0].startswith("<text>:6:")


def test_a_sample_that_cannot_be_read_is_one_mistake_however_many_stages_read_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image,kind\n0.png,a\n1.png,b\n")
    text = f"""
mmflow: 1
data:
  one: {{use: table, url: {tmp_path}/rows.csv, columns: {{image: image, kind: {{modality: label}}}}}}
encoders: {{image: {{use: convnet4, of: image, width: 4}}}}
losses: {{loss: {{use: uniformity, of: image}}}}
train: {{data: one, steps: 1, batch_size: 2}}
eval:
  a: {{use: geometry, data: one, of: image}}
  b: {{use: embed, data: one, of: image}}
"""
    problems = StageCheck().of(load_text(text)).problems
    assert len(problems) == 1
    assert "0.png" in str(problems[0])


@pytest.mark.parametrize("stage", [
    "{use: tracking, data: one, found: node.venues, truth: node.coauthors}",
    "{use: retrieval, data: one, of: [node, node]}",
])  # fmt: skip
def test_evaluations_of_one_big_graph_are_tried_on_its_rows(stage: str) -> None:
    spec = load_text(f"""
mmflow: 1
data: {{one: {{use: graphs, authors: 12, papers: 20, venues: 4, features: 4}}}}
encoders: {{node: {{use: graph, of: [node.x, node.coauthors], width: 8, depth: 1}}}}
stages:
  it: {stage.replace("node.", "fields.node.")}
""")
    (problem,) = StageCheck().of(spec).problems
    assert str(problem).startswith("<text>:6:")


@pytest.mark.parametrize("stage", [
    "{use: relevance, data: one, of: node, labels: paper.label}",
    "{use: knn, data: one, of: node, test: one, labels: venue.label}",
    "{use: class_means, data: one, of: node, labels: paper.label}",
])  # fmt: skip
def test_labels_of_other_rows_are_refused(stage: str) -> None:
    with pytest.raises(SpecError, match="found rows of") as found:
        load_text(f"""
mmflow: 1
data: {{one: {{use: graphs, authors: 12, papers: 20, venues: 4, features: 4}}}}
encoders: {{node: {{use: graph, of: [node.x, node.coauthors], width: 8, depth: 1}}}}
stages:
  it: {stage}
""")
    assert str(found.value).startswith("<text>:6:")


def test_copies_of_an_image_that_the_first_row_lacks(tmp_path: Path) -> None:
    from PIL import Image

    rows = ["image,kind"]
    for number in range(12):
        Image.new("RGB", (16, 16), (number * 20, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{'' if number < 3 else f'{number}.png'},{'ab'[number % 2]}")
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    text = f"""
mmflow: 1
data:
  one: {{use: table, url: {tmp_path}/rows.csv, columns: {{image: image, kind: {{modality: label}}}}}}
views: {{two: {{of: image, copies: 2, apply: [flip]}}}}
encoders: {{image: {{use: convnet4, of: two, size: 16, width: 4}}}}
losses: {{loss: {{use: uniformity, of: image.0}}}}
train: {{data: one, steps: 2, batch_size: 3, sampler: sequential}}
"""
    assert carry_out(text).state == "accepted"


@pytest.mark.parametrize("use", ["splice_words", "cutmix"])
@pytest.mark.parametrize("of", ["label", "[label, scale]"])
def test_a_mixture_of_labels_alone_is_refused(use: str, of: str) -> None:
    said = refused(views=f"{{mixed: {{of: {of}, apply: [{use}]}}}}")
    assert f"{use} needs" in said
    assert said.startswith("<text>:3:")


@pytest.mark.parametrize("column", ["said.answer", "said2.answer"])
def test_clusters_of_texts_are_refused(column: str) -> None:
    ask = "{use: ask, data: one, of: caption, prompt: '{caption}', service: parts.it}"
    parts = "\nparts: {it: {use: service/scripted, rules: [], otherwise: red}}"
    said = refused(stage=f"said: {ask}\n  said2: {ask}\n  near: {{use: kmeans, of: {column}, k: 2}}{parts}")
    assert "kmeans reads one vector a row" in said
    assert said.startswith("<text>:10:")


@pytest.mark.parametrize("where", ["", ", where: fields.label"])
def test_class_means_by_what_an_encoder_gives(where: str) -> None:
    text = SPEC.format(
        source="{use: shapes, size: 16, pixels: 16}", views="{}", of="image",
        stage=f"means: {{use: class_means, data: one, of: image, labels: told.told{where}}}",
    ).replace("width: 4}", "width: 4}, told: {use: telling, of: image}")  # fmt: skip
    text = text.replace("uniformity, of: image}}", "uniformity, of: told}}", 1)
    assert carry_out(text).state == "accepted"


@pytest.mark.parametrize(("name", "encoder"), [
    ("caption", "{use: text_transformer, of: caption, width: 8}"),
    ("pair_caption", "{use: text_transformer, of: pair_caption, width: 8}"),
])  # fmt: skip
def test_the_field_behind_an_entry_of_its_name_is_proposed(name: str, encoder: str) -> None:
    with pytest.raises(SpecError, match=rf"the field of that name is `fields\.{name}`"):
        load_text(f"""
mmflow: 1
data: {{one: {{use: shapes, size: 16, pixels: 16}}}}
encoders: {{{name}: {{use: lookup, of: label, width: 8}}, other: {encoder}}}
losses: {{it: {{use: uniformity, of: other}}}}
train: {{data: one, steps: 1, batch_size: 8}}
""")


@pytest.mark.parametrize("read", ["of: two, labels: label", "of: image, labels: scales"])
def test_class_means_of_groups_are_refused(read: str) -> None:
    with pytest.raises(SpecError, match="class_means needs one vector and one label a row") as found:
        load_text(f"""
mmflow: 1
data: {{one: {{use: shapes, size: 16, pixels: 16, objects: [1, 2]}}}}
views: {{pair: {{of: image, copies: 2, apply: [flip]}}}}
encoders: {{image: {{use: convnet4, of: image, width: 4}}, two: {{use: same, weights: image, of: pair}}}}
stages:
  means: {{use: class_means, data: one, {read}}}
""")
    assert str(found.value).startswith("<text>:7:")
