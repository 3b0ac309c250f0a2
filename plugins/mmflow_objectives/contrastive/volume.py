"""Contrast by the volume that several vectors span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mmflow.plugin import Bounds, Loss, Pooled, Refs, Value, default

if TYPE_CHECKING:
    from torch import Tensor


class VolumeContrast(Loss, name="volume_contrast"):
    """Each anchor's tuple among the tuples of the batch and back, by minus the volume that they span over the
    temperature (GRAM; Cicchetti et al., 2025), [N].

    The first input is the anchor, the others (one to four) form the tuple of a row.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"of": ("vector", "logits")}
    example: ClassVar[str] = "{use: volume_contrast, of: [text, video, audio], temperature: 0.07}"

    of: Refs[Pooled] = Field((), max_length=5)
    temperature: Annotated[Value, Bounds(gt=0)] = default(0.07, description="divisor of the volumes")
    smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target spread evenly over all candidates")

    normalize: bool = Field(True, description="whether vectors are scaled to length one first")

    def in_batch_negatives(self) -> bool:
        return True

    def compute(self, anchor: Tensor, *others: Tensor, temperature: float | Tensor) -> Tensor:
        from torch.nn.functional import normalize

        from mmflow.kernels import gram_contrast

        vectors = [v.float() if v.element_size() < 4 else v for v in (anchor, *others)]
        anchor, *rest = [normalize(v, dim=-1) for v in vectors] if self.normalize else vectors
        values = gram_contrast(anchor, rest, temperature=temperature, label_smoothing=self.smoothing, reduction="none")
        return (values[0] + values[1]) / 2
