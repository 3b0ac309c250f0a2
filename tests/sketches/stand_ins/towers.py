"""Encoders of images, sounds, videos and texts."""

from __future__ import annotations

from mmflow_encoders.images.convnet4 import Convnet4


class RoiGrid(Convnet4, name="roi_grid"):
    """A convolutional network in place of features of regions."""
