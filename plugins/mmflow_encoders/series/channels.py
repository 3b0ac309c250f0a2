"""The channels of a series."""

from __future__ import annotations

from mmflow.plugin import ComponentError, TensorType


def channels_of(component: str, series: TensorType) -> int:
    """Channels of a series [T, C], one for a series [T]; raises `ComponentError` where they are not known."""
    size = series.size
    channels = size[1] if len(size) == 2 else 1
    if channels is None or len(size) > 2:
        raise ComponentError(f"{component} needs a series [T, C] with C known", found=f"size {list(size)}")
    return channels
