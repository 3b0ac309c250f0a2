"""Values that no declaration tells, by component and field: names of things, and parts that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmflow.plugin import TensorType

Choose = Callable[[Sequence[Any]], Any]
Fields = Mapping[str, TensorType]


def known(kind: str, name: str, written: Mapping[str, Any], fields: Fields, choose: Choose) -> dict[str, Any]:
    """Values for a component of which `written` is drawn already; `fields` are those that it works on."""
    labels = [field for field, declared in fields.items() if declared.modality == "label" and len(declared.axes) == 1]
    texts = [field for field, declared in fields.items() if declared.modality == "text" and len(declared.axes) == 1]
    match f"{kind}/{name}":
        case "source/filter":
            if not labels:
                return {"where": {choose(texts): ["a red circle", "one red circle"]}}
            label = choose(labels)
            return {"where": {label: list(fields[label].names[: max(2, len(fields[label].names) - 1)])}}
        case "source/split":
            return {"parts": {"train": 0.75, "test": 0.25}, "part": "train"}
        case "source/subset":
            return choose([{"size": 16}, {"share": 0.8}])
        case "source/mix":
            return {"weights": [1.0] * len(written["of"]), "size": 24}
        case "source/noisy":
            return {"labels": {choose(labels): 0.25}} if labels else {"pairs": {choose(texts): 0.25}}
        case "source/sentences" | "source/digits":
            return {"split": choose(["train", "test"])}
        case "source/shapes":
            several = {"colors": ["red", "green", "blue", "white"], "shapes": ["circle", "square", "ring"]}
            return {name: value for name, value in several.items() if name in written}
        case "value/step":
            return choose([{"places": [0.5], "every": None}, {"every": {"steps": 1}, "places": []}])
        case "transform/torchvision":
            return choose(
                [{"name": "RandomPerspective", "options": {"distortion_scale": 0.3}}, {"name": "RandomInvert"}]
            )
        case "transform/replace_words":
            return {"table": {"red": ["crimson"], "the": ["a", "that"]}}
        case "transform/template":
            return {"texts": ["an image of {}", "{}"]}
        case "stage/zero_shot" | "stage/calibration":
            return {"prompts": ["a {}", "{}"]} if name == "zero_shot" else {"prompt": "a {}"}
    return {}


TOGETHER: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "stage/moment_retrieval": [{"found": "found", "truth": "moment"}],
    "stage/boundary_detection": [{"found": "cut", "truth": "gaps"}],
    "stage/detection": [{"found": "detected", "truth": "boxes"}],
    "stage/tracking": [{"found": "tracks", "truth": "tracks"}],
    "stage/pair_classification": [{"labels": "same"}],
    "stage/yes_no": [{"answers": "words", "labels": "same"}],
    "stage/multi_label_probe": [{"labels": "tags"}],
    "stage/open_set": [{"labels": "kind", "test": "other"}],
    "stage/category_discovery": [{"labels": "kind", "test": "other"}],
}
"""Fields of the files' data that an evaluation measures against each other: no declaration says so."""


def together(kind: str, name: str, fields: Fields, choose: Choose) -> dict[str, Any] | None:
    """References that belong together, where the data have them; None where they have not."""
    sets = TOGETHER.get(f"{kind}/{name}")
    if sets is None:
        return {}
    found = [one for one in sets if all(field in fields or field == "other" for field in one.values())]
    return dict(choose(found)) if found else None
