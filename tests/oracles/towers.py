"""Rows of vision-language objectives that are sums of several losses."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.contrastive.soft_infonce import SoftInfoNCE
from mmflow_objectives.distance.alignment import Alignment
from mmflow_objectives.distance.cosine_distance import CosineDistance
from mmflow_objectives.distance.uniformity import Uniformity
from mmflow_objectives.prediction.binary_cross_entropy import BinaryCrossEntropy
from mmflow_objectives.prediction.caption_nll import CaptionNLL
from mmflow_objectives.prediction.cross_entropy import CrossEntropy
from mmflow_objectives.redundancy.cross_correlation import CrossCorrelation
from mmflow_scores.maxsim import MaxSim
from torch import Tensor

from mmflow.plugin import Encoding, Loss, Tokens
from mmflow.testing import Agreement, Arrays
from mmflow.testing.compute import Input
from tests.oracles.rows import Part, Row, of_losses


def whole(file: Arrays, *names: str) -> dict[str, Tensor]:
    return {name: file.input(name) for name in names}


def everywhere(values: Tensor) -> Tokens:
    """Sequences [N, L, D] without padding."""
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))


def align_uniform(file: Arrays) -> Iterator[Agreement]:
    align, uniform = file.number("w_align"), file.number("w_uniform")
    plain = {"t": file.number("t"), "normalize": False, "weight": uniform / 2}
    losses = {
        "align": Alignment.model_validate(
            {"of": ["x", "y"], "power": file.number("alpha"), "normalize": False, "weight": align}
        ),
        "uniform_x": Uniformity.model_validate({"of": ["x"], **plain}),
        "uniform_y": Uniformity.model_validate({"of": ["y"], **plain}),
    }
    each = {name: name for name in losses}
    yield from of_losses(file, losses, whole(file, "x", "y"), {"x": "x", "y": "y"}, values=each)


def late_interaction(file: Arrays) -> Iterator[Agreement]:
    loss = InfoNCE.model_validate({"of": ["V", "T"], "score": "maxsim", "temperature": file.number("tau")})
    inputs = {name: everywhere(file.input(name)) for name in "VT"}
    yield from of_losses(file, {"contrast": loss}, inputs, {"V": "V", "T": "T"})


def masked_maxima(file: Arrays) -> Iterator[Agreement]:
    a, b = (Encoding({"tokens": Tokens(file.input(name), file.input(f"pad_{name}") == 0)}) for name in ("V", "T"))
    yield Agreement("s_V", MaxSim().blocks(a, b)[0], file.result("s_V"))


def captions_and_contrast(file: Arrays) -> Iterator[Agreement]:
    labels = file.input("labels")
    losses = {
        "contrastive": InfoNCE.model_validate(
            {
                "of": ["image", "text"],
                "score": "dot",
                "temperature": 1 / file.number("scale"),
                "weight": file.number("clip_weight"),
            }
        ),
        "caption": CaptionNLL.model_validate(
            {"of": ["logits.tokens"], "targets": "labels.tokens", "shift": 0, "weight": file.number("caption_weight")}
        ),
    }
    logits = file.input("logits")
    inputs = {
        **whole(file, "image", "text"), "logits": everywhere(logits),
        "labels": Tokens(labels, labels != int(file.option("pad_id"))),
    }  # fmt: skip
    yield from of_losses(file, losses, inputs, {"image": "image", "text": "text", "logits": "logits"})


def multi_label(file: Arrays) -> Iterator[Agreement]:
    loss = BinaryCrossEntropy.model_validate({"of": ["logits"], "labels": "target"})
    yield from of_losses(file, {"bce": loss}, whole(file, "logits", "target"), {"logits": "logits"})


def masked_words(file: Arrays) -> Iterator[Agreement]:
    sides = ("left", "right")
    losses = {
        side: CrossEntropy.model_validate({"of": [f"{side}_logits"], "labels": f"{side}_labels"}) for side in sides
    }
    inputs = whole(file, *(f"{side}_{what}" for side in sides for what in ("logits", "labels")))
    yield from of_losses(file, losses, inputs, {f"{side}_logits": f"{side}_logits" for side in sides})


def predicted_views(file: Arrays) -> Iterator[Agreement]:
    """Every frame of one group with every frame of the other, each predicting the other."""
    frames = int(file.option("frames"))
    names, weight = ("p1", "z1", "p2", "z2"), file.number("weight")
    inputs: dict[str, Input] = {}
    gradients: dict[str, str | Part] = {}
    for name in names:
        values = file.input(name)
        for k in range(frames):
            inputs[f"{name}_{k}"] = values.view(-1, frames, values.shape[1])[:, k].contiguous()
            gradients[f"{name}_{k}"] = (name, lambda g, k=k: g.view(-1, frames, g.shape[1])[:, k])
    losses = {
        f"{p}{a}{b}": CosineDistance.model_validate({"of": [f"{p}_{a}", f"{z}_{b}"], "weight": weight / frames})
        for p, z in (("p1", "z2"), ("p2", "z1"))
        for a in range(frames)
        for b in range(frames)
    }
    yield from of_losses(file, losses, inputs, gradients)


def contrast_terms(
    file: Arrays, local: int, factor: float
) -> tuple[dict[str, Loss], dict[str, Input], dict[str, str | Part]]:
    """The losses of global and local projections: one global pair, every local image with every local text."""
    inputs: dict[str, Input] = {**whole(file, "z_image_global", "z_text_global")}
    gradients: dict[str, str | Part] = {name: name for name in inputs}
    for side in ("image", "text"):
        for k in range(local):
            inputs[f"h_{side}_{k}"] = file.input(f"h_{side}_local")[k]
            gradients[f"h_{side}_{k}"] = (f"h_{side}_local", lambda g, k=k: g[k])
    share = factor / (1 + local)
    losses: dict[str, Loss] = {
        "global": InfoNCE.model_validate(
            {"of": ["z_image_global", "z_text_global"], "temperature": 1 / file.number("logit_scale"), "weight": share}
        )
    }
    for a in range(local):
        for b in range(local):
            losses[f"local{a}{b}"] = InfoNCE.model_validate(
                {"of": [f"h_image_{a}", f"h_text_{b}"], "temperature": 1 / file.number("h_logit_scale"),
                 "smoothing": file.number("label_smoothing"), "weight": share / local}
            )  # fmt: skip
    return losses, inputs, gradients


def totals(file: Arrays) -> tuple[int, float]:
    """Augmentations a side, and the factor of the contrastive part."""
    return len(file.input("h_image_local")), 2.0 if file.option("loss_avg_or_sum") == "sum" else 1.0


def global_and_local(file: Arrays) -> Iterator[Agreement]:
    local, factor = totals(file)
    yield from of_losses(file, *contrast_terms(file, local, factor))


def with_correlation(file: Arrays) -> Iterator[Agreement]:
    local, factor = totals(file)
    losses, inputs, gradients = contrast_terms(file, local, factor)
    pairs = [("v_image", "v_text"), *((f"v_image_{a}", f"v_text_{b}") for a in range(local) for b in range(local))]
    add_views(file, "v", local, inputs, gradients)
    losses |= {
        f"{a}{b}": CrossCorrelation.model_validate({"of": [a, b], "standardize": False, "weight": 0.025 / len(pairs)})
        for a, b in pairs
    }
    yield from of_losses(file, losses, inputs, gradients)


def with_prediction(file: Arrays) -> Iterator[Agreement]:
    local, factor = totals(file)
    losses, inputs, gradients = contrast_terms(file, local, factor)
    for name in "pv":
        add_views(file, name, local, inputs, gradients)
    places = ["", *(f"_{k}" for k in range(local))]
    pairs = [(a, b) for a in places for b in places if bool(a) == bool(b)]
    weight = 2 / (2 * len(pairs))
    for a, b in pairs:
        for p, v in ((f"p_image{a}", f"v_text{b}"), (f"p_text{b}", f"v_image{a}")):
            losses[f"{p}{v}"] = CosineDistance.model_validate({"of": [p, v], "weight": weight})
    yield from of_losses(file, losses, inputs, gradients)


def with_codes(file: Arrays) -> Iterator[Agreement]:
    local, factor = totals(file)
    losses, inputs, gradients = contrast_terms(file, local, factor)
    temperature = 1 / file.number("h_logit_scale")
    for a in range(local):
        for b in range(local):
            losses[f"codes{a}{b}"] = SoftInfoNCE.model_validate(
                {"of": [f"h_image_{a}", f"h_text_{b}"], "teacher": [f"h_image_{1 - a}", f"h_text_{1 - b}"],
                 "form": "balanced", "temperature": temperature, "teacher_temperature": 0.05,
                 "weight": 0.2 / local**2}
            )  # fmt: skip
    yield from of_losses(file, losses, inputs, gradients)


def add_views(file: Arrays, name: str, local: int, inputs: dict[str, Input], gradients: dict[str, str | Part]) -> None:
    for side in ("image", "text"):
        whole_name = f"{name}_{side}"
        inputs[whole_name], gradients[whole_name] = file.input(whole_name), whole_name
        for k in range(local):
            inputs[f"{whole_name}_{k}"] = file.input(f"{whole_name}_local")[k]
            gradients[f"{whole_name}_{k}"] = (f"{whole_name}_local", lambda g, k=k: g[k])


RUNS = {
    ("012-catlip", "bce_batch_mean"): (multi_label, "loss/binary_cross_entropy"),
    ("041-vfs", "simsiam_pair_loss"): (predicted_views, "loss/cosine_distance"),
    ("082-align-uniform", "align_uniform"): (align_uniform, "loss/alignment"),
    ("084-clip-rocket", "cl2l"): (global_and_local, "loss/infonce"),
    ("084-clip-rocket", "barlip"): (with_correlation, "loss/cross_correlation"),
    ("084-clip-rocket", "siamlip"): (with_prediction, "loss/cosine_distance"),
    ("084-clip-rocket", "swalip"): (with_codes, "loss/soft_infonce"),
    ("085-filip", "late_interaction"): (late_interaction, "score/maxsim"),
    ("085-filip", "masked_max_mean"): (masked_maxima, "score/maxsim"),
    ("090-coca", "coca_loss"): (captions_and_contrast, "loss/caption_nll"),
    ("106-fuselip", "mlm_loss"): (masked_words, "loss/cross_entropy"),
}
ROWS = tuple(Row(folder, stem, run, (what,)) for (folder, stem), (run, what) in RUNS.items())
