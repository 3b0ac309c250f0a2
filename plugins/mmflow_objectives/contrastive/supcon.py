"""The supervised contrastive loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Bounds, ComponentError, Labels, Loss, Pooled, Ref, Refs, Value, default

if TYPE_CHECKING:
    from torch import Tensor


Temperature = Annotated[Value, Bounds(gt=0)]


class SupCon(Loss, name="supcon"):
    """Cross-entropy of rows of one label among all other rows (Khosla et al., 2020).

    Takes one or several inputs, each [N, D] or with a group axis [N, G, D]: all their vectors form one set. For a
    vector with scores s over the temperature and positives P (the other vectors of its label; without `labels`, the
    other vectors of its sample, as in SimCLR; Chen et al., 2020):

        outside:  mean_{p in P} ( log sum_{j other} exp(s_j) - s_p )
        inside:   log sum_{j other} exp(s_j) - log mean_{p in P} exp(s_p)

    The value of a row is the mean over its vectors, [N]. A vector without positives has loss 0 and counts in the mean.
    """

    axes: ClassVar[tuple[str, ...]] = ("*",)
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "of": ("vector", "logits"),
        "labels": ("label", "number", "index"),
    }
    example: ClassVar[str] = "{use: supcon, of: [two.0, two.1], labels: label, temperature: 0.1}"

    of: Refs[Pooled] = ()
    labels: Ref[Labels] | None = Field(
        None, description="rows of one label match; only the copies of a sample where unset"
    )
    temperature: Temperature = default(0.1, description="divisor of the scores")
    normalize: bool = Field(True, description="score by cosine, otherwise by dot product")
    positives: Literal["outside", "inside"] = Field("outside", description="mean over positives outside or inside log")

    def compute(self, *views: Tensor, labels: Tensor | None, temperature: float | Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.kernels.contrast import sup_con

        parts = [view.flatten(1, -2) if view.ndim > 2 else view.unsqueeze(1) for view in views]
        vectors = torch.cat(parts, dim=1)
        rows, copies, _ = vectors.shape
        if labels is None:
            labels = torch.arange(rows, device=vectors.device)
        elif labels.ndim != 1:
            raise ComponentError("supcon takes one label a row", found=f"labels of shape {list(labels.shape)}")
        x = normalize(vectors.float() if vectors.element_size() < 4 else vectors, dim=-1) if self.normalize else vectors
        ids = labels.repeat_interleave(copies)
        values = sup_con(
            x.flatten(0, 1), ids, temperature=temperature, positives=self.positives, reduction="none"
        )  # fmt: skip
        if self.positives == "inside":
            # The kernel sums over positives inside the logarithm; the published form takes their mean.
            count = (ids[:, None] == labels[None, :]).sum(1) * copies - 1
            values = values + torch.where(count > 0, count.clamp_min(1).to(values.dtype).log(), 0.0)
        return values.view(rows, copies).mean(1)
