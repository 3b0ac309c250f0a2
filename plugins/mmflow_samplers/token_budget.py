"""The sampler `token_budget`: batches of equally long samples, as large as their padded length allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from mmflow.plugin import ComponentError, Draw, Field, Ref, Sampled, Sampler, numpy_generator


class TokenBudget(Sampler, name="token_budget"):
    """Every sample once an epoch, in batches whose padded size, samples times the longest of them, is at most `tokens`.

    `by` names a field with the length, or one that has it: characters of a text, steps of a series or sound. Samples
    are shuffled and cut into windows; those of a window are sorted by length and batched, and the batches of all
    windows are shuffled. A larger window pads less and mixes less. A batch holds at most `batch_size` samples. Samples
    without a length are left out; a sample longer than `tokens` is an error, or left out with `skip_longer`.
    """

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "by": ("number", "label", "text", "tokens", "series", "audio", "video", "boxes", "labels", "graph")
    }
    axes: ClassVar[tuple[str, ...]] = ("*",)
    example: ClassVar[str] = "sampler: {use: token_budget, by: caption, tokens: 4096}"

    by: Ref[Sampled] = Field(description="the field (or a stage's column) that tells the length")
    tokens: int = Field(ge=1)
    window: int = Field(4096, ge=1, description="samples that are sorted together")
    skip_longer: bool = False

    def batches(self, draw: Draw) -> Iterator[Sequence[int]]:
        import numpy as np

        lengths, places = self._lengths(draw.columns["by"])
        generator = numpy_generator(draw.seed, "order", draw.epoch)
        order = places[generator.permutation(len(places))]
        found: list[Any] = []
        counts = np.arange(1, draw.batch_size + 1)
        for first in range(0, len(order), self.window):
            window = order[first : first + self.window]
            window = window[np.argsort(lengths[window], kind="stable")]
            start = 0
            while start < len(window):
                longest = lengths[window[start : start + draw.batch_size]]
                # Sorted by length, so that each further sample is the longest of its batch.
                many = int(np.count_nonzero(longest * counts[: len(longest)] <= self.tokens))
                found.append(window[start : start + many])
                start += many
        for place in generator.permutation(len(found)).tolist():
            yield found[place].tolist()

    def _lengths(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """Lengths of all samples (0 where there is none), and the places of those that take part."""
        import numpy as np

        lengths = np.fromiter((0 if v is None else max(1, _length(v)) for v in values), np.int64, len(values))
        there = lengths > 0
        longer = lengths > self.tokens
        if longer.any() and not self.skip_longer:
            raise ComponentError(
                f"sample number {int(np.flatnonzero(longer)[0])} has the length {int(lengths.max())}, more than the "
                f"budget of {self.tokens}",
                found=str(int(lengths.max())), hint="raise `tokens`, or leave such samples out with skip_longer: true",
            )  # fmt: skip
        places = np.flatnonzero(there & ~longer)
        if not len(places):
            raise ComponentError(f"no sample has a length (`by: {self.by}`) within the budget of {self.tokens}")
        return lengths, places


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else int(-(-value // 1))
