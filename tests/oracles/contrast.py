"""Rows of contrastive objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from mmflow_encoders.heads.linear import Linear
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.contrastive.multi_view import MultiView
from mmflow_objectives.contrastive.siglip import SigLIP
from mmflow_objectives.contrastive.soft_infonce import SoftInfoNCE
from mmflow_objectives.contrastive.supcon import SupCon
from mmflow_objectives.contrastive.volume import VolumeContrast
from mmflow_objectives.distance.triplet import Triplet

from mmflow.kernels import gram_volume
from mmflow.model.applications import Same
from mmflow.plugin import Encoding
from mmflow.testing import Agreement, Arrays, Held
from tests.oracles.rows import Part, Row, of_losses

Run = Callable[[Arrays], Iterator[Agreement]]


def symmetric(a: str, b: str, temperature: Callable[[Arrays], float], score: str = "cosine") -> Run:
    """InfoNCE of two inputs in both directions."""

    def run(file: Arrays) -> Iterator[Agreement]:
        loss = InfoNCE.model_validate({"of": [a, b], "temperature": temperature(file), "score": score})
        yield from of_losses(file, {"contrast": loss}, {a: file.input(a), b: file.input(b)}, {a: a, b: b})

    return run


def queue_infonce(file: Arrays) -> Iterator[Agreement]:
    tau = file.number("tau")
    plain = {"in_batch": False, "directions": ["forward"], "temperature": tau}
    losses = {
        "image": InfoNCE.model_validate({"of": ["q_img", "k_txt"], "negatives": "queue_txt", **plain}),
        "text": InfoNCE.model_validate({"of": ["q_txt", "k_img"], "negatives": "queue_img", **plain}),
    }
    inputs = {name: file.input(name) for name in ("q_img", "q_txt", "k_img", "k_txt")}
    queues = {name: Held({"value": file.input(name).T.contiguous()}) for name in ("queue_img", "queue_txt")}
    yield from of_losses(file, losses, {**inputs, **queues}, {"q_img": "q_img", "q_txt": "q_txt"})


def supcon(file: Arrays) -> Iterator[Agreement]:
    tau, base = file.number("tau"), file.number("base_tau")
    loss = SupCon.model_validate(
        {"of": ["features"], "labels": "labels", "temperature": tau, "normalize": False, "weight": tau / base}
    )
    features = Encoding({"pooled": file.input("features")}, axes=("sample", "view"))
    inputs = {"features": features, "labels": file.input("labels")}
    yield from of_losses(file, {"supcon": loss}, inputs, {"features": "features"})


def hardest_triplet(file: Arrays) -> Iterator[Agreement]:
    loss = Triplet.model_validate({"of": ["a", "b"], "margin": 0.2})
    yield from of_losses(file, {"triplet": loss}, {"a": file.input("a"), "b": file.input("b")}, {"a": "a", "b": "b"})


def multi_view(form: str, array: str = "loss") -> Run:
    """Embeddings in the order of the views as an axis of views."""

    def run(file: Arrays) -> Iterator[Agreement]:
        views = int(file.option("views"))
        z = file.input("z")
        copies = z.view(views, -1, z.shape[1]).transpose(0, 1).contiguous()
        loss = MultiView.model_validate({"of": ["z"], "form": form, "temperature": file.number("tau")})
        inputs = {"z": Encoding({"pooled": copies}, axes=("sample", "view"))}
        gradients = {"z": ("z", lambda z: z.view(views, -1, z.shape[1]).transpose(0, 1))} if array == "loss" else {}
        yield from of_losses(file, {"contrast": loss}, inputs, gradients, value=array)

    return run


def weighted_by_similarity(file: Arrays) -> Iterator[Agreement]:
    tau = file.number("tau")
    losses = {
        "soft": SoftInfoNCE.model_validate(
            {"of": ["p", "q"], "form": "linear", "directions": ["forward"], "temperature": tau, "normalize": False}
        ),
        "plain": InfoNCE.model_validate(
            {"of": ["p", "q"], "directions": ["backward"], "temperature": tau, "score": "dot"}
        ),
    }
    yield from of_losses(file, losses, {"p": file.input("p"), "q": file.input("q")}, {"p": "p", "q": "q"})


def volumes(file: Arrays) -> Iterator[Agreement]:
    anchor = file.input("anchor")
    others = [file.input(f"m{k}") for k in range(4) if f"in_m{k}" in file]
    yield Agreement("volume", gram_volume(anchor, others), file.result("volume"))
    if "out_loss" in file:
        names = [f"m{k}" for k in range(len(others))]
        loss = VolumeContrast.model_validate(
            {"of": ["anchor", *names], "temperature": file.number("tau"), "normalize": False,
             "smoothing": file.number("label_smoothing")}
        )  # fmt: skip
        inputs = {"anchor": anchor, **dict(zip(names, others, strict=True))}
        yield from of_losses(file, {"volume": loss}, inputs, {name: name for name in inputs})


def balanced(file: Arrays) -> Iterator[Agreement]:
    """Similarities as vectors of one number: the score of 1 with each is itself."""
    positive, negative = file.input("pos"), file.input("neg")
    adaptive = {
        "use": "adaptive", "of": ["anchor", "pos"], "score": "dot", "base": file.number("tau_0"),
        "gain": file.number("alpha"), "center": file.number("A_0"),
    }  # fmt: skip
    loss = InfoNCE.model_validate(
        {"of": ["anchor", "pos"], "score": "dot", "in_batch": False, "directions": ["forward"], "balanced": True,
         "own_negatives": "neg", "temperature": adaptive}
    )  # fmt: skip
    inputs = {
        "anchor": torch.ones_like(positive), "pos": positive,
        "neg": Encoding({"pooled": negative.unsqueeze(-1)}, axes=("sample", "negative")),
    }  # fmt: skip
    yield from of_losses(file, {"balanced": loss}, inputs, {"pos": "pos", "neg": "neg"})


def sentences(file: Arrays) -> Iterator[Agreement]:
    h = file.input("h")
    inputs = {f"h{k}": h[:, k].contiguous() for k in range(h.shape[1])}
    hard = {"negatives": "h2", "own_weight": file.number("hard_negative_weight")} if h.shape[1] == 3 else {}
    sides, nodes, weights = ["h0", "h1"], {}, {}
    if "in_w" in file:
        sides = ["first", "second"]
        head = Linear.model_validate({"of": ["h0"], "dim": len(file.input("w")), "activation": "tanh"})
        nodes = {"first": head, "second": Same.model_validate({"weights": "first", "of": ["h1"]})}
        weights = {"encoders.first.linear.weight": file.input("w"), "encoders.first.linear.bias": file.input("b")}
    loss = InfoNCE.model_validate(
        {"of": sides, "directions": ["forward"], "temperature": file.number("temperature"), **hard}
    )
    gradients: dict[str, str | Part] = {name: ("h", lambda h, k=k: h[:, k]) for k, name in enumerate(inputs)}
    yield from of_losses(file, {"contrast": loss}, inputs, gradients, nodes=nodes, weights=weights)


def against_a_queue(file: Arrays) -> Iterator[Agreement]:
    loss = InfoNCE.model_validate(
        {"of": ["q", "k"], "score": "dot", "in_batch": False, "directions": ["forward"], "negatives": "queue",
         "temperature": file.number("tau"), "weight": float(len(file.input("q")))}
    )  # fmt: skip
    inputs = {"q": file.input("q"), "k": file.input("k"), "queue": Held({"value": file.input("queue")})}
    yield from of_losses(file, {"contrast": loss}, inputs, {"q": "q", "k": "k"})


def from_the_bank(file: Arrays) -> Iterator[Agreement]:
    """The rows of the old banks that `idx` names are the candidates, the first of them the match."""
    losses, inputs = {}, {}
    for side, other in (("l", "ab"), ("ab", "l")):
        candidates = file.input(f"memory_{other}")[file.input("idx")]
        inputs |= {
            side: file.input(side), f"match_{side}": candidates[:, 0].contiguous(),
            f"others_{side}": Encoding({"pooled": candidates[:, 1:].contiguous()}, axes=("sample", "candidate")),
        }  # fmt: skip
        losses[f"loss_{side}"] = InfoNCE.model_validate(
            {"of": [side, f"match_{side}"], "own_negatives": f"others_{side}", "in_batch": False, "score": "dot",
             "directions": ["forward"], "temperature": file.number("T")}
        )  # fmt: skip
    each = {name: name for name in losses}
    yield from of_losses(file, losses, inputs, {"l": "l", "ab": "ab"}, values=each)


def sigmoid(file: Arrays) -> Iterator[Agreement]:
    loss = SigLIP.model_validate(
        {
            "of": ["left", "right"],
            "score": "dot",
            "temperature": 1 / float(file.input("scale")),
            "bias": float(file.input("bias")),
        }
    )
    inputs = {"left": file.input("left"), "right": file.input("right")}
    yield from of_losses(file, {"siglip": loss}, inputs, {"left": "left", "right": "right"})


ROWS = (
    Row("004-protoclip-pretraining", "clip_loss", symmetric("f", "g", lambda file: 1 / file.number("scale"), "dot"),
        ("loss/infonce",)),
    Row("013-cmc", "bank_softmax", from_the_bank, ("loss/infonce",)),
    Row("025-poly-view", "pvc_geometric", multi_view("geometric"), ("loss/multi_view",)),
    Row("025-poly-view", "pvc_arithmetic_thirdparty", multi_view("arithmetic", "arithmetic"), ("loss/multi_view",)),
    Row("033-brivl", "inbatch_nce", symmetric("a", "b", lambda file: 0.07), ("loss/infonce",)),
    Row("033-brivl", "hardest_triplet", hardest_triplet, ("loss/triplet",)),
    Row("035-lm-supcon", "supcon", supcon, ("loss/supcon",)),
    Row("046-infoxlm", "xlco_loss", against_a_queue, ("loss/infonce",)),
    Row("051-gram", "gram_volume_loss", volumes, ("loss/volume_contrast",)),
    Row("052-macl", "macl", balanced, ("loss/infonce", "value/adaptive")),
    Row("100-cwcl", "cwcl", weighted_by_similarity, ("loss/soft_infonce", "loss/infonce")),
    Row("106-fuselip", "siglip", sigmoid, ("loss/siglip",)),
    Row("109-multi-view-cl", "mv_infonce", multi_view("joint"), ("loss/multi_view",)),
    Row("109-multi-view-cl", "mv_dhel", multi_view("decoupled"), ("loss/multi_view",)),
    Row("109-multi-view-cl", "ntxent_pairwise_average", multi_view("pairwise"), ("loss/multi_view",)),
    Row("109-multi-view-cl", "ntxent_mean_of_others", multi_view("rest"), ("loss/multi_view",)),
    Row("116-simcse", "simcse_loss", sentences, ("loss/infonce",)),
)  # fmt: skip
