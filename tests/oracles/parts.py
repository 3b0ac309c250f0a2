"""Rows of memories, constraints, adapters and losses of pairs of views."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmflow_memories.prototypes import Prototypes
from mmflow_memories.queue import Queue
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.contrastive.multi_view import MultiView
from mmflow_objectives.prediction.cross_entropy import CrossEntropy
from mmflow_optim.constraints.simplex_rows import SimplexRows
from torch import Tensor
from torch.nn.functional import normalize

from mmflow.kernels import assignment, sinkhorn
from mmflow.plugin import Encoding, TensorType
from mmflow.plugin.registry import registry
from mmflow.testing import Agreement, Arrays, compute_sum
from mmflow.testing.compute import Input
from tests.oracles.rows import Row, of_losses
from tests.oracles.towers import whole


def two_views(file: Arrays) -> Iterator[Agreement]:
    z = file.input("z")
    copies = z.view(2, -1, z.shape[1]).transpose(0, 1).contiguous()
    loss = MultiView.model_validate({"of": ["z"], "form": "pairwise", "temperature": file.number("temperature")})
    inputs: dict[str, Input] = {"z": Encoding({"pooled": copies}, axes=("sample", "view"))}
    yield from of_losses(
        file, {"pair": loss}, inputs, {"z": ("z", lambda g: g.view(2, -1, g.shape[1]).transpose(0, 1))}
    )


def scripts(file: Arrays) -> Iterator[Agreement]:
    """Plain pairs; equal labels as matches inside the logarithm; or candidates that a row has for itself alone."""
    both = {"of": ["video", "text"], "temperature": 1 / file.number("scale"), "weight": 2.0}
    inputs: dict[str, Input] = {**whole(file, "video", "text", "labels")}
    match file.option("mode"):
        case "masked":
            options = {"labels": "labels", "positives": "inside"}
        case "negatives":
            options = {"own_negatives": "all_text", "in_batch": False, "directions": ["forward"]}
            inputs["all_text"] = Encoding({"pooled": file.input("all_text")}, axes=("sample", "candidate"))
        case _:
            options = {}
    loss = InfoNCE.model_validate({**both, **options})
    # The release adds 1e-6 to the lengths of vectors.
    yield from of_losses(file, {"contrast": loss}, inputs, {"video": "video", "text": "text"}, tolerance=1e-5)


def plan_of_scores(file: Arrays) -> Iterator[Agreement]:
    scores = file.input("scores")
    found = sinkhorn(scores, epsilon=file.number("epsilon"), iterations=int(file.option("iterations")))
    plan = assignment(scores, None, found)
    yield Agreement("plan", plan, file.result("plan"))
    # Entries that are equal in the file stand in any order in ours.
    best = plan.gather(1, file.result("argmax").long()[:, None]).squeeze(1)
    yield Agreement("argmax", best, plan.amax(1))


def simplex(file: Arrays) -> Iterator[Agreement]:
    leaf = file.input("v").requires_grad_()
    found = SimplexRows().project(leaf)
    yield Agreement("w", found.detach(), file.result("w"))
    slopes = torch.linspace(-1, 1, leaf.numel(), dtype=leaf.dtype).view_as(leaf)
    (gradient,) = torch.autograd.grad((found * slopes).sum(), leaf)
    yield Agreement("grad_v", gradient, file.gradient("v"))


def enqueued(file: Arrays) -> Iterator[Agreement]:
    rows = file.input("queue")
    queue = Queue.model_validate({"size": len(rows), "of": {"x": "x"}})
    column = {"x": TensorType("vector", size=(rows.shape[1],))}
    state = queue.initial(column, generator=torch.Generator())
    buffer = next(name for name, value in state.items() if value.ndim == 2)
    state = {**state, buffer: rows, "cursor": torch.tensor(int(file.option("ptr")))}
    pointers: list[Tensor] = []
    for keys in file.input("keys"):
        state = queue.update(state, {"x": keys})
        pointers.append(state["cursor"])
    yield Agreement("queue_after", state[buffer], file.result("queue_after"))
    yield Agreement("pointers", torch.stack(pointers), file.result("pointers"))
    full = torch.tensor(int(state["filled"]) == len(rows))
    yield Agreement("ready", full, file.result("ready"))


def moved_prototypes(file: Arrays) -> Iterator[Agreement]:
    z, before = file.input("z"), file.input("prototypes")
    memory = Prototypes.model_validate(
        {"count": len(before), "of": {"x": "x"}, "labels": "y", "one_by_one": True, "normalize": True}
    )
    generator = torch.Generator()
    state = memory.initial({"x": TensorType("vector", size=(z.shape[1],))}, generator=generator)
    state = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    buffer = next(name for name, value in state.items() if value.shape == before.shape)
    state = {**state, buffer: before, "seen": torch.ones_like(state["seen"])}
    after = memory.update(state, {"x": z}, file.input("y"), file.number("proto_m"), generator)
    yield Agreement("prototypes_after", after[buffer], file.result("prototypes_after"))


def adapted(file: Arrays) -> Iterator[Agreement]:
    """Class texts of length one are the rows of a linear map; the features come through the adapter."""
    made = {name: registry().get("encoder", name) for name in ("adapter", "l2norm", "linear")}
    features, classes = file.input("f"), normalize(file.input("W"), dim=-1)
    reduction = features.shape[1] // len(file.input("w1"))
    nodes = {
        "adapted": made["adapter"].model_validate({"of": ["f"], "reduction": reduction, "ratio": file.number("ratio")}),
        "unit": made["l2norm"].model_validate({"of": ["adapted"]}),
        "logits": made["linear"].model_validate({"of": ["unit"], "dim": len(classes), "bias": False}),
    }
    weights = {
        "encoders.adapted.down.weight": file.input("w1"), "encoders.adapted.up.weight": file.input("w2"),
        "encoders.logits.linear.weight": classes * file.number("logit_scale"),
    }  # fmt: skip
    loss = CrossEntropy.model_validate({"of": ["logits"], "labels": "y"})
    found = compute_sum({"classes": loss}, {"f": features, "y": file.input("y")}, nodes=nodes, weights=weights)
    yield Agreement("loss", found.total, file.result("loss"))
    for name, array in (("f", "f"), ("adapted.down.weight", "w1"), ("adapted.up.weight", "w2")):
        yield Agreement(f"grad_{array}", found.gradients[name], file.gradient(array))


RUNS = {
    ("001-capro", "prototype_update"): (moved_prototypes, "memory/prototypes"),
    ("029-gpc", "info_nce"): (two_views, "loss/multi_view"),
    ("046-infoxlm", "queue_update"): (enqueued, "memory/queue"),
    ("058-weaksvr", "video_text_info_loss"): (scripts, "loss/infonce"),
    ("059-clip-adapter", "adapter_logits"): (adapted, "encoder/adapter"),
    ("083-cluspro", "sinkhorn_assignment"): (plan_of_scores, "loss/swapped_codes"),
    ("093-scale-proto-seg", "simplex_projection"): (simplex, "constraint/simplex_rows"),
}
ROWS = tuple(Row(folder, stem, run, (what,)) for (folder, stem), (run, what) in RUNS.items())
