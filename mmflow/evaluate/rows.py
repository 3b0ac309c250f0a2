"""All rows of a data entry as an evaluator sees them: encodings, from the store where they are there, and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from mmflow.artifacts import ModelArtifact
from mmflow.data import ColumnRequest, count_of, scan
from mmflow.evaluate.parts import Part, check_finite, common_rows, join, joined, values_of
from mmflow.model.model import Model
from mmflow.model.rows import pick
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source, StageContext, StageScope, StageStopped
from mmflow.plugin.targets import Owner, Place, Target
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
    """The outputs of an encoder that a reference brings, each under the name by which its reader finds it."""

    target: Target
    outputs: Mapping[str, str]
    reference: str = ""
    """The reference as the spec has it, where it must bring the forms that its reader needs."""

    @property
    def encoder(self) -> Target:
        """The encoder itself, to which its stored encodings belong, without the output and member that are picked."""
        return Target("encoders", self.target.name, stage=self.target.stage)

    def of(self, encoding: Encoding) -> Encoding:
        """The part that is referred to: its outputs under the names of their reader, the chosen member of a group."""
        encoding = replace(encoding, outputs={name: encoding.outputs[own] for name, own in self.outputs.items()})
        return encoding if self.target.index is None else pick(encoding, self.target)

    def checked(self, encoding: Encoding) -> Encoding:
        """The part that is referred to; raises `ComponentError` where an output has not the form that is read."""
        found = self.of(encoding)
        for name, own in self.outputs.items():
            form = form_of(found.outputs[name], len(found.axes) - 1)
            if (wanted := misfit(name, own, form)) is not None:
                raise ComponentError(f"`{self.reference}` is {form}, and {wanted} is needed")
        return found


_Column = tuple[Target, str]
"""An encoder and one of its outputs."""

_Parts = dict["_Column | Place", Part]
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
            trained = stage or scope.model
            seed, upstream = context.spec.seed, context.upstream
            if trained is not None:
                model = Model.load(ModelArtifact(upstream(trained)), scope, wanted, seed=seed, upstream=upstream)
                for encoder in model.drawn:
                    context.remark(
                        f"{encoder} has no weights in the model of {trained}, as no loss of a training reads it: it is "
                        "measured as it was drawn"
                    )
            else:
                source = scope.source if scope.preparation_data is None else context.spec.data[scope.preparation_data]
                states = Model.learn_states(scope, wanted, source, upstream=upstream)
                model = Model.create(scope, wanted, seed=seed, states=states, upstream=upstream)
            self._models[stage, wanted] = model.to(context.device)
        return self._models[stage, wanted]

    def _scope(self, stage: str | None) -> StageScope:
        return self.context.scope if stage is None else self.context.spec.scope(stage)

    def rows(self, wanted: Sequence[Wanted], fields: Mapping[Place, Target], data: str | None = None) -> Rows:
        """Embed the entry `data` (the stage's own where None) and read `fields`, in one pass over the data.

        Encodings that the store has are not computed again. Rows are joined by id: where some samples cannot be read
        for one of the columns, the rows that all columns have are left. Raises `ComponentError` where there is none,
        or a vector is not finite.
        """
        places = list(dict.fromkeys((want.encoder, output) for want in wanted for output in want.outputs.values()))
        found: _Parts = {place: part for place in places if (part := self._stored(*place, data)) is not None}
        missing = [place for place in places if place not in found]
        unread = dict(fields)
        for stage in dict.fromkeys(encoder.stage for encoder, _ in missing):
            found |= self._read([place for place in missing if place[0].stage == stage], unread, data, stage)
            unread = {}
        if unread or not found:
            found |= self._read([], unread, data, None)
        for place in missing:
            self.context.memo(self._identity(*place, data), found[place].write)
        for place in places:
            check_finite(found[place].value, f"{place[0].name}.{place[1]}")
        ids = common_rows(list(found.values()))
        if not ids:
            raise ComponentError(f"the data {data or self.context.scope.data_name!r} has no rows to evaluate")
        device = torch.device(self.context.device)
        encodings = []
        for want in wanted:
            parts = [found[want.encoder, output].rows(ids) for output in want.outputs.values()]
            merged = {name: value for part in parts for name, value in part.outputs.items()}
            encoding = replace(parts[0], outputs=merged)
            found_part = want.checked(encoding) if want.reference else want.of(encoding)
            encodings.append(found_part.map(lambda t: t.to(device)))
        columns = {name: found[name].rows(ids) for name in fields}
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in columns.items()}
        skipped = {id: reason for part in found.values() for id, reason in part.skipped.items()}
        return Rows(tuple(encodings), moved, ids, skipped)

    def _identity(self, encoder: Target, output: str, data: str | None) -> dict[str, Json]:
        identity = self.context.encoder_identity(encoder, data) if data else self.context.encoder_identity(encoder)
        return {"encodings": dict(identity), "output": output}

    def _stored(self, encoder: Target, output: str, data: str | None) -> Part | None:
        try:
            return Part.read(self.context.memo(self._identity(encoder, output, data), _not_here))
        except _NotStored:
            return None

    def _read(
        self, missing: Sequence[_Column], fields: Mapping[Place, Target], data: str | None, stage: str | None
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
        self, missing: Sequence[_Column], fields: Mapping[Place, Target], data: str | None, stage: str | None
    ) -> _Parts:
        context, scope = self.context, self._scope(stage)
        source = context.scope.source if data is None else context.spec.data[data]
        if source is None:
            raise ComponentError(f"stage {context.name} names no data to read")
        requests = [ColumnRequest(_row_key(place), target) for place, target in fields.items()]
        wanted: dict[Target, list[str]] = {}
        for encoder, output in missing:
            wanted.setdefault(encoder, []).append(output)
        model = None
        if wanted:
            model = self.model([Owner("encoders", encoder.name) for encoder in wanted], stage)
            requests += model.requests()
        self._check_fields(source, requests, data)
        by_outputs: dict[tuple[str, ...], list[Target]] = {}
        for encoder, outputs in wanted.items():
            by_outputs.setdefault(tuple(outputs), []).append(encoder)
        total = count_of(source)
        ids: list[str] = []
        skipped: dict[str, str] = {}
        columns: dict[Place, list[Argument]] = {place: [] for place in fields}
        pieces: dict[_Column, list[Encoding]] = {}
        batches = scan(
            source, scope.views, requests, batch_size=self.batch_size, workers=context.workers, seed=context.spec.seed
        )
        for batch in batches:
            if context.report.should_stop():
                raise StageStopped(f"stopped while embedding row {len(ids)} of {total or 'an unknown number'}")
            skipped |= {id: reason for id, (reason, _) in batch.skipped.items()}
            if not batch.ids:
                continue
            ids += batch.ids
            for place in fields:
                columns[place].append(values_of(batch, _row_key(place)))
            for outputs, encoders in by_outputs.items():
                assert model is not None
                encoded = model.encode([encoder.name for encoder in encoders], batch, outputs)
                for encoder in encoders:
                    for name in outputs:
                        one = encoded[encoder.name]
                        one = replace(one, outputs={name: one.outputs[name]}).map(lambda t: t.detach().cpu())
                        pieces.setdefault((encoder, name), []).append(one)
            done = len(ids) + len(skipped)
            context.report.progress(done, total or done)
        if not ids:
            raise ComponentError(f"the data {data or context.scope.data_name!r} has no rows to evaluate")
        # The rows themselves are there for those who ask for nothing of them, or for a stage's column alone.
        parts: _Parts = {(): Part(ids, ids, skipped)} if not columns and not pieces else {}
        parts |= {name: Part(ids, joined(values), skipped) for name, values in columns.items()}
        return parts | {place: Part(ids, join(encodings), skipped) for place, encodings in pieces.items()}

    def _check_fields(self, source: Source, requests: Sequence[ColumnRequest], data: str | None) -> None:
        """The spec was checked against the stage's own data; a second entry may lack what the model reads."""
        if data is None:
            return
        known = source.fields()
        for request in requests:
            if request.target.section == "fields" and request.target.name not in known:
                raise ComponentError(
                    f"data {data!r} has no field {request.target.name!r}, which stage {self.context.name} reads",
                    expected=", ".join(known),
                )


def _row_key(place: Place) -> str:
    """The key of a batch column that an evaluator reads itself."""
    return ":".join(map(str, ("row", *place)))


class _NotStored(Exception):
    """The store has nothing under this identity."""


def _not_here(_: Path) -> None:
    raise _NotStored
