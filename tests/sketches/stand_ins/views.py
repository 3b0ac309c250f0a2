"""Transforms."""

from __future__ import annotations

from typing import Any

from mmflow.plugin import Transform


class DiffusionNoise(Transform, name="diffusion_noise"):
    """An image with the noise of step t of 1000 of a diffusion."""

    t: int = 500

    def apply(self, value: Any, generator: Any) -> Any:
        import numpy as np

        if generator is None:
            return value
        share = self.t / 1000
        noisy = np.sqrt(1 - share) * value.astype(np.float32) + np.sqrt(share) * 64 * generator.normal(size=value.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)
