"""Inputs of every evaluator that ships: some that say nothing about what it measures, and some that say everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmflow.plugin import Encoding, Evaluator
from mmflow.plugin.registry import registry
from mmflow.plugin.values import Argument, RawValue
from mmflow.testing import EvaluatorCase, Inputs

ROWS, DIM, CLASSES, CANDIDATES = 120, 12, 4, 3
DRAW = torch.Generator().manual_seed(3)
RNG = np.random.default_rng(3)
LABELS = torch.arange(ROWS) % CLASSES
POINTS = torch.eye(DIM)[LABELS]
NAMES = {"labels": ("red", "green", "blue", "gray")}


def made(use: str, **options: object) -> Evaluator:
    """The evaluator of that name with the fields of its declaration."""
    found = registry().get("stage", use).model_validate({"data": "rows", **options})
    assert isinstance(found, Evaluator)
    return found


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=DRAW)


def vectors(*each: Tensor) -> tuple[Encoding, ...]:
    return tuple(Encoding({"pooled": x}) for x in each)


def of_vectors(
    evaluator: Evaluator, count: int, columns: dict[str, Argument], perfect: Sequence[Tensor], *, draws: bool = False
) -> EvaluatorCase:
    random = Inputs(vectors(*(normal(ROWS, DIM) for _ in range(count))), columns)
    return EvaluatorCase(evaluator, random, Inputs(vectors(*perfect), columns), draws=draws)


def classes(values: Sequence[RawValue]) -> Encoding:
    """Prompts that end in the name of a class are its vector."""
    places = [NAMES["labels"].index(str(value).split()[-1]) for value in values]
    return Encoding({"pooled": torch.eye(DIM)[places]})


def with_names(evaluator: Evaluator) -> EvaluatorCase:
    columns: dict[str, Argument] = {"labels": LABELS}
    texts = normal(ROWS, DIM)
    random, perfect = (Inputs(vectors(x, texts), columns) for x in (normal(ROWS, DIM), POINTS))
    return EvaluatorCase(evaluator, random, perfect, names=NAMES, encode=classes)


def grouped(evaluator: Evaluator, rows: Tensor, random: Tensor, perfect: Tensor, axis: str) -> EvaluatorCase:
    """One vector a row with a group of candidates."""
    sides = [
        Inputs((Encoding({"pooled": rows}), Encoding({"pooled": group}, axes=("sample", axis))))
        for group in (random, perfect)
    ]
    return EvaluatorCase(evaluator, sides[0], sides[1])


def matched(evaluator: Evaluator) -> EvaluatorCase:
    """Two images and two texts a row."""

    def both(a: Tensor, b: Tensor) -> Inputs:
        return Inputs(tuple(Encoding({"pooled": x}, axes=("sample", "pair")) for x in (a, b)))

    texts = normal(ROWS, 2, DIM)
    return EvaluatorCase(evaluator, both(normal(ROWS, 2, DIM), texts), both(texts + 0.01 * normal(ROWS, 2, DIM), texts))


def of_columns(evaluator: Evaluator, random: dict[str, Argument], perfect: dict[str, Argument]) -> EvaluatorCase:
    return EvaluatorCase(evaluator, Inputs((), random), Inputs((), perfect))


def boundary_columns() -> tuple[dict[str, Argument], dict[str, Argument]]:
    truth = [list((RNG.random(11) < 0.3).astype(float)) for _ in range(40)]
    found = [list((RNG.random(11) < 0.3).astype(float)) for _ in range(40)]
    return {"found": found, "truth": truth}, {"found": truth, "truth": truth}


def moment_columns() -> tuple[dict[str, Argument], dict[str, Argument]]:
    starts = RNG.uniform(0, 50, (60, 6))
    moments = [np.stack([row, row + RNG.uniform(2, 20, 6)], axis=1) for row in starts]
    truth = [np.stack([row, row + 10]) for row in RNG.uniform(0, 50, 60)]
    best = [np.concatenate([true[None], row[1:]]) for true, row in zip(truth, moments, strict=True)]
    return {"found": moments, "truth": truth}, {"found": best, "truth": truth}


def box_columns(identities: bool) -> tuple[dict[str, Argument], dict[str, Argument]]:
    """Boxes of a class with a score, or of a frame with an identity."""
    corners = RNG.uniform(0, 200, (24, 4, 2))
    boxes = np.concatenate([corners, corners + RNG.uniform(20, 80, (24, 4, 2))], axis=2)
    other = boxes[RNG.permutation(24)] + RNG.uniform(-60, 60, (24, 4, 1))
    if identities:
        head = np.stack([np.tile(np.arange(2.0), 2), np.repeat(np.arange(2.0), 2)], axis=1)
        rows = [[np.concatenate([head, each], axis=1) for each in side] for side in (boxes, other)]
        return {"found": rows[1], "truth": rows[0]}, {"found": rows[0], "truth": rows[0]}
    kinds = np.tile(np.arange(2.0), 2)[:, None]
    truth = [np.concatenate([each, kinds], axis=1) for each in boxes]
    scores = RNG.random((24, 4, 1))
    found = [np.concatenate([each, kinds, s], axis=1) for each, s in zip(other, scores, strict=True)]
    right = [np.concatenate([each, s], axis=1) for each, s in zip(truth, scores, strict=True)]
    return {"found": found, "truth": truth}, {"found": right, "truth": truth}


def written_columns() -> tuple[dict[str, Argument], dict[str, Argument]]:
    words = np.array(
        [
            "a",
            "red",
            "blue",
            "green",
            "circle",
            "square",
            "above",
            "below",
            "left",
            "right",
            "of",
            "the",
            "large",
            "small",
        ]
    )
    texts = [" ".join(RNG.choice(words, 8)) for _ in range(60)]
    other = [" ".join(RNG.choice(words, 8)) for _ in range(60)]
    return {"generated": other, "references": (texts,)}, {"generated": texts, "references": (texts,)}


def answer_columns() -> tuple[dict[str, Argument], dict[str, Argument]]:
    labels = torch.arange(ROWS) % 2
    words = np.array(["No.", "Yes, it is."])
    random: list[RawValue] = words[RNG.integers(0, 2, ROWS)].tolist()
    right: list[RawValue] = words[labels.numpy()].tolist()
    return {"answers": random, "labels": labels}, {"answers": right, "labels": labels}


def segmented() -> EvaluatorCase:
    """Grids of four places, each of a class of its own."""
    masks = [np.kron(RNG.integers(0, 3, (2, 2)), np.ones((4, 4), int)) for _ in range(60)]
    cells = torch.as_tensor(np.stack([mask[::4, ::4] for mask in masks]))
    grids = (normal(60, 2, 2, DIM), torch.eye(DIM)[cells])
    random, perfect = (Inputs((Encoding({"grid": grid}),), {"mask": masks}) for grid in grids)
    return EvaluatorCase(made("grid_probe", test="held", of=["x.grid"], mask="mask"), random, perfect)


def reranked() -> EvaluatorCase:
    tokens = normal(ROWS, 3, DIM)
    from mmflow.plugin import Tokens

    def both(x: Tensor, y: Tensor) -> Inputs:
        mask = torch.ones(ROWS, 3, dtype=torch.bool)
        return Inputs(tuple(Encoding({"pooled": t.mean(1), "tokens": Tokens(t, mask)}) for t in (x, y)))

    evaluator = made("reranking", of=["a", "b"], score="cosine", second="maxsim", top=50)
    return EvaluatorCase(evaluator, both(normal(ROWS, 3, DIM), tokens), both(tokens, tokens))


def unknown_classes() -> EvaluatorCase:
    """Data of two classes, and further data of all four."""
    evaluator = made("open_set", test="held", of=["x"], labels="label")
    known = {"labels": LABELS % 2}
    random, perfect = (Inputs(vectors(x), known) for x in (normal(ROWS, DIM), torch.eye(DIM)[LABELS % 2]))
    return EvaluatorCase(evaluator, random, perfect, other=Inputs(vectors(POINTS), {"labels": LABELS}))


def target_columns() -> tuple[Tensor, list[Tensor]]:
    """Similarities that people gave, and pairs of vectors with these cosines."""
    target = torch.linspace(-0.9, 0.9, ROWS)[torch.randperm(ROWS, generator=DRAW)]
    first = torch.eye(DIM)[0].expand(ROWS, DIM)
    second = target[:, None] * torch.eye(DIM)[0] + (1 - target**2).sqrt()[:, None] * torch.eye(DIM)[1]
    return target, [first, second]


SAME = normal(ROWS, DIM)
TOGETHER = torch.arange(ROWS) % 2
TARGET, ALIKE = target_columns()
FACTORS = (LABELS, torch.arange(ROWS) % 3)
BOTH = torch.cat([torch.eye(CLASSES)[FACTORS[0]], torch.eye(DIM - CLASSES)[FACTORS[1]]], dim=1)
TAGS = torch.stack([LABELS % 2, LABELS // 2, 1 - LABELS % 2], dim=1).double()

EVALUATOR_CASES: list[EvaluatorCase] = [
    with_names(made("zero_shot", of=["image", "text"], labels="label", prompts=["a {}"], at=[1, 2])),
    with_names(made("calibration", of=["image", "text"], labels="label", prompt="a {}", temperature=10.0)),
    of_vectors(made("retrieval", of=["a", "b"], at=[1, 5]), 2, {}, [SAME, SAME]),
    of_vectors(made("pairwise_retrieval", of=["a", "b", "c"], at=[1]), 3, {}, [SAME] * 3),
    reranked(),
    of_vectors(made("uncertainty", of=["a", "b"]), 2, {}, [SAME, SAME]),
    of_vectors(made("relevance", of=["a", "b"], labels="label", at=[10]), 2, {"labels": LABELS}, [POINTS, POINTS]),
    of_vectors(
        made("pair_classification", of=["a", "b"], labels="same"), 2, {"labels": TOGETHER},
        [SAME, torch.where(TOGETHER.bool()[:, None], SAME, -SAME)], draws=True,
    ),
    of_vectors(made("similarity_correlation", of=["a", "b"], target="t"), 2, {"target": TARGET}, ALIKE),
    of_vectors(
        made("regression_probe", test="held", of=["x"], target="t"), 1, {"target": TARGET}, [ALIKE[1]], draws=True
    ),
    of_vectors(
        made("factor_probe", test="held", of=["x"], factors=["one", "two"]), 1, {"factors": FACTORS}, [BOTH],
        draws=True,
    ),
    of_vectors(
        made("multi_label_probe", test="held", of=["x"], labels="tags"), 1, {"labels": TAGS}, [POINTS], draws=True
    ),
    of_vectors(
        made("few_shot", of=["x"], labels="label", ways=3, shots=[1, 5], queries=8), 1, {"labels": LABELS}, [POINTS],
        draws=True,
    ),
    of_vectors(
        made("k_shot_probe", test="held", of=["x"], labels="label", shots=[1, 4]), 1, {"labels": LABELS}, [POINTS],
        draws=True,
    ),
    of_vectors(made("clustering", of=["x"], labels="label"), 1, {"labels": LABELS}, [POINTS], draws=True),
    of_vectors(
        made("category_discovery", test="held", of=["x"], labels="label"), 1, {"labels": LABELS}, [POINTS], draws=True
    ),
    of_vectors(made("geometry", of=["a", "b"]), 2, {}, [SAME, SAME], draws=True),
    unknown_classes(),
    grouped(
        made("multiple_choice", of=["x", "group"]), SAME, normal(ROWS, CANDIDATES, DIM),
        torch.cat([SAME[:, None], normal(ROWS, CANDIDATES - 1, DIM)], dim=1), "candidate",
    ),
    matched(made("pair_matching", of=["a", "b"])),
    segmented(),
    of_columns(made("boundary_detection", found="found", truth="truth"), *boundary_columns()),
    of_columns(made("moment_retrieval", found="found", truth="truth", at=[1, 5]), *moment_columns()),
    of_columns(made("detection", found="found", truth="truth"), *box_columns(identities=False)),
    of_columns(made("tracking", found="found", truth="truth"), *box_columns(identities=True)),
    of_columns(made("text_overlap", generated="generated", references=["caption"]), *written_columns()),
    of_columns(made("yes_no", answers="answers", labels="present"), *answer_columns()),
]  # fmt: skip
