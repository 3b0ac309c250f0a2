"""The declared type of a view is that of what it gives, and the same to the language and to the loader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mmflow_synthetic.shapes import Shapes

from mmflow.data import ColumnRequest, scan
from mmflow.plugin import ComponentError, TensorType, Tokens
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target
from mmflow.spec import SpecError, load_text
from mmflow.spec.references.views import ViewTypes

VIEWS: dict[str, Any] = {
    "two": {"of": ["image", "boxes"], "copies": 2, "apply": [{"use": "random_resized_crop", "size": 12}]},
    "again": {"of": "two", "apply": ["flip", {"use": "patch_mask", "patch": 4}]},
    "boxed": {"of": ["two.box", "label"]},
    "one": {"of": "two.1", "apply": ["flip"]},
    "deep": {"of": ["again", "two.boxes", "caption"], "apply": [{"use": "resize", "size": [6, 8]}]},
    "text": {"of": "hard_captions", "apply": ["choose"]},
    "hard": {"of": "hard_captions", "apply": ["lower"]},
    "second": {"of": "hard.1"},
    "corner": {"of": "two.boxes"},
}
COPY = ("sample", "copy")
EXPECTED = {
    "two": (COPY, (12, 12, 3), (2,)),
    "two.box": (COPY, (4,), (2,)),
    "two.1": (("sample",), (12, 12, 3), ()),
    "two.1.box": (("sample",), (4,), ()),
    "two.boxes": (("sample", "copy", "object"), (4,), (2, 3)),
    "two.0.boxes": (("sample", "object"), (4,), (3,)),
    "again": (COPY, (12, 12, 3), (2,)),
    "again.flip": (COPY, (), (2,)),
    "again.mask": (COPY, (3, 3), (2,)),
    "again.0.flip": (("sample",), (), ()),
    "boxed": (COPY, (4,), (2,)),
    "boxed.label": (COPY, (), (2,)),
    "one": (("sample",), (12, 12, 3), ()),
    "one.flip": (("sample",), (), ()),
    "deep": (COPY, (6, 8, 3), (2,)),
    "deep.boxes": (("sample", "copy", "object"), (4,), (2, 3)),
    "deep.caption": (COPY, (), (2,)),
    "text": (("sample",), (), ()),
    "hard.1": (("sample",), (), ()),
    "second": (("sample",), (), ()),
    "corner": (("sample", "copy", "object"), (4,), (2, 3)),
    "corner.1": (("sample", "object"), (4,), (3,)),
}
SOURCE = Shapes(size=6, pixels=20, objects=(1, 3))


def target(name: str) -> Target:
    view, *rest = name.split(".")
    index = int(rest.pop(0)) if rest and rest[0].isdecimal() else None
    return Target("views", view, index=index, output=rest[0] if rest else None)


def spec(views: dict[str, Any]) -> str:
    import json

    return f"""
mmflow: 1
name: types
data: {{train: {{use: shapes, size: 6, pixels: 20, objects: [1, 3]}}}}
views: {json.dumps(views)}
encoders:
  image: {{use: vit, of: image, size: 16, width: 16, depth: 1, heads: 2}}
losses: {{align: {{use: infonce, of: [image, image]}}}}
train: {{data: train, epochs: 1, batch_size: 3}}
"""


@pytest.mark.parametrize("name", EXPECTED)
def test_types_of_views_of_views_with_copies(name: str) -> None:
    views = {view: View.model_validate(made) for view, made in VIEWS.items()}
    declared = ViewTypes(views, SOURCE.fields()).column(target(name))
    assert (declared.axes, declared.size, declared.groups) == EXPECTED[name]
    assert load_text(spec(VIEWS)).scope("train").type_of(target(name)) == declared


def test_batches_have_the_declared_axes_and_sizes() -> None:
    views = {view: View.model_validate(made) for view, made in VIEWS.items()}
    requests = [ColumnRequest(name, target(name)) for name in EXPECTED]
    (batch,) = scan(SOURCE, views, requests, batch_size=6)
    captions = [SOURCE.open()[n]["hard_captions"][1] for n in range(6)]
    assert batch.columns["hard.1"].values == batch.columns["second"].values == [text.lower() for text in captions]
    for name, (axes, size, groups) in EXPECTED.items():
        column = batch.columns[name]
        assert column.axes == axes
        if isinstance(column.values, list):
            continue
        values = column.values.values if isinstance(column.values, Tokens) else column.values
        shape = tuple(values.shape[1:])
        expected = (*groups, size[2], *size[:2]) if len(size) == 3 else (*groups, *size)
        assert len(shape) == len(expected)
        assert all(want in (None, have) for want, have in zip(expected, shape, strict=True))


@pytest.mark.parametrize(
    ("views", "words"),
    [({"a": {"of": "image", "copies": 2}, "b": {"of": "a", "copies": 3}}, "makes 3 copies of a view that has 2"),
     ({"a": {"of": "image", "copies": 2}, "b": {"of": "image", "copies": 3}, "c": {"of": ["a", "b"]}},
      "a view that has 2 and one that has 3"),
     ({"a": {"of": "image", "copies": 2}, "b": {"of": ["a.0", "a.1"]}}, "gives `a` twice"),
     ({"a": {"of": ["image", "boxes"]}, "b": {"of": ["a.boxes", "boxes"]}}, "gives `boxes` twice"),
     ({"a": {"of": "caption", "apply": ["choose"]}}, "choose needs a field with a group axis")],
)  # fmt: skip
def test_views_that_do_not_fit_are_refused_before_any_work(views: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        load_text(spec(views).replace("of: image,", f"of: {list(views)[-1]},", 1))
    assert "views." in str(caught.value)
    made = {name: View.model_validate(view) for name, view in views.items()}
    with pytest.raises((ComponentError, ValueError), match=words):
        ViewTypes(made, SOURCE.fields()).column(Target("views", list(views)[-1]))


def test_names_of_what_a_view_gives() -> None:
    view = View.model_validate({"of": ["fields.image", "two.0.box", "three.1", "node.label"]})
    assert view.names == ("image", "box", "three", "label")
    types = [TensorType("image"), TensorType("boxes"), TensorType("image"), TensorType("label")]
    assert list(view.outputs(*types)) == list(view.names)
    assert np.all([view.outputs(*types)[n] == t for n, t in zip(view.names, types, strict=True)])
