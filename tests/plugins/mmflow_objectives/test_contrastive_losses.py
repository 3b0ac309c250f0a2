"""The contrastive losses against their formulas, written out with loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from mmflow_objectives.contrastive.infonce import InfoNCE
from mmflow_objectives.contrastive.siglip import SigLIP
from mmflow_objectives.contrastive.supcon import SupCon
from pydantic import ValidationError
from torch import Tensor

from mmflow.plugin import ComponentError, Encoding, Tokens

DOUBLE = {"dtype": torch.float64}


def leaf(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE).requires_grad_()


def similarity(score: str, a: Tensor, b: Tensor) -> Tensor:
    """One number for two vectors."""
    if score == "dot":
        return (a * b).sum()
    if score == "cosine":
        return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())
    assert score == "neg_sq_euclid"
    return -(a - b).square().sum()


def matrix(score: str, a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([torch.stack([similarity(score, x, y) for y in b]) for x in a])


def softmax_loss(scores: list[Tensor], own: int, smoothing: float) -> Tensor:
    """Cross-entropy of one row's scores with its own place."""
    probabilities = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
    target = torch.full((len(scores),), smoothing / len(scores), **DOUBLE)
    target[own] += 1 - smoothing
    return -(target * probabilities.log()).sum()


def agree(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    """Values and gradients of a weighted sum agree to double precision."""
    weights = torch.linspace(0.5, 1.5, found.numel(), **DOUBLE).view(found.shape)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    mine = torch.autograd.grad((found * weights).sum(), leaves, retain_graph=True)
    theirs = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("score", ["cosine", "dot", "neg_sq_euclid"])
@pytest.mark.parametrize("directions", [["forward", "backward"], ["forward"], ["backward"]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_infonce_is_the_cross_entropy_of_each_match(score: str, directions: list[str], smoothing: float) -> None:
    a, b, temperature = leaf(7, 3, seed=0), leaf(7, 3, seed=1), torch.tensor(0.4, **DOUBLE).requires_grad_()
    loss = InfoNCE(of=("image", "text"), score=score, directions=tuple(directions), smoothing=smoothing)  # type: ignore[arg-type]
    found = loss.compute(Encoding({"pooled": a}), Encoding({"pooled": b}), loss.score, temperature, None)
    s = matrix(score, a, b) / temperature
    rows = []
    for i in range(7):
        values = []
        if "forward" in directions:
            values.append(softmax_loss(list(s[i]), i, smoothing))
        if "backward" in directions:
            values.append(softmax_loss(list(s[:, i]), i, smoothing))
        rows.append(torch.stack(values).mean())
    agree(found, torch.stack(rows), a, b, temperature)


@pytest.mark.parametrize("score", ["cosine", "neg_sq_euclid"])
@pytest.mark.parametrize("in_batch", [True, False])
def test_a_queue_adds_candidates_to_the_forward_direction(score: str, in_batch: bool) -> None:
    a, b, queue = leaf(5, 4, seed=2), leaf(5, 4, seed=3), leaf(6, 4, seed=4).detach()
    present = torch.tensor([True, True, False, True, True, False])
    directions = ("forward", "backward") if in_batch else ("forward",)
    loss = InfoNCE(
        of=("image", "text"),
        score=score,
        negatives="queue",
        in_batch=in_batch,
        directions=directions,  # type: ignore[arg-type]
    )
    memory = Encoding({"pooled": queue}, ("entry",), present)
    found = loss.compute(Encoding({"pooled": a}), Encoding({"pooled": b}), loss.score, 0.5, memory)
    s, extra = matrix(score, a, b) / 0.5, matrix(score, a, queue[present]) / 0.5
    rows = []
    for i in range(5):
        own = list(s[i]) if in_batch else [s[i, i]]
        value = softmax_loss([*own, *extra[i]], i if in_batch else 0, 0.0)
        rows.append((value + softmax_loss(list(s[:, i]), i, 0.0)) / 2 if in_batch else value)
    agree(found, torch.stack(rows), a, b)


def test_a_queue_that_is_not_ready_adds_nothing() -> None:
    a, b = Encoding({"pooled": leaf(5, 4, seed=5)}), Encoding({"pooled": leaf(5, 4, seed=6)})
    with_queue = InfoNCE(of=("image", "text"), negatives="queue")  # type: ignore[arg-type]
    without = InfoNCE(of=("image", "text"))  # type: ignore[arg-type]
    torch.testing.assert_close(
        with_queue.compute(a, b, with_queue.score, 0.1, None), without.compute(a, b, without.score, 0.1, None)
    )


def test_known_values_of_infonce_with_a_queue() -> None:
    """K columns orthogonal to the query, a match of similarity one: log(1 + K exp(-1 / t)) (He et al., 2020)."""
    query = torch.zeros(1, 4, **DOUBLE)
    query[0, 0] = 1
    queue = torch.zeros(9600, 4, **DOUBLE)
    queue[:, 1] = 1
    loss = InfoNCE(of=("a", "b"), negatives="queue", in_batch=False, directions=("forward",))  # type: ignore[arg-type]
    own = Encoding({"pooled": query})
    found = loss.compute(own, own, loss.score, 0.07, Encoding({"pooled": queue}, ("entry",)))
    assert found.item() == pytest.approx(math.log1p(9600 * math.exp(-1 / 0.07)), rel=1e-9)


def test_several_negatives_a_row_are_candidates_of_every_row() -> None:
    a, b, hard = leaf(3, 4, seed=7), leaf(3, 4, seed=8), leaf(3, 2, 4, seed=9)
    loss = InfoNCE(of=("a", "b"), negatives="hard", directions=("forward",))  # type: ignore[arg-type]
    negatives = Encoding({"pooled": hard}, ("sample", "candidate"))
    found = loss.compute(Encoding({"pooled": a}), Encoding({"pooled": b}), loss.score, 0.2, negatives)
    s = torch.cat([matrix("cosine", a, b), matrix("cosine", a, hard.reshape(6, 4))], 1) / 0.2
    agree(found, torch.stack([softmax_loss(list(s[i]), i, 0.0) for i in range(3)]), a, b, hard)


def late(x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
    """Mean over the tokens of x of the best cosine with a token of y."""
    best = []
    for p in range(len(x)):
        if x_mask[p]:
            best.append(
                torch.stack([similarity("cosine", x[p], y[t]) for t in range(len(y)) if y_mask[t]]).max()
            )  # fmt: skip
    return torch.stack(best).mean()


def test_infonce_takes_each_direction_of_late_interaction_on_its_own() -> None:
    """FILIP: images are compared by s_image, texts by s_text; the two are not averaged before the softmax."""
    x, y = leaf(4, 5, 3, seed=10), leaf(4, 3, 3, seed=11)
    x_mask = torch.ones(4, 5, dtype=torch.bool)
    y_mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0]], dtype=torch.bool)
    loss = InfoNCE(of=("image", "text"), score="maxsim")  # type: ignore[arg-type]
    a, b = Encoding({"tokens": Tokens(x, x_mask)}), Encoding({"tokens": Tokens(y, y_mask)})
    found = loss.compute(a, b, loss.score, 0.3, None)
    forward = torch.stack([torch.stack([late(x[i], x_mask[i], y[j], y_mask[j]) for j in range(4)]) for i in range(4)])
    backward = torch.stack([torch.stack([late(y[j], y_mask[j], x[i], x_mask[i]) for i in range(4)]) for j in range(4)])
    rows = [
        (softmax_loss(list(forward[i] / 0.3), i, 0.0) + softmax_loss(list(backward[i] / 0.3), i, 0.0)) / 2
        for i in range(4)
    ]
    agree(found, torch.stack(rows), x, y)


@pytest.mark.parametrize("score", ["cosine", "dot", "neg_sq_euclid"])
@pytest.mark.parametrize("queued", [False, True])
def test_siglip_is_a_decision_for_each_pair(score: str, queued: bool) -> None:
    a, b = leaf(6, 3, seed=12), leaf(6, 3, seed=13)
    temperature, bias = torch.tensor(0.3, **DOUBLE).requires_grad_(), torch.tensor(-2.0, **DOUBLE).requires_grad_()
    queue = leaf(4, 3, seed=14).detach() if queued else None
    loss = SigLIP(of=("image", "text"), score=score)  # type: ignore[arg-type]
    memory = None if queue is None else Encoding({"pooled": queue}, ("entry",))
    found = loss.compute(Encoding({"pooled": a}), Encoding({"pooled": b}), loss.score, temperature, bias, memory)
    s = matrix(score, a, b) / temperature + bias
    rows = []
    for i in range(6):
        row = sum((1 + (-(1 if i == j else -1) * s[i, j]).exp()).log() for j in range(6))
        if queue is not None:
            row = row + sum((1 + (similarity(score, a[i], q) / temperature + bias).exp()).log() for q in queue)
        rows.append(row)
    agree(found, torch.stack(rows), a, b, temperature, bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("positives", ["outside", "inside"])
def test_supcon_over_two_views_and_labels(positives: str) -> None:
    one, two = leaf(5, 3, seed=15), leaf(5, 3, seed=16)
    labels = torch.tensor([0, 1, 0, 2, 1])
    loss = SupCon(of=("two.0", "two.1"), labels="label", positives=positives)  # type: ignore[arg-type]
    found = loss.compute(one, two, labels=labels, temperature=0.5)
    vectors = [(one[i], i) for i in range(5)], [(two[i], i) for i in range(5)]
    everything = [*vectors[0], *vectors[1]]
    values = torch.zeros(5, **DOUBLE)
    for k, (x, i) in enumerate(everything):
        others = [
            (similarity("cosine", x, y) / 0.5, labels[i] == labels[j]) for n, (y, j) in enumerate(everything) if n != k
        ]
        lse = torch.stack([s for s, _ in others]).logsumexp(0)
        match = torch.stack([s for s, same in others if same])
        value = lse - match.mean() if positives == "outside" else lse - match.exp().mean().log()
        values = values + torch.nn.functional.one_hot(torch.tensor(i), 5) * value / 2
    agree(found, values, one, two)


def test_supcon_without_labels_is_the_loss_of_simclr() -> None:
    views = leaf(4, 2, 3, seed=17)
    loss = SupCon(of="z", temperature=0.5)  # type: ignore[arg-type]
    found = loss.compute(views, labels=None, temperature=0.5)
    flat = torch.nn.functional.normalize(views.reshape(8, 3), dim=-1)
    s = (flat @ flat.T / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    match = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    expected = torch.nn.functional.cross_entropy(s, match, reduction="none").view(4, 2).mean(1)
    agree(found, expected, views)


def test_supcon_counts_a_row_without_positives_as_zero() -> None:
    loss = SupCon(of="z", labels="label")  # type: ignore[arg-type]
    found = loss.compute(leaf(3, 4, seed=18), labels=torch.tensor([0, 1, 0]), temperature=0.1)
    assert found[1].item() == 0
    assert found[0].item() > 0


def test_a_group_axis_is_refused_by_name() -> None:
    loss = InfoNCE(of=("image", "text"))  # type: ignore[arg-type]
    copies = Encoding({"pooled": torch.randn(3, 2, 4)}, ("sample", "copy"))
    with pytest.raises(ComponentError, match="one vector a row"):
        loss.compute(copies, Encoding({"pooled": torch.randn(3, 4)}), loss.score, 0.1, None)


def test_a_memory_cannot_serve_a_score_of_tokens() -> None:
    loss = InfoNCE(of=("image", "text"), score="maxsim", negatives="queue")  # type: ignore[arg-type]
    tokens = Encoding({"tokens": Tokens(torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))})
    memory = Encoding({"pooled": torch.randn(5, 4)}, ("entry",))
    with pytest.raises(ComponentError, match="the negatives do not have"):
        loss.compute(tokens, tokens, loss.score, 0.1, memory)


@pytest.mark.parametrize(
    "fields",
    [
        {"in_batch": False},
        {"negatives": "queue", "directions": ["backward"]},
        {"temperature": 0.0},
        {"smoothing": 1.0},
    ],
)
def test_contradicting_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InfoNCE.model_validate({"of": ["image", "text"], **fields})
