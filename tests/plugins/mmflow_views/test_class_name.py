"""Labels as the names of their classes."""

from __future__ import annotations

import pytest

from mmflow.data import ColumnRequest, scan
from mmflow.plugin import Source, TensorType, Transform
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Target

NAMER = Transform.accept({"use": "class_name", "names": ["cat", "dog"]})


def test_a_label_becomes_the_name_of_its_class() -> None:
    assert NAMER.apply(1, None) == "dog"
    assert NAMER.apply([0, None, 1], None) == ["cat", None, "dog"]
    typed = NAMER.result(TensorType("label", ("sample", "object"), dtype="int64", names=("0", "1"), groups=(3,)))
    assert typed == TensorType("text", ("sample", "object"), groups=(3,))


def test_the_names_are_those_of_the_data_unless_others_are_written() -> None:
    source = Source.accept({"use": "shapes", "size": 30, "pixels": 16})
    views = {
        name: View.model_validate({"of": of, "apply": apply})
        for name, of, apply in (
            ("named", ["color"], ["class_name"]),
            ("said", ["word"], [{"use": "template", "texts": ["a {} thing"]}]),
            ("word", ["color"], ["class_name"]),
        )
    }
    requests = [ColumnRequest(name, Target("views", name)) for name in ("named", "said")]
    (batch,) = scan(source, views, requests, batch_size=30)
    colors = [source.fields()["color"].names[source.open()[n]["color"]] for n in range(30)]
    assert batch.columns["named"].values == colors
    assert batch.columns["said"].values == [f"a {color} thing" for color in colors]


def test_labels_without_names_are_refused() -> None:
    with pytest.raises(ValueError, match="label 2 has no name among 2"):
        NAMER.apply(2, None)
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        NAMER.result(TensorType("label", names=("a", "b", "c")))
    with pytest.raises(ValueError, match="another order than the classes: dog, cat"):
        NAMER.result(TensorType("label", names=("dog", "cat")))
    assert NAMER.result(TensorType("label", names=("Katze", "Hund"))).modality == "text"
    with pytest.raises(ValueError, match="the label has none"):
        Transform.accept({"use": "class_name"}).result(TensorType("label"))
    with pytest.raises(ValueError, match="got text"):
        NAMER.result(TensorType("text"))
