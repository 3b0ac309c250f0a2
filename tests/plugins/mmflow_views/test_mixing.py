"""Views of pairs: the stated mixture of the stated rows, whoever reads the batch."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmflow_samplers.shuffle import Shuffle
from mmflow_sources.webdataset import WebDataset
from mmflow_synthetic.motions import Motions
from mmflow_synthetic.shapes import Shapes
from mmflow_views.mixing.cutmix import Cutmix
from mmflow_views.mixing.join_texts import JoinTexts
from mmflow_views.mixing.mixup import Mixup
from mmflow_views.mixing.splice_words import SpliceWords
from PIL import Image

from mmflow.data import Batch, ColumnRequest, Loader, scan
from mmflow.model.model import Model
from mmflow.plugin import Clock, SampleError, TensorType
from mmflow.plugin.kinds import Transform, View
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_text
from mmflow.train.step import Step

SOURCE = Shapes(size=24, pixels=20)
CLASSES = len(SOURCE.fields()["label"].names)
RAW = [ColumnRequest("image", Target("fields", "image")), ColumnRequest("label", Target("fields", "label"))]


class Odd(Transform):
    """Images of random heights."""

    def apply(self, value: Any, generator: Any) -> Any:
        return value[: 4 + int(generator.integers(5))]


def viewed(view: str, *outputs: str) -> list[ColumnRequest]:
    return [
        ColumnRequest(view, Target("views", view)),
        *(ColumnRequest(name, Target("views", view, output=name)) for name in outputs),
    ]


def batches(views: Mapping[str, Any], requests: list[ColumnRequest], *, source: Any = SOURCE, workers: int = 0,
            epoch: int = 0, start: int = 0, seed: int = 0) -> list[Batch]:  # fmt: skip
    made = {name: View.model_validate(view) for name, view in views.items()}
    with Loader(source, made, requests, sampler=Shuffle(), batch_size=8, seed=seed, workers=workers) as loader:
        return list(loader.epoch(epoch, start=start))


def mix(**fields: Any) -> dict[str, Any]:
    return {"of": ["image", "label"], "apply": [{"use": "mixup", **fields}]}


@pytest.mark.parametrize("each", ["batch", "row"])
def test_mixup_is_the_convex_combination_that_it_says(each: str) -> None:
    requests = [*viewed("mixed", "lambda", "partner"), *RAW]
    requests.append(ColumnRequest("distribution", Target("views", "mixed", output="label")))
    for batch in batches({"mixed": mix(each=each)}, requests):
        column = {name: found.values for name, found in batch.columns.items()}
        share, partner = column["lambda"], column["partner"]
        assert sorted(partner.tolist()) == list(range(8)) or each == "row"
        assert (len(set(share.tolist())) == 1) == (each == "batch")
        own = share[:, None, None, None]
        expected = own * column["image"] + (1 - own) * column["image"][partner]
        torch.testing.assert_close(column["mixed"], expected, rtol=0, atol=1e-6)
        classes = torch.nn.functional.one_hot(column["label"], CLASSES).float()
        expected = share[:, None] * classes + (1 - share[:, None]) * classes[partner]
        torch.testing.assert_close(column["distribution"], expected, rtol=0, atol=1e-6)
        assert float((column["mixed"] - column["image"]).abs().max()) > 0.01


def test_cutmix_pastes_the_box_and_counts_its_pixels() -> None:
    views = {"mixed": {"of": ["image", "label"], "apply": [{"use": "cutmix", "classes": CLASSES, "each": "row"}]}}
    found = batches(views, [*viewed("mixed", "lambda", "partner", "box"), *RAW])
    areas = []
    for batch in found:
        column = {name: found.values for name, found in batch.columns.items()}
        for row in range(8):
            left, top, right, bottom = (column["box"][row] * 20).round().int().tolist()
            expected = column["image"][row].clone()
            expected[:, top:bottom, left:right] = column["image"][column["partner"][row]][:, top:bottom, left:right]
            assert torch.equal(column["mixed"][row], expected)
            area = (right - left) * (bottom - top) / 400
            assert float(column["lambda"][row]) == pytest.approx(1 - area, abs=1e-6)
            areas.append(area)
    assert min(areas) < 0.2 < 0.5 < max(areas)


def test_all_frames_of_a_clip_get_the_same_rectangle() -> None:
    source = Motions(size=8, frames=4)
    clips = [source.open()[n]["video"] for n in (0, 1)]
    values, facts = Cutmix(p=1.0).apply(clips, np.random.default_rng(3))
    changed = [(value != clip).any(-1) for value, clip in zip(values, clips, strict=True)]
    left, top, right, bottom = np.round(facts["box"][0] * 32).astype(int)
    assert any(c.any() for c in changed)
    for value, clip, partner in zip(values, clips, facts["partner"], strict=True):
        expected = clip.copy()
        expected[:, top:bottom, left:right] = clips[partner][:, top:bottom, left:right]
        np.testing.assert_array_equal(value, expected)


def test_workers_and_cursors_change_no_mixture() -> None:
    views = {"mixed": {**mix(each="row"), "copies": 2}, "cut": {"of": "mixed", "apply": ["flip"]}}
    views["cut"] = {"of": "image", "apply": ["flip", "cutmix"]}
    requests = [*viewed("mixed", "lambda", "partner"), ColumnRequest("cut", Target("views", "cut"))]
    whole = batches(views, requests)
    assert whole[0].columns["mixed"].axes == ("sample", "copy")
    assert whole[0].columns["lambda"].axes == ("sample", "copy")
    copies = whole[0].columns["lambda"].values
    assert not torch.equal(copies[:, 0], copies[:, 1])
    for other in (batches(views, requests, workers=2), [whole[0], *batches(views, requests, start=1)]):
        for one, two in zip(whole, other, strict=True):
            assert one.ids == two.ids
            for key in one.columns:
                assert torch.equal(one.columns[key].values, two.columns[key].values)
    for different in (batches(views, requests, epoch=1), batches(views, requests, seed=1)):
        assert not torch.equal(different[0].columns["lambda"].values, copies)
    assert not torch.equal(whole[1].columns["lambda"].values, copies)


@pytest.mark.parametrize(("ranks", "micro_batch_size"), [(2, 2), (3, 1), (2, None)])
def test_ranks_share_one_mixture(ranks: int, micro_batch_size: int | None) -> None:
    views = {"mixed": View.model_validate(mix(each="row"))}
    requests = [*viewed("mixed", "lambda", "partner"), *RAW]

    def read(**share: Any) -> list[Batch]:
        return list(Loader(SOURCE, views, requests, sampler=Shuffle(), batch_size=8, seed=0, **share).epoch(0))

    whole = read()
    shares = [read(rank=rank, ranks=ranks, micro_batch_size=micro_batch_size) for rank in range(ranks)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert sorted(id for part in parts for id in part.ids) == sorted(batch.ids)
        for part in parts:
            rows = [batch.ids.index(id) for id in part.ids]
            for key, column in batch.columns.items():
                assert torch.equal(part.columns[key].values, column.values[rows]), key


def test_a_stream_goes_on_with_the_same_mixtures(tmp_path: Path) -> None:
    reader = SOURCE.open()
    for number in range(4):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for index in range(6 * number, 6 * number + 6):
                file = io.BytesIO()
                Image.fromarray(reader[index]["image"]).save(file, "PNG")
                info = tarfile.TarInfo(f"{index:02}.png")
                info.size = file.tell()
                tar.addfile(info, io.BytesIO(file.getvalue()))
    source = WebDataset.model_validate(
        {"url": str(tmp_path / "*.tar"), "stream": {"partitions": 2, "open": 1, "buffer": 4}}
    )
    views = {"mixed": {"of": "image", "apply": [{"use": "resize", "size": [20, 20]}, {"use": "mixup", "each": "row"}]}}
    requests = [*viewed("mixed", "lambda", "partner"), RAW[0]]
    whole = batches(views, requests, source=source)
    assert len(whole) > 1
    for other in ([whole[0], *batches(views, requests, source=source, start=1)],
                  batches(views, requests, source=source, workers=2)):  # fmt: skip
        for one, two in zip(whole, other, strict=True):
            assert one.ids == two.ids
            assert all(torch.equal(one.columns[key].values, two.columns[key].values) for key in one.columns)
    shares = [tuple(batch.columns["lambda"].values.tolist()) for batch in whole]
    assert len(set(shares)) == len(shares)
    column = {name: found.values for name, found in whole[1].columns.items()}
    own = column["lambda"][:, None, None, None]
    expected = own * column["image"] + (1 - own) * column["image"][column["partner"]]
    torch.testing.assert_close(column["mixed"], expected, rtol=0, atol=1e-6)


def test_in_evaluation_nothing_is_mixed_whatever_the_batch() -> None:
    for use in ("mixup", "cutmix"):
        view = View.model_validate({"of": ["image", "label"], "apply": [{"use": use, "classes": CLASSES}]})
        requests = [*viewed("mixed", "lambda", "partner", "label")[:3], *RAW]
        for batch in scan(SOURCE, {"mixed": view}, requests, batch_size=7):
            assert torch.equal(batch.columns["mixed"].values, batch.columns["image"].values)
            assert batch.columns["lambda"].values.tolist() == [1.0] * batch.size
            assert batch.columns["partner"].values.tolist() == list(range(batch.size))


def test_labels_of_any_number_of_classes_mix_beside_numbers() -> None:
    view = View.model_validate({"of": ["label", "shape", "area", "size"], "apply": [{"use": "mixup", "each": "row"}]})
    fields = [TensorType("label", names=("a", "b")), TensorType("label", names=("a", "b", "c")), TensorType("number"),
              TensorType("number")]  # fmt: skip
    (mixup,) = pickle.loads(pickle.dumps(view.fitted(*fields))).apply
    rows = [{"label": 0, "shape": 2, "area": 3, "size": 1.5}, {"label": 1, "shape": 1, "area": 5, "size": 2.5}]
    seed = next(n for n in range(99) if np.random.default_rng(n).permutation(2)[0])
    mixed, facts = mixup.apply(rows, np.random.default_rng(seed))
    assert facts["partner"] == [1, 0]
    for row, share in enumerate(facts["lambda"]):
        assert mixed[row]["label"] == pytest.approx([share, 1 - share][:: 1 - 2 * row])
        assert mixed[row]["shape"] == pytest.approx([0, *[1 - share, share][:: 1 - 2 * row]])
        assert mixed[row]["area"] == pytest.approx(share * rows[row]["area"] + (1 - share) * rows[1 - row]["area"])
    assert [declared.size for declared in view.outputs(*fields).values()][:3] == [(2,), (3,), ()]
    with pytest.raises(ValueError, match="must know the number of classes"):
        view.outputs(TensorType("label"), *fields[1:])


def test_absent_rows_stay_absent_and_are_nobodys_partner() -> None:
    values = [np.full((2, 2), n, dtype=np.float32) for n in range(6)]
    for seed in range(10):
        rows: list[Any] = [*values[:3], None, *values[3:]]
        mixed, facts = Mixup(each="row").apply(rows, np.random.default_rng(seed))
        assert mixed[3] is None
        assert facts["partner"][3] is None
        assert 3 not in facts["partner"]
    nobody: list[Any] = [None, None]
    assert Mixup().apply(nobody, np.random.default_rng(0))[0] == nobody


@pytest.mark.parametrize("use", ["mixup", "cutmix"])
def test_rows_that_lack_a_field_stay_unmixed_in_the_form_of_mixed_rows(use: str) -> None:
    class Reader:
        """The samples of a world, of which every third has no label and every fourth no image."""

        def __init__(self) -> None:
            self.inner = SOURCE.open()

        def __len__(self) -> int:
            return 12

        def id(self, index: int) -> str:
            return str(index)

        def __getitem__(self, index: int) -> Mapping[str, Any]:
            sample = dict(self.inner[index])
            return {
                **sample,
                **({"label": None} if index % 3 == 0 else {}),
                **({"image": None} if index % 4 == 0 else {}),
            }

        def static(self) -> Mapping[str, Any]:
            return {}

    class Lacking(Shapes):
        def open(self) -> Any:
            return Reader()

    views = {"mixed": View.model_validate({"of": ["image", "label"], "apply": [{"use": use, "each": "row"}]})}
    requests = [*viewed("mixed", "lambda", "partner"), *RAW]
    requests.append(ColumnRequest("distribution", Target("views", "mixed", output="label")))
    source = Lacking(size=12, pixels=20)
    (batch,) = Loader(source, views, requests, sampler=Shuffle(), batch_size=12, seed=0).epoch(0)
    column = batch.columns
    for row, id in enumerate(batch.ids):
        whole = int(id) % 3 != 0 and int(id) % 4 != 0
        assert bool(column["lambda"].present[row]) == whole  # type: ignore[index]
        assert bool(column["mixed"].present[row]) == (int(id) % 4 != 0)  # type: ignore[index]
        if whole:
            other = int(batch.ids[int(column["partner"].values[row])])
            assert other % 3 != 0 != other % 4
        else:
            assert torch.equal(column["mixed"].values[row], column["image"].values[row])
            if int(id) % 3:
                assert column["distribution"].values[row].argmax() == column["label"].values[row]
    assert float(column["mixed"].values.max()) <= 1


def test_partners_by_place() -> None:
    values: list[Any] = [None, 0.0, 1.0, 2.0, None, 3.0]
    draw = np.random.default_rng
    assert Mixup(pairs="reversed").apply(values, draw(0))[1]["partner"] == [None, 5, 3, 2, None, 1]
    assert Mixup(pairs="next").apply(values, draw(0))[1]["partner"] == [None, 2, 3, 5, None, 1]


def test_one_mixture_or_the_other() -> None:
    choice = {"use": "one_of", "transforms": [{"use": "mixup", "alpha": 0.8}, "cutmix"]}
    views = {"mixed": {"of": ["image", "label"], "apply": [choice]}}
    requests = [*viewed("mixed", "lambda", "partner", "box", "which"), *RAW]
    requests.append(ColumnRequest("distribution", Target("views", "mixed", output="label")))
    seen = set()
    for batch in [batch for epoch in range(4) for batch in batches(views, requests, epoch=epoch)]:
        column = {name: found.values for name, found in batch.columns.items()}
        (which,) = set(column["which"].tolist())
        seen.add(which)
        present = batch.columns["box"].present
        assert present is None if which == 1 else present is not None and not present.any()
        share, image = column["lambda"][:, None, None, None], column["image"]
        if which == 0:
            expected = share * image + (1 - share) * image[column["partner"]]
        else:
            left, top, right, bottom = (column["box"][0] * 20).round().int().tolist()
            expected = image.clone()
            expected[..., top:bottom, left:right] = image[column["partner"]][..., top:bottom, left:right]
        torch.testing.assert_close(column["mixed"], expected, rtol=0, atol=1e-6)
        assert column["distribution"].shape == (8, CLASSES)
    assert seen == {0, 1}


def test_so_many_batches_are_mixed() -> None:
    values: list[Any] = [0.0, 1.0]
    shares = [Mixup(p=0.3).apply(values, np.random.default_rng(n))[1]["lambda"][0] for n in range(1000)]
    assert 240 < sum(share < 1 for share in shares) < 360
    assert Mixup(alpha=1e-3).apply(values, np.random.default_rng(0))[1]["lambda"][0] == pytest.approx(1, abs=1e-3) or 1


WORDS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(0, 1000))
def test_spliced_words_are_a_head_and_a_tail(texts: list[list[str]], seed: int) -> None:
    spliced, facts = SpliceWords(each="row").apply([" ".join(words) for words in texts], np.random.default_rng(seed))
    for row, text in enumerate(spliced):
        words, other = text.split(), texts[facts["partner"][row]]
        head = round(facts["lambda"][row] * len(words))
        assert words[:head] == texts[row][:head]
        assert words[head:] == other[len(other) - (len(words) - head) :]


def test_joined_texts_have_one_partner_and_orders_of_their_own() -> None:
    rows: list[Any] = [{"one": f"a{n} b{n}", "two": f"c{n}"} for n in range(40)]
    joined, facts = JoinTexts(each="row").apply(rows, np.random.default_rng(0))
    orders = set()
    for row, (found, partner) in enumerate(zip(joined, facts["partner"], strict=True)):
        order = []
        for name, text in rows[row].items():
            pair = [text, rows[partner][name]]
            assert found[name] in (" ".join(pair), " ".join(pair[::-1])) or partner == row
            order.append(found[name] == " ".join(pair))
        orders.add(tuple(order))
        assert facts["lambda"][row] == 0.5
    assert len(orders) == 4
    assert JoinTexts().apply(rows, None)[0] == rows


def test_fields_that_cannot_be_mixed_are_refused_with_the_fix() -> None:
    reader = Shapes(size=2, pixels=20).open()
    images = [reader[0]["image"], reader[1]["image"][:14]]
    for transform in (Mixup(), Cutmix()):
        seed = next(n for n in range(99) if np.random.default_rng(n).permutation(2)[0])
        with pytest.raises(ValueError, match=r"one shape in a batch, got \[.*resize"):
            transform.apply(images, np.random.default_rng(seed))
    with pytest.raises(ValueError, match="not str"):
        Mixup().apply(["a", "b"], np.random.default_rng(0))
    view = View.model_validate({"of": "label", "apply": [{"use": "mixup", "classes": CLASSES}]})
    requests = viewed("mixed")
    bad = view.model_copy(update={"apply": (Mixup(classes=2),)})
    with pytest.raises(ValueError, match=f"2 classes, the label has {CLASSES}"):
        Loader(SOURCE, {"mixed": bad}, requests, sampler=Shuffle(), batch_size=4, seed=0)


def test_a_batch_that_cannot_be_mixed_is_named() -> None:
    views = {"mixed": View.model_validate({"of": "caption", "apply": ["mixup"]})}
    with pytest.raises(ValueError, match="mixup cannot mix text"):
        Loader(SOURCE, views, viewed("mixed"), sampler=Shuffle(), batch_size=4, seed=0)
    views = {"mixed": View.model_validate({"of": "image", "apply": [{"use": "resize", "size": 9}, Odd(), "mixup"]})}
    loader = Loader(SOURCE, views, viewed("mixed"), sampler=Shuffle(), batch_size=4, seed=0)
    with pytest.raises(SampleError, match=r"source 'shapes'.*view 'mixed'.*mixup needs one shape in a batch"):
        next(loader.epoch(0))


SPEC = f"""
mmflow: 1
name: mixed
data: {{train: {{use: shapes, size: 32, pixels: 16}}}}
views: {{mixed: {{of: [image, label], apply: [mixup]}}}}
encoders:
  image: {{use: vit, of: mixed, size: 16, width: 16, depth: 1, heads: 2}}
  guess: {{use: linear, of: image, dim: {CLASSES}}}
losses: {{name: {{use: cross_entropy, of: guess, labels: mixed.label, rows: mixed.lambda}}}}
train: {{data: train, epochs: 1, batch_size: 16}}
"""


def test_a_spec_mixes_labels_and_says_so_when_it_cannot() -> None:
    scope = load_text(SPEC).scope("train")
    assert scope.type_of(Target("views", "mixed", output="label")).size == (CLASSES,)
    assert scope.type_of(Target("views", "mixed", output="partner")).dtype == "int64"
    with pytest.raises(SpecError, match=f"2 classes, the label has {CLASSES}"):
        load_text(SPEC.replace("[mixup]", "[{use: mixup, classes: 2}]"))
    with pytest.raises(SpecError, match="cutmix takes images, clips, masks and labels, not text"):
        load_text(SPEC.replace("[image, label], apply: [mixup", "[image, label, caption], apply: [cutmix"))


def test_mixed_labels_train_and_micro_batches_change_no_gradient() -> None:
    spec = load_text(SPEC)
    scope = spec.scope("train")
    gradients = []
    for micro_batch_size in (None, 5):
        model = Model.create(scope, scope.roots(), seed=0).to("cpu", torch.float64)
        loader = Loader(scope.source, scope.views, model.requests(), sampler=Shuffle(), batch_size=16, seed=0)
        batch = next(loader.epoch(0))
        result = Step(model, micro_batch_size=micro_batch_size).run(batch, Clock(0, 2))
        gradients.append({n: p.grad for n, p in model.modules.named_parameters()})
        column = model.columns(batch)
        share = column["views.mixed.lambda"].outputs["value"]
        logits = model.encode(["guess"], batch)["guess"].pooled
        values = -(column["views.mixed.label"].outputs["value"] * logits.log_softmax(1)).sum(1)
        assert float(result.losses["name"]) == pytest.approx(float((values * share).sum() / share.sum()), rel=1e-9)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-9, atol=1e-12)
