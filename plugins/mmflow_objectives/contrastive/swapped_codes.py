"""Prediction of balanced codes of other views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mmflow.plugin import Bank, Bounds, ComponentError, Encoder, Loss, Pooled, Refs, Value, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class SwappedCodes(Loss, name="swapped_codes"):
    """Each view predicts the cluster codes of the others (SwAV; Caron et al., 2020), [N].

    Scores s of a view with `prototypes` [K, D]. The first `assigning` views of `of` get codes q
    [N, K] from Sinkhorn's iteration on s / epsilon, balanced over the prototypes and without gradient; the value of a
    row is the mean over assigning views a, and over other views v, of -sum_k q_a log softmax(s_v / temperature)_k.
    `queues`, a memory for each assigning view or none, take part in the balance alone, once they are full.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector",)}
    example: ClassVar[str] = (
        "{use: swapped_codes, of: [two.0, two.1], prototypes: {use: encoder/prototype_vectors, count: 30, dim: 128}}"
    )

    of: Refs[Pooled] = ()
    prototypes: Encoder = Field(description="vectors that belong to no sample, such as prototype_vectors")
    queues: Refs[Bank] = Field((), description="embeddings of past batches, one for each assigning view")
    normalize: bool = Field(True, description="whether views and prototypes are scaled to length one first")
    assigning: int = Field(2, ge=1, le=64, description="how many of the first views get codes")
    temperature: Annotated[Value, Bounds(gt=0)] = default(0.1, description="divisor of the scores in the prediction")
    epsilon: float = Field(0.05, gt=0, le=1e6, description="divisor of the scores in the codes")
    iterations: int = Field(3, ge=1, le=10_000, description="rounds of balancing")

    def compute(
        self,
        *views: Tensor,
        prototypes: Callable[[], Tensor],
        queues: tuple[Encoding | None, ...],
        temperature: float | Tensor,
    ) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        if len(views) < 2:
            raise ComponentError("swapped_codes predicts the codes of other views", found="one view",
                                 hint="name two inputs or more in `of`")  # fmt: skip
        centers, *vectors = (v.float() if v.element_size() < 4 else v for v in (prototypes(), *views))
        if self.normalize:
            centers, *vectors = (normalize(v, dim=-1) for v in (centers, *vectors))
        scores = [v @ centers.T for v in vectors]
        predicted = [torch.log_softmax(each / temperature, dim=-1) for each in scores]
        values = []
        for place in range(min(self.assigning, len(views))):
            codes = self._codes(scores[place].detach(), centers.detach(), queues[place] if queues else None)
            others = [-(codes * log).sum(-1) for v, log in enumerate(predicted) if v != place]
            values.append(sum(others[1:], others[0]) / len(others))
        return sum(values[1:], values[0]) / len(values)

    def _codes(self, scores: Tensor, centers: Tensor, queue: Encoding | None) -> Tensor:
        import torch

        from mmflow.kernels import assignment, sinkhorn

        rows = len(scores)
        if queue is not None and (queue.present is None or bool(queue.present.all())):
            scores = torch.cat([queue.pooled.to(scores.dtype) @ centers.T, scores])
        plan = sinkhorn(scores, epsilon=self.epsilon, iterations=self.iterations)
        return assignment(scores, None, plan, slice(len(scores) - rows, len(scores)))


def _width(prototypes: Encoder) -> int | None:
    """The width of vectors that belong to no sample; None for another encoder."""
    try:
        declared = prototypes.outputs()["pooled"]
    except (ComponentError, IndexError, KeyError):
        return None
    return declared.size[-1] if declared.size and "sample" not in declared.axes else None
