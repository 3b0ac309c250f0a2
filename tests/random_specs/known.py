"""Values that no declaration tells, by component and field: names of things, and parts that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmflow.plugin import TensorType
from tests.random_specs.files import Files

Choose = Callable[[Sequence[Any]], Any]
Fields = Mapping[str, TensorType]


def known(
    kind: str, name: str, written: Mapping[str, Any], fields: Fields, files: Files, choose: Choose
) -> dict[str, Any]:  # fmt: skip
    """Values for a component of which `written` is drawn already; `fields` are those of the data that it is about."""
    labels = [field for field, declared in fields.items() if declared.modality == "label" and len(declared.axes) == 1]
    texts = [field for field, declared in fields.items() if declared.modality == "text" and len(declared.axes) == 1]
    if (folder := files.model(f"{kind}/{name}")) is not None:
        return folder
    match f"{kind}/{name}":
        case "source/filter" if labels:
            label = choose(labels)
            return {"where": {label: list(fields[label].names[: max(2, len(fields[label].names) - 1)])}}
        case "source/filter" if texts:
            return {"where": {choose(texts): ["a red circle", "one red circle"]}}
        case "source/split":
            return {"parts": {"train": 0.75, "test": 0.25}, "part": "train"}
        case "source/subset":
            return choose([{"size": 16}, {"share": 0.8}])
        case "source/mix":
            return {"weights": [1.0] * len(written["of"]), "size": 24}
        case "source/noisy" if labels or texts:
            return {"labels": {choose(labels): 0.25}} if labels else {"pairs": {choose(texts): 0.25}}
        case "source/sentences" | "source/digits":
            return {"split": choose(["train", "test"])}
        case "source/shapes":
            several = {"colors": ["red", "green", "blue", "white"], "shapes": ["circle", "square", "ring"]}
            return {field: value for field, value in several.items() if field in written} | {"objects": [1, 2]}
        case "value/step":
            return choose([{"places": [0.5], "every": None}, {"every": {"steps": 1}, "places": []}])
        case "constraint/bounds":
            return {"min": -1.0, "max": 1.0}
        case "transform/torchvision":
            return choose(
                [{"name": "RandomPerspective", "options": {"distortion_scale": 0.3}}, {"name": "RandomInvert"}]
            )
        case "transform/replace_words":
            return {"table": {"red": ["crimson"], "the": ["a", "that"]}}
        case "transform/template":
            return {"texts": ["an image of {}", "{}"]}
        case "encoder/timm":
            return {"config": {"architecture": "test_vit", "depth": 2, "patch_size": 8}, "size": 24, "hub": None}
        case "service/scripted":
            return {"rules": [{"when": "color of (\\w+)", "answer": "\\1"}], "otherwise": choose(["yes", "no", "7"])}
        case "stage/zero_shot":
            return {"prompts": ["a {}", "{}"]}
        case "stage/calibration":
            return {"prompt": "a {}"}
        case "stage/ask":
            of = written["of"] if isinstance(written["of"], list) else [written["of"]]
            return {"prompt": "The color of " + " ".join(f"{{{one}}}" for one in of), "read": "text", "choices": []}
        case "stage/mixed_radix":
            return {"base": 10}
    return {}


TOGETHER: Mapping[str, Mapping[str, str]] = {
    "moment_retrieval": {"found": "found", "truth": "moment"},
    "boundary_detection": {"found": "cut", "truth": "gaps"},
    "detection": {"found": "detected", "truth": "boxes"},
    "tracking": {"found": "tracks", "truth": "tracks"},
    "pair_classification": {"labels": "same"},
    "yes_no": {"answers": "words", "labels": "same"},
    "multi_label_probe": {"labels": "tags"},
    "open_set": {"labels": "kind", "test": "other"},
    "category_discovery": {"labels": "kind", "test": "other"},
    "select": {"keep": "same"},
}
"""Fields of the data on disk that a stage measures against each other: no declaration says so."""


def together(use: str, fields: Fields, trains: bool, choose: Choose) -> dict[str, Any] | None:
    """What belongs together in a stage, where the spec has it; None where it has not."""
    if use == "repeat":
        fit = {"use": "train", "start": "carry.model", "data": "one", "steps": 1, "batch_size": 8}
        rounds = {"times": 2, "carry": {"model": "train"}, "stages": {"fit": fit}, "next": {"model": "fit"}}
        return rounds if trains else None
    found = TOGETHER.get(use, {})
    return {**found} if all(field in fields or field == "other" for field in found.values()) else None
