"""Synthetic series: motifs in noise, with gaps (`series`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from mmflow.plugin import Field, TensorType
from mmflow_synthetic.base import Synthetic

MOTIFS = ("step", "bump", "ramp", "sine", "sawtooth", "double bump")


class Series(Synthetic, name="series"):
    """Series of several channels in which one motif stands, shifted and in noise.

    Fields: `series` (float32 [length, channels]; NaN-free, zero where `missing`), `missing` (bool [length, channels]),
    `label` (the motif), `caption` ("a bump in channel two"), `channel`, `at` (where the motif begins, in steps),
    `height` (of the motif), `clean` (the series without noise and gaps).
    """

    example: ClassVar[str] = "data: {train: {use: series, split: train, size: 2000, length: 96}}"

    length: int = Field(96, ge=32, le=4096)
    channels: int = Field(2, ge=1, le=4)
    noise: float = Field(0.1, ge=0)
    gaps: float = Field(0.1, ge=0, le=0.9, description="share of steps that are missing, in runs")

    def fields(self) -> Mapping[str, TensorType]:
        shape = (self.length, self.channels)
        return {
            "id": TensorType("id"),
            "series": TensorType("series", size=shape),
            "clean": TensorType("series", size=shape),
            "missing": TensorType("mask", size=shape, dtype="bool"),
            "label": TensorType("label", dtype="int64", names=MOTIFS),
            "channel": TensorType("label", dtype="int64", names=("one", "two", "three", "four")[: self.channels]),
            "caption": TensorType("text"),
            "at": TensorType("number"),
            "height": TensorType("number"),
        }

    def draw(self, generator: Any, wanted: Collection[str]) -> dict[str, Any]:
        import numpy as np

        label, channel = int(generator.integers(len(MOTIFS))), int(generator.integers(self.channels))
        span = self.length // 4
        at = int(generator.integers(self.length - span))
        height = float(generator.uniform(0.8, 1.2))
        clean = np.zeros((self.length, self.channels), dtype=np.float32)
        clean[at : at + span, channel] = height * motif(MOTIFS[label], span)
        if MOTIFS[label] == "step":
            clean[at + span :, channel] = height
        missing = np.zeros((self.length, self.channels), dtype=bool)
        run = max(2, self.length // 24)
        for _ in range(round(self.gaps * self.length * self.channels / run)):
            begin = int(generator.integers(self.length - run))
            missing[begin : begin + run, int(generator.integers(self.channels))] = True
        noise = generator.standard_normal(clean.shape, dtype=np.float32)
        series = np.where(missing, np.float32(0), clean + np.float32(self.noise) * noise)
        number = ("one", "two", "three", "four")[channel]
        return {
            "series": series.astype(np.float32), "clean": clean, "missing": missing, "label": label, "at": float(at),
            "height": height, "channel": channel, "caption": f"a {MOTIFS[label]} in channel {number}",
        }  # fmt: skip


def motif(name: str, span: int) -> Any:
    """A motif of height 1 over `span` steps, float64 [span]."""
    import numpy as np

    x = (np.arange(span) + 0.5) / span
    return {
        "step": np.ones(span), "bump": np.exp(-((x - 0.5) ** 2) / 0.02), "ramp": x, "sine": np.sin(2 * math.pi * 2 * x),
        "sawtooth": 2 * (3 * x % 1) - 1, "double bump": np.exp(-((x - 0.25) ** 2) / 0.005)
        + np.exp(-((x - 0.75) ** 2) / 0.005),
    }[name]  # fmt: skip
