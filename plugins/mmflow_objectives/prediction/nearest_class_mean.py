"""Classification by the means of classes in the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mmflow.plugin import Bounds, Encoded, Labels, Loss, Ref, Refs, Score, Value, Weight, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class NearestClassMean(Loss, name="nearest_class_mean"):
    """Cross-entropy of the scores of query rows with the mean vectors of the classes' support rows, [queries].

    The class of a query is one of those that the support rows have; -||q - c||^2 is the score of prototypical networks
    (Snell et al., 2017). With the sampler `episodes`, labels and support are `sampler.label` and `sampler.support`.
    Support rows, and queries of a class without support, have loss 0 and do not count.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"labels": ("label", "number", "index")}
    example: ClassVar[str] = "{use: nearest_class_mean, of: [image], labels: sampler.label, support: sampler.support}"

    of: Refs[Encoded] = Field((), max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    labels: Ref[Labels] = Field(description="the class of a row")
    support: Ref[Weight | Labels] = Field(description="which rows make the means; the others are queries")
    score: Score = default("neg_sq_euclid", description="similarity of a query and a class mean")
    temperature: Annotated[Value, Bounds(gt=0)] = default(1.0, description="divisor of the scores")

    def compute(
        self, x: Encoding, *, labels: Tensor, support: Tensor, score: Score, temperature: float | Tensor
    ) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        support = support.bool()
        vectors = x.pooled
        classes, places = torch.unique(labels, return_inverse=True)
        member = torch.zeros(len(classes), len(labels), dtype=vectors.dtype, device=vectors.device)
        member[places[support], support.nonzero().squeeze(1)] = 1
        known = member.sum(1) > 0
        means = (member @ vectors / member.sum(1, keepdim=True).clamp_min(1))[known]
        column = known.long().cumsum(0) - 1
        asked = ~support & known[places]
        if not len(means) or not bool(asked.any()):
            return vectors.sum() * 0
        found = score.blocks(type(x)({"pooled": vectors[asked]}), type(x)({"pooled": means}))
        logits = (found[0] if isinstance(found, tuple) else found) / temperature
        return cross_entropy(logits, column[places[asked]])
