"""The settings of a training run, in the spec's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mmflow.plugin.kinds import Active, BatchSizes, DataStage, Fault, Optimizer, Sampler, Source, StreamBatches
from mmflow.plugin.marks import default, in_order, outside_identity
from mmflow.plugin.numbers import Scheduled
from mmflow.plugin.references import NAME, Column, Model, Ref, Static, Written, reference_fields
from mmflow.plugin.targets import Place


class Group(BaseModel):
    """Parameters that train with settings of their own; paths match like file names (`encoders.image.*`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str
    lr: float | None = Field(None, ge=0)
    weight_decay: float | None = Field(None, ge=0)
    active: Active | None = None


class Update(BaseModel):
    """One move of the weights inside a step: a forward of its losses, their gradient, and an optimizer of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    losses: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of the losses that it minimizes; all by default"
    )
    groups: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of the groups that it moves; all that trains by default"
    )
    optimizer: Optimizer | None = Field(default=None, description="the stage's by default, with a state of its own")
    schedule: Scheduled | None = Field(default=None, description="factor on its learning rates; the stage's by default")
    every: int = Field(default=1, ge=1, description="steps: it takes part in the first and then in each so many")
    normalize: Literal["each", "joint"] = Field(
        default="each",
        description="each: a loss is the mean over its own rows; joint: the sums over the rows of all of its losses "
        "are divided once, by the number of these rows",
    )
    reuse: str | None = Field(
        default=None, description="an earlier update of the step, whose forward serves for this one's gradients too"
    )


class Start(BaseModel):
    """The model that a stage begins with, and what it takes over from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    model: Ref[Model] = Field(alias="from", description="the stage whose model it is")
    only: tuple[str, ...] | None = Field(
        None, min_length=1, description="entries that are taken over (`encoders.image`, `losses.*`); all by default"
    )
    memories: bool = Field(True, description="with the content of memories, which begin empty otherwise")


Time = dict[Literal["steps", "epochs"], float]
"""A number of steps or of epochs: `{epochs: 1}`."""


class Refresh(BaseModel):
    """Stages that run inside a training, again and again, on the model as it is then.

    Their columns join the data by id and their static outputs are constants until the next time; a model that one of
    them gives takes the place of the current one. Its times are `from`, `from` + `every` and so on, before a step; the
    end is one of them where it falls on it, and always for stages that measure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    every: Time = Field({"epochs": 1}, description="steps or epochs between two times")
    since: Time | None = Field(
        None,
        alias="from",
        description="the first time: the start where the training reads what they give, else after one `every`",
    )
    until: Time | None = Field(None, description="no time from then on")
    carry: dict[str, Written] = Field({}, description="the values that the first time begins with")
    stages: dict[str, Written] = Field({}, description="the stages, in order")
    next: dict[str, Written] = Field({}, description="the values that the next time begins with")

    @field_validator("every", "since", "until")
    @classmethod
    def _one_unit(cls, value: Time | None) -> Time | None:
        if value is None:
            return value
        if len(value) != 1:
            raise ValueError("give a number of steps or of epochs: {epochs: 1}")
        if min(value.values()) < 0:
            raise ValueError("give a number that is not negative")
        return value

    @field_validator("every")
    @classmethod
    def _whole(cls, value: Time) -> Time:
        (unit, number), *_ = value.items()
        if number <= 0 or (unit == "steps" and number != int(number)):
            raise ValueError("give a whole number of steps, or epochs above 0")
        return value


JUDGED = rf"^{NAME.pattern}$"


class Keep(BaseModel):
    """The model that a training leaves: the one that measured best, instead of the last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    best: str = Field(pattern=JUDGED, max_length=300, description="a metric of `refresh`, such as dev.score.accuracy")


class Stop(BaseModel):
    """An early end of a training: after `patience` measurements in a row that did not improve on the best before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience: int = Field(ge=1, description="measurements; of a loss epochs")
    of: str = Field(
        pattern=JUDGED,
        max_length=300,
        description="a metric of `refresh`, such as dev.score.accuracy, or losses.NAME or losses.total",
    )

    def loss(self) -> str:
        """The name of the loss that decides; empty where a metric does."""
        section, _, name = self.of.partition(".")
        return name if section == "losses" else ""


TOTAL = "total"
"""The weighted sum of all losses, where a loss is named."""


class Training(DataStage):
    """A stage that trains: its data, batches, losses, optimizer and records."""

    gives: ClassVar[Mapping[str, str]] = {"model": "Model", "history": "Files"}
    trains: ClassVar[bool] = True
    inner: ClassVar[str] = "refresh"

    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=1)
    micro_batch_size: int | None = Field(None, ge=1)
    sampler: Sampler = default("shuffle")
    losses: tuple[str, ...] | None = Field(None, description="names of the losses to minimize; all by default")
    optimizer: Optimizer = default("adamw")
    schedule: Scheduled = default(1.0, description="factor on every learning rate")
    clip: float | None = Field(None, gt=0, description="largest global norm of the gradient")
    precision: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    groups: dict[str, Group] = in_order({}, description="what trains, by path; the last match wins")
    updates: dict[str, Update] = in_order({}, description="the moves of a step, in order; one of all losses by default")
    seed: int | None = outside_identity(
        None, ge=0, lt=2**63, description="of the stage's weights, batches and draws, instead of the spec's"
    )
    start: Ref[Model] | Start | None = Field(
        None, description="the stage whose model this one begins with; init: untrained"
    )
    refresh: dict[str, Refresh] = in_order({}, description="stages that run inside, by the names of their groups")
    keep: Keep | None = Field(None, description="the model to leave; the last by default")
    stop: Stop | None = Field(None, description="when to end early")
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
        if not self.updates or any(update.losses is None for update in self.updates.values()):
            return losses if self.losses is None else self.losses
        named = {name: None for update in self.updates.values() for name in update.losses or ()}
        return [*(name for name in losses if name in named), *(name for name in named if name not in losses)]

    def planned(self) -> Mapping[str, Update]:
        """The updates of a step, in order: one of all losses, called `all`, where the spec names none."""
        return self.updates or {"all": Update()}

    def sizes(self) -> BatchSizes:
        rows = sum(drawn.size for drawn in self.drawn().values())
        return BatchSizes(rows, min(self.micro_batch_size or rows, rows))

    def drawn(self) -> Mapping[str, StreamBatches]:
        streams = self.streams()
        if not streams:
            return {"": StreamBatches(self.sampler, self.batch_size)}
        return {
            name: StreamBatches(stream.sampler or self.sampler, stream.batch_size or self.batch_size)
            for name, stream in streams.items()
        }

    def taken(self) -> Sequence[str] | None:
        return self.start.only if isinstance(self.start, Start) else None

    def order(self) -> Sampler:
        return self.sampler

    def patterns(self) -> Mapping[str, str]:
        return {name: group.match for name, group in self.groups.items()}

    def judges(self) -> Mapping[Place, str]:
        named: dict[Place, str] = {} if self.keep is None else {("keep", "best"): self.keep.best}
        return named | ({} if self.stop is None or self.stop.loss() else {("stop", "of"): self.stop.of})

    def faults(self, losses: Sequence[str]) -> Iterator[Fault]:
        yield from super().faults(losses)
        yield from _unknown("loss", self.losses, losses, ("losses",), "the section `losses` is empty")
        named = [name for name, update in self.updates.items() if update.losses is not None]
        if named and self.losses is not None:
            message = f"`losses` of the stage and of its update {named[0]} both choose"
            yield Fault(("losses",), message, "leave one of the two out")
        earlier: list[str] = []
        for name, update in self.updates.items():
            place = ("updates", name)
            yield from _unknown("loss", update.losses, losses, (*place, "losses"), "the section `losses` is empty")
            yield from _unknown(
                "group", update.groups, tuple(self.groups), (*place, "groups"), "the stage has no `groups`"
            )
            yield from self._reuse_faults(name, update, earlier)
            earlier.append(name)
        if self.updates and all(update.groups is not None for update in self.updates.values()):
            moved = {group for update in self.updates.values() for group in update.groups or ()}
            for group in self.groups:
                if group not in moved:
                    yield Fault(
                        ("groups", group), f"no update moves the group `{group}`",
                        "name it in `groups` of an update, or leave it out: what no group matches is frozen",
                    )  # fmt: skip
        minimized = [*self.minimized(losses), TOTAL]
        if self.stop is not None and (named_loss := self.stop.loss()) and named_loss not in minimized:
            message = f"the stage minimizes no loss `{named_loss}`"
            yield Fault(("stop", "of"), message, "", f"losses.{named_loss}", [f"losses.{name}" for name in minimized])
        yield from self._late_faults()

    def _late_faults(self) -> Iterator[Fault]:
        """A sampler reads columns from the first batch on."""
        drawn: list[tuple[Place, Sampler | None, Mapping[str, Ref[Column | Static]]]] = [
            (("data", name, "sampler"), stream.sampler, stream.fields) for name, stream in self.streams().items()
        ]
        for place, sampler, fields in (*drawn, (("sampler",), self.sampler, self.fields)):
            for field in reference_fields(type(sampler)) if sampler is not None else ():
                reference = getattr(sampler, field)
                joined = fields.get(str(reference)) if reference is not None else None
                path = (joined or reference).path if reference is not None else ("",)
                group = self.refresh.get(path[path[0] == "stages"])
                if group is not None and group.since is not None and any(group.since.values()):
                    message = f"the sampler reads `{'.'.join(path)}` from the first batch on, and it is there later"
                    hint = f"leave out `from` of `refresh.{path[path[0] == 'stages']}`"
                    yield Fault((*place, field), message, hint)

    def _reuse_faults(self, name: str, update: Update, earlier: Sequence[str]) -> Iterator[Fault]:
        if update.reuse is None:
            return
        place = ("updates", name, "reuse")
        if update.reuse not in earlier:
            said = "itself" if update.reuse == name else f"`{update.reuse}`, which comes later in the step"
            message = f"the update {name} reuses the forward of {said}"
            if update.reuse not in self.updates:
                message = f"there is no update `{update.reuse}`"
            hint = "name an update that stands above it" if earlier else "the first update has none before it"
            yield Fault(place, message, hint, update.reuse, earlier)
        elif update.every % self.updates[update.reuse].every:
            other = self.updates[update.reuse].every
            message = f"`{update.reuse}` runs every {other} steps, and {name} every {update.every}"
            yield Fault(place, message, f"let {name} run every {other} steps, or a multiple of that")

    def refuses_stream(self, source: Source, stream: str) -> Iterator[Fault]:
        from mmflow.data.samples import random_access_needed

        drawn = self.drawn()
        if refused := random_access_needed(drawn[stream].sampler, source):
            own = stream and self.streams()[stream].sampler is not None
            yield Fault(("data", stream, "sampler") if own else ("sampler",), *refused)
        streaming = source.streaming()
        leads = stream == next(iter(drawn))
        if self.epochs is not None and leads and streaming is not None and streaming.samples is None:
            message = "how many batches an epoch of a streamed source has is not known before it is read"
            hint = "give `steps:`, or the number of samples in the source: `stream: {samples: N}`"
            yield Fault(("epochs",), message, hint)


def _unknown(
    kind: str, named: Sequence[str] | None, known: Sequence[str], place: Place, otherwise: str
) -> Iterator[Fault]:
    for index, name in enumerate(named or ()):
        if name not in known:
            yield Fault((*place, index), f"there is no {kind} `{name}`", otherwise, name, known)
        elif name in (named or ())[:index]:
            yield Fault((*place, index), f"the {kind} `{name}` stands twice", "leave one out")
