"""The settings of a training run, in the spec's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmflow.plugin.component import default, outside_identity
from mmflow.plugin.kinds import Active, BatchSizes, Optimizer, Sampler, Source, Stage
from mmflow.plugin.numbers import Value
from mmflow.plugin.references import Data, Model, Ref


class Group(BaseModel):
    """Parameters that train with settings of their own; paths match like file names (`encoders.image.*`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str
    lr: float | None = Field(None, ge=0)
    weight_decay: float | None = Field(None, ge=0)
    active: Active | None = None


class Training(Stage):
    """A stage that trains: its data, batches, losses, optimizer and records."""

    gives: ClassVar[Mapping[str, str]] = {"model": "Model", "history": "Files"}
    trains: ClassVar[bool] = True

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
    seed: int | None = outside_identity(
        None, ge=0, lt=2**63, description="of the stage's weights, batches and draws, instead of the spec's"
    )
    start: Ref[Model] | None = Field(None, description="the stage whose model this one begins with; init: untrained")
    compile: bool = outside_identity(False, description="torch.compile the row encoders")
    workers: int | None = outside_identity(None, ge=0, le=64, description="loader processes; --workers where unset")
    log_every: int = outside_identity(10, ge=1, description="steps")
    checkpoint_every: float = outside_identity(300.0, gt=0, description="seconds between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        return self

    def seeded(self, seed: int) -> int:
        # Said in the key as the spec's own is, so that the field itself is no part of it.
        return seed if self.seed is None else self.seed

    def minimized(self, losses: Sequence[str]) -> Sequence[str]:
        return losses if self.losses is None else self.losses

    def sizes(self) -> BatchSizes:
        return BatchSizes(self.batch_size, min(self.micro_batch_size or self.batch_size, self.batch_size))

    def order(self) -> Sampler:
        return self.sampler

    def patterns(self) -> Mapping[str, str]:
        return {name: group.match for name, group in self.groups.items()}

    def refuses(self, source: Source) -> Iterator[tuple[str, str, str]]:
        from mmflow.data.samples import random_access_needed

        if refused := random_access_needed(self.sampler, source):
            yield "sampler", *refused
        streaming = source.streaming()
        if self.epochs is not None and streaming is not None and streaming.samples is None:
            message = "how many batches an epoch of a streamed source has is not known before it is read"
            yield "epochs", message, "give `steps:`, or the number of samples in the source: `stream: {samples: N}`"
