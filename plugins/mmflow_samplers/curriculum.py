"""The sampler `curriculum`: from easy samples to all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, numpy_generator
from mmflow_samplers.passes import cut


class Curriculum(Sampler, name="curriculum"):
    """The easiest samples first, and from epoch to epoch more of them (Bengio et al., 2009).

    An epoch is a shuffled pass over the share c of all samples that is easiest by the number `by`. c grows from `start`
    in the first epoch to 1 after `epochs`: evenly (`linear`), or as the competence of Platanios et al. (2019),
    c = sqrt(start^2 + (1 - start^2) t) (`root`). `hardest_first` turns the order around. Samples without a number are
    left out.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {"by": ("number", "label")}
    example: ClassVar[str] = "sampler: {use: curriculum, by: length, start: 0.2, epochs: 10}"

    by: Ref[Sampled] = Field(description="the field (or a stage's column) that tells the difficulty")
    start: float = Field(0.2, gt=0, le=1, description="share of the samples in the first epoch")
    epochs: float = Field(gt=0, description="until all samples take part")
    pacing: Literal["linear", "root"] = "linear"
    hardest_first: bool = False
    drop_last: bool = Field(True, description="leave out the last, smaller batch (unless it is the only one)")

    def share(self, epoch: int) -> float:
        """The share of the samples that take part in an epoch."""
        time = min(1.0, epoch / self.epochs)
        if self.pacing == "linear":
            return self.start + (1 - self.start) * time
        return math.sqrt(self.start**2 + (1 - self.start**2) * time)

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        import numpy as np

        numbers = np.array([math.nan if v is None else float(v) for v in draw.columns["by"]])
        places = np.flatnonzero(~np.isnan(numbers))
        if not len(places):
            raise ComponentError(f"no sample has a difficulty (`by: {self.by}`)")
        ranked = places[np.argsort(-numbers[places] if self.hardest_first else numbers[places], kind="stable")]
        taking_part = ranked[: math.ceil(self.share(draw.epoch) * len(ranked) - 1e-9)]
        order = numpy_generator(draw.seed, "order", draw.epoch).permutation(taking_part).tolist()
        return cut(order, draw.batch_size, self.drop_last)
