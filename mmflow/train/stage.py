"""The declaration of the stage `train`: what a training run is, in the spec's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmflow.plugin.component import default, outside_identity
from mmflow.plugin.kinds import Active, Optimizer, Sampler, Source, Stage, StageContext
from mmflow.plugin.numbers import Value
from mmflow.plugin.references import Data, Model, Ref


class Group(BaseModel):
    """Parameters that train with settings of their own; paths match like file names (`encoders.image.*`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str
    lr: float | None = Field(None, ge=0)
    weight_decay: float | None = Field(None, ge=0)
    active: Active | None = None


class Train(Stage, name="train"):
    """Train the encoders that the selected losses reach.

    Gradients are exactly those of the whole batch, whatever `micro_batch_size` is. Where the graph draws
    (dropout) or has batch norm inside a row encoder, `micro_batch_size` is part of the result.
    """

    gives: ClassVar[Mapping[str, str]] = {"model": "Model", "history": "Files"}
    example: ClassVar[str] = "{use: train, data: train, epochs: 4, batch_size: 256, optimizer: {use: adamw, lr: 1e-3}}"

    data: Ref[Data]
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=1)
    micro_batch_size: int | None = Field(None, ge=1)
    sampler: Sampler = default("shuffle")
    losses: tuple[str, ...] | None = Field(None, description="names of the losses to minimize; all by default")
    optimizer: Optimizer = default("adamw")
    schedule: Value = default(1.0, description="factor on every learning rate")
    clip: float | None = Field(None, gt=0, description="largest global norm of the gradient")
    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    groups: dict[str, Group] = Field({}, description="what trains, by path; the last match wins")
    start: Ref[Model] | None = Field(None, description="the stage whose model this one begins with; init: untrained")
    compile: bool = outside_identity(False, description="torch.compile the row encoders")
    workers: int | None = outside_identity(None, ge=0, le=64, description="loader processes; --workers where unset")
    log_every: int = outside_identity(10, ge=1, description="steps")
    checkpoint_every: float = outside_identity(300.0, gt=0, description="seconds between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        return self

    def refuses(self, source: Source) -> Iterator[tuple[str, str, str]]:
        from mmflow.data.samples import random_access_needed

        if refused := random_access_needed(self.sampler, source):
            yield "sampler", *refused
        streaming = source.streaming()
        if self.epochs is not None and streaming is not None and streaming.samples is None:
            message = "how many batches an epoch of a streamed source has is not known before it is read"
            yield "epochs", message, "give `steps:`, or the number of samples in the source: `stream: {samples: N}`"

    def run(self, context: StageContext) -> None:
        from mmflow.train.trainer import train

        train(self, context)
