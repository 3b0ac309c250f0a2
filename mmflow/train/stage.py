"""The stage `train`."""

from __future__ import annotations

from typing import ClassVar

from mmflow.plugin.kinds import StageContext
from mmflow.train.settings import Training


class Train(Training, name="train"):
    """Train the encoders that the selected losses reach.

    Gradients are exactly those of the whole batch, whatever `micro_batch_size` is. Where the graph draws
    (dropout) or has batch norm inside a row encoder, `micro_batch_size` is part of the result.
    """

    example: ClassVar[str] = "{use: train, data: train, epochs: 4, batch_size: 256, optimizer: {use: adamw, lr: 1e-3}}"

    def run(self, context: StageContext) -> None:
        from mmflow.train.trainer import train

        train(self, context)
