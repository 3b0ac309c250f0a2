"""The shape of embeddings on the sphere: alignment, uniformity, the gap between modalities, rank."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Metric, PositiveFloat, Tally, default
from mmflow_evaluators.declared import OfEach, Refusal, quiet, too_few

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 2048


class Geometry(OfEach, name="geometry"):
    """How L2-normalized vectors lie on the sphere, in float64, for each encoder in `of` and each pair of them.

    For each encoder: `uniformity` = log mean over pairs i < j of exp(-t |x_i - x_j|^2) (Wang and Isola, 2020: two
    opposite points give -4t, collapse gives 0); `effective_rank` = exp of the entropy of the singular values
    divided by their sum (Roy and Vetterli, 2007), of the normalized vectors without centering.
    For each pair of encoders, over the rows present in both: `alignment` = mean |x_i - y_i|^power;
    `uniformity` = mean of both; `cross_uniformity` = the same over ordered pairs i != j across the two (Fahim et
    al., 2024); `modality_gap` = distance of the two centers (Liang et al., 2022) and `gap_share` = the part of
    the variance of all vectors together that lies between the centers, from 0 to 1; `gap_separability` =
    accuracy of a logistic regression that tells the two apart, on a fifth of the rows held out (0.5: no gap);
    `pair_cosine` and `other_cosine` = mean cosine of rows that belong together and of all others.
    Read the gap beside uniformity: a collapsed model has none.
    """

    example: ClassVar[str] = "{use: geometry, data: test, of: [image, text]}"
    requires: ClassVar[tuple[str, ...]] = ("sklearn",)

    power: PositiveFloat = default(2.0, description="exponent of the distance in alignment")
    t: PositiveFloat = default(2.0, description="scale of the Gaussian potential in uniformity")

    def refuses_rows(self, tallies: Mapping[str, Tally]) -> Iterator[Refusal]:
        yield from too_few(tallies, 2, self.use)

    def refuses_encodings(self, *of: Encoding) -> Iterator[tuple[str, str, str]]:
        sizes = {name: encoding.pooled.shape[-1] for name, encoding in zip(self.of, of, strict=True)}
        if len(set(sizes.values())) > 1:
            said = " and ".join(f"{name} has {size} dimensions" for name, size in sizes.items())
            yield "of", f"geometry: {said}", "give them heads of the same `dim`, or measure each in a stage of its own"

    def evaluate(self, *of: Encoding, ids: list[str]) -> EvaluationResult:
        import torch

        from mmflow_evaluators.estimates import group_between, spoken

        metrics: list[Metric] = []
        vectors, present = [], []
        for name, encoding in zip(self.of, of, strict=True):
            x = encoding.pooled
            if x.ndim != 2:
                raise ComponentError(f"geometry of {name}: needs one vector a row, not {list(x.shape[1:])}")
            there = encoding.present
            vectors.append(torch.nn.functional.normalize(x.double(), dim=-1))
            present.append(torch.ones(len(x), dtype=torch.bool, device=x.device) if there is None else there)
        own: dict[int, float] = {}
        for place, (x, there) in enumerate(zip(vectors, present, strict=True)):
            rows = x[there]
            if len(rows) < 2:
                raise ComponentError(f"geometry of {self.of[place]}: fewer than two rows are present")
            label = self.of[place].replace(".", "_")
            own[place] = uniformity(rows, self.t)
            group, rank = spoken(self.of[place]), effective_rank(rows)
            metrics += [
                Metric(f"{label}_uniformity", own[place], better="lower", title="uniformity", group=group),
                Metric(f"{label}_effective_rank", rank, better="", title="effective rank", group=group),
            ]
        pairs = list(combinations(range(len(of)), 2))
        for i, j in pairs:
            both = present[i] & present[j]
            x, y = vectors[i][both], vectors[j][both]
            if len(x) < 2:
                raise ComponentError(f"geometry: fewer than two rows have both {self.of[i]} and {self.of[j]}")
            group = group_between(self.of[i], self.of[j])
            prefix = group.prefix if len(pairs) > 1 else ""
            if x.shape[1] != y.shape[1]:
                raise ComponentError(
                    f"geometry: {self.of[i]} has {x.shape[1]} dimensions and {self.of[j]} has {y.shape[1]}",
                    hint="give both a head of the same `dim`",
                )
            kept = [i for i, b in zip(ids, both, strict=True) if b]
            metrics += [
                replace(metric, name=prefix + metric.name, title=metric.heading, group=group.heading)
                for metric in self._pair(x, y, (own[i] + own[j]) / 2, kept)
            ]
        return EvaluationResult(metrics)

    def _pair(self, x: Tensor, y: Tensor, mean_uniformity: float, ids: list[str]) -> list[Metric]:
        distance = (x - y).norm(dim=-1).pow(self.power).mean()
        gap, share = modality_gap(x, y)
        own = (x * y).sum(-1)
        count = len(x)
        others = ((x.sum(0) @ y.sum(0)) - own.sum()) / (count * (count - 1))
        separability = gap_separability(x, y, ids)
        return [
            Metric("alignment", float(distance), better="lower"),
            Metric("uniformity", mean_uniformity, better="lower"),
            Metric("cross_uniformity", cross_uniformity(x, y, self.t), better="lower"),
            Metric("modality_gap", gap, better=""),
            Metric("gap_share", share, better=""),
            Metric("gap_separability", separability, 0.5, better=""),
            Metric("pair_cosine", float(own.mean())),
            Metric("other_cosine", float(others), better="lower"),
        ]


def uniformity(x: Tensor, t: float) -> float:
    """log mean over i < j of exp(-t |x_i - x_j|^2) of unit vectors [N, D]."""
    count = len(x)
    # The diagonal holds exp(0) = 1 exactly once for each row; the rest counts each pair twice.
    total = _potential(x, x, t)
    return math.log(max((total - count) / (count * (count - 1)), sys.float_info.min))


def cross_uniformity(x: Tensor, y: Tensor, t: float) -> float:
    """log mean over i != j of exp(-t |x_i - y_j|^2) of unit vectors [N, D]."""
    count = len(x)
    matched = float((2 * t * ((x * y).sum(-1) - 1)).exp().sum())
    return math.log(max((_potential(x, y, t) - matched) / (count * (count - 1)), sys.float_info.min))


def _potential(x: Tensor, y: Tensor, t: float) -> float:
    """Sum over all i, j of exp(-t |x_i - y_j|^2) = exp(2t x.y - 2t), in blocks."""
    total = 0.0
    for start in range(0, len(x), BLOCK):
        for left in range(0, len(y), BLOCK):
            products = x[start : start + BLOCK] @ y[left : left + BLOCK].T
            total += float((2 * t * (products - 1)).exp().sum())
    return total


def modality_gap(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Distance of the centers of [N, D] and [N, D], and its share of the variance of all 2N vectors."""
    gap = float((x.mean(0) - y.mean(0)).norm())
    center = (x.mean(0) + y.mean(0)) / 2
    total = float(((x - center).pow(2).sum() + (y - center).pow(2).sum()) / (2 * len(x)))
    return gap, min(1.0, gap * gap / 4 / total) if total > 0 else 0.0


def effective_rank(x: Tensor) -> float:
    """exp of the entropy of the normalized singular values of [N, D]."""
    import torch

    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    # Below this, singular values from the Gram matrix are rounding.
    values = values[values > values.max() * 1e-7]
    share = values / values.sum()
    return float(torch.exp(-(share * share.log()).sum()))


def gap_separability(x: Tensor, y: Tensor, ids: list[str]) -> float:
    """Accuracy of a logistic regression between x and y; a pair is held out or learned from as a whole."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from mmflow_evaluators.probes.regularized import Rows, parted

    both: Any = np.concatenate([x.cpu().numpy(), y.cpu().numpy()])
    sides = np.repeat(np.array([0, 1]), len(x))
    learned, held = parted(Rows(both, sides, [*ids, *ids]), 0.2, "gap separability")
    with quiet():
        model = LogisticRegression(C=100.0, max_iter=500).fit(learned.vectors, learned.targets)
        return float(model.score(held.vectors, held.targets))
