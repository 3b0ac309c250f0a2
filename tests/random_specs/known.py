"""Values that no declaration tells, by component and field: names of things, and parts that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmflow.plugin import TensorType
from tests.random_specs.drawing import Unfit
from tests.random_specs.files import Files

Choose = Callable[[Sequence[Any]], Any]
Fields = Mapping[str, TensorType]


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SOUNDS = {
    **SMALL, "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer",
}  # fmt: skip
PICTURES_OF_CLIP = {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
TEXTS_OF_CLIP = {"context_length": 16, "vocab_size": 49_408, "width": 16, "heads": 2, "layers": 2}
IMAGES: Mapping[str, Any] = {"config": {"model_type": "vit", **SMALL, "image_size": 16, "patch_size": 8}}
TEXTS: Mapping[str, Any] = {
    "config": {"model_type": "bert", **SMALL, "vocab_size": 300, "max_position_embeddings": 32},
    "tokenizer": "byte", "length": 16,
}  # fmt: skip
MODELS: Mapping[str, Mapping[str, Any]] = {
    "image": IMAGES, "video": IMAGES, "text": TEXTS,
    "audio": {"config": {"model_type": "wav2vec2", **SOUNDS}, "rate": 4000},
}  # fmt: skip
"""Models of the library `transformers` by the modality that they read."""
UNNAMED: Mapping[str, Any] = {"hub": None, "revision": None}


def _modality(written: Mapping[str, Any], fields: Fields) -> str:
    """The modality of the input; an image for a view."""
    of = written.get("of", "")
    declared = fields.get(str(of[0] if isinstance(of, list) else of).split(".")[0])
    return declared.modality if declared is not None and declared.modality in (*MODELS, "series") else "image"


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
            return choose([{"size": 16, "share": None}, {"size": None, "share": 0.8}])
        case "source/mix":
            return {"weights": [1.0] * len(written["of"]), "size": 24}
        case "source/noisy" if labels or texts:
            return {"labels": {choose(labels): 0.25}} if labels else {"pairs": {choose(texts): 0.25}}
        case "source/sentences" | "source/digits":
            return {"split": choose(["train", "test"])}
        case "source/shapes":
            several = {"colors": ["red", "green", "blue", "white"], "shapes": ["circle", "square", "ring"]}
            own = {field: value for field, value in several.items() if field in written}
            return own | {"objects": choose([[1, 2], [2, 2]])}
        case "source/motions":
            return {"frames": 8}
        case "source/recorded":
            return {"types": {"image": {"modality": "image", "size": [8, 8, 3], "dtype": "uint8"}}}
        case "sampler/group_batches":
            return {"drop_last": choose([False] * 9 + [True])}
        case "transform/normalize":
            return choose([{"mean": [0.5], "std": [0.25]}, {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.2]}])
        case "value/step":
            return choose([{"places": [0.5], "every": None}, {"every": {"steps": 1}, "places": []}])
        case "loss/swapped_codes" if "prototypes" in written:
            return {"prototypes": {"use": "encoder/prototype_vectors", "count": 5, "dim": choose([8, 8, 8, 16, 4])}}
        case "constraint/bounds":
            return {"min": -1.0, "max": 1.0}
        case "transform/torchvision":
            return choose(
                [{"name": "RandomPerspective", "options": {"distortion_scale": 0.3}}, {"name": "RandomInvert"}]
            )
        case "transform/replace_words":
            return {"table": {"red": ["crimson"], "the": ["a", "that"]}}
        case "transform/token_ids":
            return {"tokenizer": "byte"}
        case "transform/message":
            return {"text": ""}
        case "transform/template":
            return {"texts": ["an image of {}", "{}"]}
        case "transform/random_resized_crop":
            return {"size": 16, "scale": [0.5, 1.0], "ratio": [0.75, 1.25]}
        case "transform/log_mel":
            return {"rate": next((one.rate for one in fields.values() if one.rate is not None), 4000)}
        case "encoder/lookup":
            # As many as rows, and classes, have numbers.
            return {"count": 64}
        case "stage/train" if written.get("precision", "float32") != "float32":
            return {"precision": choose(["float32", "float32", "bfloat16"])}
        case "encoder/open_clip":
            config = {"embed_dim": 8, "vision_cfg": PICTURES_OF_CLIP, "text_cfg": TEXTS_OF_CLIP}
            return {"config": config, "tower": "text" if _modality(written, fields) == "text" else "image"} | UNNAMED
        case "encoder/transformers" if _modality(written, fields) == "series":
            raise Unfit("the models of sounds here are longer than the series")
        case "encoder/transformers":
            return {
                "tokenizer": None,
                **MODELS[_modality(written, fields)],
                **UNNAMED,
                "tower": None,
                "pool": choose(["mean", "library"]),
            }
        case "encoder/transformers_video":
            clips = {**SMALL, "image_size": 16, "patch_size": 8, "num_frames": 8, "tubelet_size": 2}
            return {"config": {"model_type": "videomae", **clips}, **UNNAMED}
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
            prompt = "The color of " + " ".join(f"{{{one}}}" for one in of)
            return {"prompt": prompt, "read": "text", "choices": choose([[], ["yes", "no", "7"]])}
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
