"""Rows of clusters, prototypes and classes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.contrastive.local_contrast import LocalContrast
from mmflow_objectives.contrastive.swapped_codes import SwappedCodes
from mmflow_objectives.distance.alignment import Alignment
from mmflow_objectives.distance.uniformity import Uniformity
from mmflow_objectives.prediction.caption_nll import CaptionNLL
from mmflow_objectives.prediction.cross_entropy import CrossEntropy
from mmflow_objectives.prediction.nearest_class_mean import NearestClassMean
from torch.nn.functional import normalize

from mmflow.kernels import assignment, sinkhorn
from mmflow.plugin import Loss, Tokens
from mmflow.plugin.registry import registry
from mmflow.testing import Agreement, Arrays, Held, compute_sum
from mmflow.testing.compute import Input
from tests.oracles.rows import Part, Row, of_losses
from tests.oracles.towers import everywhere, whole


def balanced_codes(file: Arrays) -> Iterator[Agreement]:
    scores = file.input("scores")
    plan = sinkhorn(scores, epsilon=file.number("epsilon"), iterations=int(file.option("iterations")))
    yield Agreement("codes", assignment(scores, None, plan), file.result("codes"))


def swapped(file: Arrays) -> Iterator[Agreement]:
    z, rows = file.input("z"), int(file.option("B"))
    crops = z.view(-1, rows, z.shape[1])
    inputs: dict[str, Input] = {f"crop{v}": crop.contiguous() for v, crop in enumerate(crops)}
    queues: list[str] = []
    if "in_queue" in file and bool(file.input("queue")[0, -1].any()):
        queues = ["queue0", "queue1"]
        inputs |= {name: Held({"value": queue}) for name, queue in zip(queues, file.input("queue"), strict=True)}
    vectors = normalize(file.input("W"), dim=-1)
    prototypes = {"use": "encoder/prototype_vectors", "count": len(vectors), "dim": vectors.shape[1]}
    loss = SwappedCodes.model_validate(
        {"of": [f"crop{v}" for v in range(len(crops))], "prototypes": prototypes, "queues": queues,
         "normalize": False, "temperature": file.number("temperature"), "epsilon": file.number("epsilon"),
         "iterations": int(file.option("iterations"))}
    )  # fmt: skip
    found = compute_sum({"codes": loss}, inputs, weights={"losses.codes.prototypes.vectors": vectors})
    yield Agreement("loss", found.total, file.result("loss"))
    yield Agreement("grad_of_W", found.gradients["prototypes.vectors"], file.result("grad_of_W"))
    for v in range(len(crops)):
        wanted = file.result("grad_of_z").view(crops.shape)[v]
        yield Agreement(f"grad_of_z of crop {v}", found.gradients[f"crop{v}"], wanted)


def episodes(file: Arrays) -> Iterator[Agreement]:
    support, query = file.input("support"), file.input("query")
    way, shots = support.shape[:2]
    each = torch.arange(way).repeat_interleave(shots), torch.arange(way).repeat_interleave(query.shape[1])
    vectors = torch.cat([support.flatten(0, 1), query.flatten(0, 1)])
    inputs: dict[str, Input] = {
        "x": vectors, "labels": torch.cat(each), "support": (torch.arange(len(vectors)) < way * shots).long(),
    }  # fmt: skip
    loss = NearestClassMean.model_validate({"of": ["x"], "labels": "labels", "support": "support"})
    wanted = torch.cat([file.gradient("support").flatten(0, 1), file.gradient("query").flatten(0, 1)])
    gradients: dict[str, str | Part] = {"x": ("query", lambda _: wanted)}
    yield from of_losses(file, {"episode": loss}, inputs, gradients)


def two_modalities(file: Arrays) -> Iterator[Agreement]:
    """Rows of both modalities in one batch, their vectors of length one against class weights of any length."""
    image, text, weights = file.input("img"), file.input("txt"), file.input("W")
    inputs: dict[str, Input] = {
        "x": torch.cat([image, text]), "labels": torch.cat([file.input("y_img"), file.input("y_txt")])
    }  # fmt: skip
    made = {name: registry().get("encoder", name) for name in ("l2norm", "linear")}
    nodes = {
        "unit": made["l2norm"].model_validate({"of": ["x"]}),
        "logits": made["linear"].model_validate({"of": ["unit"], "dim": len(weights), "bias": False}),
    }
    loss = CrossEntropy.model_validate({"of": ["logits"], "labels": "labels"})
    scaled = weights * math.exp(file.number("log_scale"))
    wanted = torch.cat([file.gradient("img"), file.gradient("txt")])
    yield from of_losses(
        file, {"classes": loss}, inputs, {"x": ("img", lambda _: wanted)}, nodes=nodes,
        weights={"encoders.logits.linear.weight": scaled},
    )  # fmt: skip


def gap_terms(file: Arrays) -> Iterator[Agreement]:
    losses: dict[str, Loss] = {
        "clip": InfoNCE.model_validate({"of": ["x", "y"], "temperature": file.number("tau")}),
        "uniformity": Uniformity.model_validate({"of": ["x", "y"]}),
        "alignment": Alignment.model_validate({"of": ["x", "y"]}),
        "cross_uniformity": Uniformity.model_validate({"of": ["x", "y"], "pairs": "between"}),
    }
    yield from of_losses(
        file, losses, whole(file, "x", "y"), {"x": "x", "y": "y"}, value="cuaxu", values={name: name for name in losses}
    )


def own_parts(file: Arrays) -> Iterator[Agreement]:
    parts = file.input("loc")
    tokens = Tokens(parts, file.input("mask") > 0) if "in_mask" in file else everywhere(parts)
    loss = LocalContrast.model_validate(
        {"of": ["glob"], "parts": "loc.tokens", "temperature": file.number("tau"), "normalize": False}
    )
    yield from of_losses(
        file, {"local": loss}, {"glob": file.input("glob"), "loc": tokens}, {"glob": "glob", "loc": "loc"}
    )


def caption_means(file: Arrays) -> Iterator[Agreement]:
    logits, labels = file.input("logits"), file.input("labels")
    classes, share = logits.shape[-1], file.number("label_smoothing")
    loss = CaptionNLL.model_validate(
        {"of": ["logits.tokens"], "targets": "labels.tokens", "shift": 0, "over": "texts",
         # The release gives the share to the other classes, we to all of them.
         "smoothing": share * classes / (classes - 1)}
    )  # fmt: skip
    inputs: dict[str, Input] = {"logits": everywhere(logits), "labels": Tokens(labels.clamp_min(0), labels > 0)}
    yield from of_losses(file, {"caption": loss}, inputs, {}, tolerance=1e-6 if not share else 1e-5)


def pooled_negatives(file: Arrays) -> Iterator[Agreement]:
    first, second = file.number("tau1"), file.number("tau2")
    inputs: dict[str, Input] = {**whole(file, "o", "a", "c")}
    further: dict[str, dict[str, str]] = {"neg_a": {}, "neg_c": {}}
    for name in further:
        if len(file.input(name)):
            inputs[name], further[name] = Held({"value": normalize(file.input(name), dim=-1)}), {"negatives": name}
    forward = {"directions": ["forward"]}
    losses: dict[str, Loss] = {
        "l_ia": InfoNCE.model_validate({"of": ["o", "a"], "temperature": first, "weight": 0.5, **further["neg_a"]}),
        "ac": InfoNCE.model_validate(
            {"of": ["a", "c"], "temperature": second, "weight": 0.25, **forward, **further["neg_c"]}
        ),
        "ca": InfoNCE.model_validate(
            {"of": ["c", "a"], "temperature": second, "weight": 0.25, **forward, **further["neg_a"]}
        ),
        "l_cc": InfoNCE.model_validate(
            {"of": ["c", "c"], "temperature": first, "weight": 0.5, **forward, **further["neg_c"]}
        ),
    }
    yield from of_losses(
        file, losses, inputs, {"o": "o", "a": "a", "c": "c"}, value="total", values={"l_ia": "l_ia", "l_cc": "l_cc"}
    )


RUNS = {
    ("037-swav", "sinkhorn"): (balanced_codes, "loss/swapped_codes"),
    ("037-swav", "train_step_loss"): (swapped, "loss/swapped_codes"),
    ("044-contrastive-gap", "loss_terms"): (gap_terms, "loss/uniformity"),
    ("072-prototypical-networks", "episode_loss"): (episodes, "loss/nearest_class_mean"),
    ("086-triple-contrastive-learning", "local_mutual_information"): (own_parts, "loss/local_contrast"),
    ("088-cappa", "caption_loss"): (caption_means, "loss/caption_nll"),
    ("092-cross-modal-few-shot", "mixed_batch_loss"): (two_modalities, "loss/cross_entropy"),
    ("099-finedefics", "attribute_category_contrast"): (pooled_negatives, "loss/infonce"),
}
ROWS = tuple(Row(folder, stem, run, (what,)) for (folder, stem), (run, what) in RUNS.items())
