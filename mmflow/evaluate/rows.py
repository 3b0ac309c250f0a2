"""All rows of a data entry as an evaluator sees them: encodings, from the store where they are there, and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from mmflow.artifacts import ModelArtifact
from mmflow.evaluate.parts import Part, check_finite, common_axis, common_rows, join, joined
from mmflow.evaluate.reading import WHOLE, Column, Reading
from mmflow.model.model import Model
from mmflow.model.rows import pick
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import StageContext, StageScope
from mmflow.plugin.targets import INIT, Owner, Place, Target
from mmflow.plugin.values import Argument, Encoding, Json
from mmflow.spec.references.forms import form_of, misfit


@dataclass(frozen=True)
class Rows:
    """Every row of one data entry, in the source's order.

    `of` holds one encoding for each reference in `of`; `fields` maps the names of an evaluator's other references
    to columns: a tensor [N, ...], `Tokens`, or a list. Absent values are NaN in floats, None in lists, -1 in labels
    and in arrays of integers, and `ABSENT` in other integers.
    """

    of: tuple[Encoding, ...]
    fields: Mapping[Place, Argument]
    ids: list[str]
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Samples that the source's policy left out, with the reason."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Wanted:
    """The outputs of an encoder that a reference brings, each under the name by which its reader finds it; of a field
    or column its values, as the output `pooled`."""

    target: Target
    outputs: Mapping[str, str]
    reference: str = ""
    """The reference as the spec has it, where it must bring the forms that its reader needs."""

    @property
    def encoded(self) -> bool:
        """Whether an encoder gives it."""
        return self.target.section == "encoders"

    @property
    def encoder(self) -> Target:
        """The encoder itself, to which its stored encodings belong, without the output and member that are picked."""
        return Target("encoders", self.target.name, stage=self.target.stage)

    def of(self, encoding: Encoding) -> Encoding:
        """The part that is referred to: its outputs under the names of their reader, the chosen member of a group.

        Raises `ComponentError` where an output has not the form that its reader needs.
        """
        if not self.encoded:
            return encoding
        found = replace(encoding, outputs={name: encoding.outputs[own] for name, own in self.outputs.items()})
        found = found if self.target.index is None else pick(found, self.target)
        for name, own in self.outputs.items() if self.reference else ():
            form = form_of(found.outputs[name], len(found.axes) - 1)
            if (wanted := misfit(name, own, form)) is not None:
                raise ComponentError(f"`{self.reference}` is {form}, and {wanted} is needed")
        return found


_Parts = dict["Column | Place", Part]
"""Columns of all rows: encodings, and fields by the places that refer to them."""


@dataclass
class Embedder:
    """Embeds data entries with the model that a stage uses; encodings are stored once for each encoder and output.

    `model(roots)` loads a model when it is first asked for.
    """

    context: StageContext
    batch_size: int
    _models: dict[tuple[str | None, tuple[Owner, ...]], Model] = field(default_factory=dict)

    def model(self, roots: Sequence[Owner], stage: str | None = None) -> Model:
        """The model of the stage (or of the train stage `stage`) as far as `roots` need it, on the stage's device."""
        wanted = tuple(dict.fromkeys(roots))
        if (stage, wanted) not in self._models:
            context, scope = self.context, self._scope(stage)
            trained = None if stage == INIT else stage or scope.model
            seed, upstream = context.scope.seed, context.upstream
            if trained is not None:
                model = Model.load(ModelArtifact(upstream(trained)), scope, wanted, seed=seed, upstream=upstream)
                for encoder in model.drawn:
                    context.remark(
                        f"{encoder} has no weights in the model of {trained}, as no loss of a training reads it: it is "
                        "measured as it was drawn"
                    )
            else:
                data = scope.preparation_data
                source = scope.source if data is None else context.source(data)
                states = Model.learn_states(scope, wanted, source, upstream=upstream)
                model = Model.create(scope, wanted, seed=seed, states=states, upstream=upstream)
            self._models[stage, wanted] = model.to(context.device)
        return self._models[stage, wanted]

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers of the stage's model by path, on the CPU; all of them where it is a trained one."""
        scope = self.context.scope
        if scope.model is not None:
            return ModelArtifact(self.context.upstream(scope.model)).weights()
        return self.model(scope.roots()).weights()

    def _scope(self, stage: str | None) -> StageScope:
        if stage == INIT:
            return self.context.scope.untrained
        return self.context.scope if stage is None else self.context.spec.scope(stage)

    def rows(self, wanted: Sequence[Wanted], fields: Mapping[Place, Target], data: Target | None = None) -> Rows:
        """Embed the rows of `data` (the stage's own where None) and read `fields`, in one pass over the data.

        Encodings that the store has are not computed again. Rows are joined by id: where some samples cannot be read
        for one of the columns, the rows that all columns have are left; what has rows of an axis of its own (names of
        classes) stays whole beside samples. Raises `ComponentError` where there is no row, or a vector is not finite.
        """
        encoded = [want for want in wanted if want.encoded]
        places = list(dict.fromkeys((want.encoder, output) for want in encoded for output in want.outputs.values()))
        found: _Parts = {place: part for place in places if (part := self._stored(*place, data)) is not None}
        missing = [place for place in places if place not in found]
        unread = dict(fields) | {(WHOLE, str(want.target)): want.target for want in wanted if not want.encoded}
        for stage in dict.fromkeys(encoder.stage for encoder, _ in missing):
            found |= self._read([place for place in missing if place[0].stage == stage], unread, data, stage)
            unread = {}
        if unread or not found:
            found |= self._read([], unread, data, None)
        for place in missing:
            self.context.memo_files(self._identity(*place, data), found[place].write)
        for place in places:
            check_finite(found[place].value, f"{place[0].name}.{place[1]}")
        ids, axis = common_rows(list(found.values())), common_axis(list(found.values()))
        if not ids:
            raise ComponentError(f"the data {self._named(data)} has no rows to evaluate")

        def of(place: Column | Place) -> Argument:
            part = found[place]
            return part.rows(ids) if part.axis == axis else part.value

        device = torch.device(self.context.device)
        encodings = []
        for want in wanted:
            outputs = [(want.encoder, output) for output in want.outputs.values()] if want.encoded else []
            parts = [of(place) for place in outputs or [(WHOLE, str(want.target))]]
            merged = {name: value for part in parts for name, value in part.outputs.items()}
            encodings.append(want.of(replace(parts[0], outputs=merged)).map(lambda t: t.to(device)))
        columns = {name: of(name) for name in fields}
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in columns.items()}
        skipped = {id: reason for part in found.values() for id, reason in part.skipped.items()}
        return Rows(tuple(encodings), moved, ids, skipped)

    def _named(self, data: Target | None) -> str:
        return repr(str(data) if data is not None else self.context.scope.data_name)

    def _identity(self, encoder: Target, output: str, data: Target | None) -> dict[str, Json]:
        identity = self.context.encoder_identity(encoder, data) if data else self.context.encoder_identity(encoder)
        return {"encodings": dict(identity), "output": output}

    def _stored(self, encoder: Target, output: str, data: Target | None) -> Part | None:
        try:
            return Part.read(self.context.memo_files(self._identity(encoder, output, data), _not_here))
        except _NotStored:
            return None

    def _read(
        self, missing: Sequence[Column], fields: Mapping[Place, Target], data: Target | None, stage: str | None
    ) -> _Parts:
        """Outputs and fields from one pass over the data, or from one pass each where samples are skipped.

        Which samples can be read depends on the fields that are read; an encoder's stored rows must not depend on
        the other columns of the same request.
        """
        parts = self._scan(missing, fields, data, stage)
        encoders = list(dict.fromkeys(encoder for encoder, _ in missing))
        if len(encoders) + bool(fields) > 1 and any(part.skipped for part in parts.values()):
            parts = self._scan([], fields, data, stage) if fields else {}
            for encoder in encoders:
                parts |= self._scan([place for place in missing if place[0] == encoder], {}, data, stage)
        return parts

    def _scan(
        self, missing: Sequence[Column], fields: Mapping[Place, Target], data: Target | None, stage: str | None
    ) -> _Parts:
        reading = self.reading(missing, fields, data, stage)
        columns: dict[Column | Place, list[Argument]] = {place: [] for place in reading.sampled}
        pieces: dict[Column | Place, list[Encoding]] = {}
        ids: list[str] = []
        skipped: dict[str, str] = {}
        for batch, found in reading.batches():
            skipped |= {id: reason for id, (reason, _) in batch.skipped.items()}
            ids += batch.ids
            for place, value in found.items():
                if place in columns:
                    columns[place].append(value)
                else:
                    pieces.setdefault(place, []).append(value)
        # The rows themselves are there for those who ask for nothing of them, or for a stage's column alone.
        parts: _Parts = {(): Part(ids, ids, skipped)} if reading.plain else {}
        if reading.passes and not ids:
            raise ComponentError(f"the data {self._named(data)} has no rows to evaluate")
        for name, values in columns.items():
            whole = join(values) if name[0] == WHOLE else joined(values)
            parts[name] = Part(ids, whole, skipped)
        parts |= {place: Part(ids, join(encodings), skipped) for place, encodings in pieces.items()}
        return parts | reading.static_parts()

    def reading(
        self, missing: Sequence[Column], fields: Mapping[Place, Target], data: Target | None, stage: str | None
    ) -> Reading:
        """What one pass over the data reads: outputs of encoders of one model, and fields."""
        context = self.context
        source = context.scope.source if data is None else context.source(data)
        if source is None:
            raise ComponentError(f"stage {context.name} names no data to read")
        model = None
        if missing:
            model = self.model([Owner("encoders", encoder.name) for encoder, _ in missing], stage)
            model.read_from(source)
        reading = Reading(context, source, self._scope(stage), model, self.batch_size, missing, fields)
        reading.check_fields(self._named(data))
        return reading


class _NotStored(Exception):
    """The store has nothing under this identity."""


def _not_here(_: Path) -> None:
    raise _NotStored
