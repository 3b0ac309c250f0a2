"""One pass over data: outputs of encoders and fields, batch by batch, and what has rows of an axis of its own, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mmflow.data import Batch, ColumnBatch, ColumnRequest, count_of, scan, static_columns, static_ids
from mmflow.evaluate.parts import Part, values_of
from mmflow.model.model import Model
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Source, StageContext, StageScope, StageStopped
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import Argument, Encoding
from mmflow.spec.references.views import fields_of

WHOLE = "whole"
"""The first word of the place of a field that is read as an encoding: values with axes and presence."""

Column = tuple[Target, str]
"""An encoder and one of its outputs."""

Found = Mapping["Column | Place", Argument]
"""Values of the rows of a batch."""


@dataclass(frozen=True)
class Reading:
    """Outputs of encoders of one model (`missing`) and fields by their places, over the rows of `source`."""

    context: StageContext
    source: Source
    scope: StageScope
    model: Model | None
    batch_size: int
    missing: Sequence[Column]
    fields: Mapping[Place, Target]

    @cached_property
    def targets(self) -> dict[Place, Target]:
        """The fields that are read; outputs of stages have joined the data as fields."""
        return {place: target.as_field for place, target in self.fields.items()}

    @cached_property
    def sampled(self) -> dict[Place, Target]:
        """The fields of the samples; others have rows of their own."""
        known = self.source.fields()
        static = {name for name, declared in known.items() if declared.static}
        return {place: t for place, t in self.targets.items() if t.section != "fields" or t.name not in static}

    @cached_property
    def encoders(self) -> dict[tuple[str, ...], list[Target]]:
        """The encoders that run on samples, by the outputs that are wanted of them."""
        return self._by_outputs(static=False)

    @property
    def plain(self) -> bool:
        """Whether nothing is asked for but the rows themselves."""
        return not self.fields and not self.missing

    @property
    def passes(self) -> bool:
        """Whether samples are read at all."""
        return self.plain or bool(self.sampled or self.encoders)

    def check_fields(self, data: str) -> None:
        """Raise `ComponentError` where the data has no such field: a spec is checked against a stage's own data, with
        the names of its own model."""
        known = self.source.fields()
        for request in self._requests():
            lacking = [name for name in fields_of(request.target, self.scope.views) if name not in known]
            if lacking:
                raise ComponentError(
                    f"data {data} has no field {lacking[0]!r}, which stage {self.context.name} reads",
                    expected=", ".join(known),
                )

    def batches(self) -> Iterator[tuple[Batch, Found]]:
        """Each batch with its values. Raises `StageStopped` where the run is asked to stop."""
        if not self.passes:
            return
        context, done, total = self.context, 0, count_of(self.source)
        batches = scan(
            self.source, self.scope.views, self._requests(), batch_size=self.batch_size, workers=context.workers,
            seed=context.scope.seed,
        )  # fmt: skip
        for batch in batches:
            if context.report.should_stop():
                raise StageStopped(f"stopped while reading row {done} of {total or 'an unknown number'}")
            found: dict[Column | Place, Argument] = {}
            if batch.ids:
                for place in self.sampled:
                    column = batch.columns[_row_key(place)]
                    found[place] = encoding_of(column) if place[0] == WHOLE else values_of(column)
                found |= self._encoded(self.encoders, batch)
            done += len(batch.ids) + len(batch.skipped)
            yield batch, found
            context.report.progress(done, total or done)

    def static_parts(self) -> dict[Column | Place, Part]:
        """What has rows of an axis of its own."""
        parts: dict[Column | Place, Part] = {}
        fields = self.source.fields()
        static = {place: target for place, target in self.targets.items() if place not in self.sampled}
        encoders = self._by_outputs(static=True)
        if not static and not encoders:
            return parts
        rows = self.source.open().static()
        requests = [ColumnRequest(_row_key(place), target) for place, target in static.items()]
        columns = static_columns(self.source, requests)
        for place, target in static.items():
            column = columns[_row_key(place)]
            axis = fields[target.name].axes[0]
            value = encoding_of(column) if place[0] == WHOLE else values_of(column)
            parts[place] = Part(static_ids(fields, rows, axis), value, axis=axis)
        for place, encoding in self._encoded(encoders, Batch({}, [], 0)).items():
            axis = encoding.axes[0]
            parts[place] = Part(static_ids(fields, rows, axis), encoding, axis=axis)
        return parts

    def _requests(self) -> list[ColumnRequest]:
        requests = [ColumnRequest(_row_key(place), target) for place, target in self.sampled.items()]
        return requests + (self.model.requests() if self.model is not None and self.encoders else [])

    def _by_outputs(self, *, static: bool) -> dict[tuple[str, ...], list[Target]]:
        wanted: dict[Target, list[str]] = {}
        for encoder, output in self.missing:
            wanted.setdefault(encoder, []).append(output)
        found: dict[tuple[str, ...], list[Target]] = {}
        for encoder, outputs in wanted.items():
            if self._is_static(encoder) == static:
                found.setdefault(tuple(outputs), []).append(encoder)
        return found

    def _is_static(self, encoder: Target) -> bool:
        return self.model is not None and self.model.graph.nodes[Owner("encoders", encoder.name)].static

    def _encoded(
        self, encoders: Mapping[tuple[str, ...], Sequence[Target]], batch: Batch
    ) -> dict[Column | Place, Argument]:
        found: dict[Column | Place, Argument] = {}
        for outputs, targets in encoders.items():
            assert self.model is not None
            encoded = self.model.encode([encoder.name for encoder in targets], batch, outputs)
            for encoder in targets:
                for name in outputs:
                    one = encoded[encoder.name]
                    found[encoder, name] = replace(one, outputs={name: one.outputs[name]}).map(
                        lambda tensor: tensor.detach().cpu()
                    )
        return found


def encoding_of(column: ColumnBatch) -> Encoding:
    """A field or view that is measured itself: its values as the output `pooled`."""
    return Encoding({"pooled": column.values}, column.axes, column.present)


def _row_key(place: Place) -> str:
    """The key of a batch column that is read for itself."""
    return ":".join(map(str, ("row", *place)))
