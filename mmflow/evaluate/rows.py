"""All rows of a data entry as an evaluator sees them: encodings, from the store where they are there, and fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmflow.data import Batch, ColumnRequest, scan
from mmflow.model.model import Model
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import StageContext, StageStopped
from mmflow.plugin.values import Encoding, Tokens
from mmflow.spec.target import Target


@dataclass(frozen=True)
class Rows:
    """Every row of one data entry, in the source's order.

    `of` holds one encoding for each reference in `of`; `fields` maps the names of an evaluator's other references
    to columns: a tensor [N, ...], `Tokens`, or a list. What is absent is -1 in integers, NaN in floats and None in
    lists.
    """

    of: tuple[Encoding, ...]
    fields: Mapping[str, Any]
    ids: list[str]
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Samples that the source's policy left out, with the reason, as far as the data were read now."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Wanted:
    """An encoder's outputs that somebody reads."""

    target: Target
    outputs: tuple[str, ...]

    @property
    def encoder(self) -> Target:
        """The encoder itself, without what is picked from it: what its stored encodings belong to."""
        return Target("encoders", self.target.name, stage=self.target.stage)

    def of(self, encoding: Encoding) -> Encoding:
        """What the reference leads to: the chosen output as `pooled`, the chosen member of the first group axis."""
        if self.target.output is not None and self.target.output != "tokens":
            encoding = replace(encoding, outputs={"pooled": encoding.outputs[self.target.output]})
        if (index := self.target.index) is not None:
            if len(encoding.axes) < 2:
                raise ComponentError(f"{self.target.name}.{index}: {self.target.name} has no group axis to pick from")
            encoding = replace(encoding.map(lambda t: t[:, index]), axes=(encoding.axes[0], *encoding.axes[2:]))
        return encoding


@dataclass
class Embedder:
    """Embeds data entries with the model that a stage uses; encodings are stored once for each encoder and output.

    `model(roots)` loads what it needs when it is first asked.
    """

    context: StageContext
    batch_size: int
    _models: dict[tuple[str | None, tuple[str, ...]], Model] = field(default_factory=dict)
    _skipped: dict[str, str] = field(default_factory=dict)

    def model(self, roots: Sequence[str], stage: str | None = None) -> Model:
        """The model of the stage (or of the train stage `stage`) as far as `roots` (`encoders.image`, `parts.late`)
        need it, on the stage's device."""
        wanted = tuple(dict.fromkeys(roots))
        if (stage, wanted) not in self._models:
            context, scope = self.context, self._scope(stage)
            trained = stage or scope.model
            shared: dict[str, Any] = {"seed": context.spec.seed, "upstream": context.upstream}
            if trained is not None:
                model = Model.load(context.upstream(trained) / "model", scope, wanted, **shared)
            else:
                source = scope.source if scope.preparation_data is None else context.spec.data[scope.preparation_data]
                states = Model.learn_states(scope, wanted, source)
                model = Model.create(scope, wanted, states=states, **shared)
            self._models[stage, wanted] = model.to(context.device)
        return self._models[stage, wanted]

    def _scope(self, stage: str | None) -> Any:
        return self.context.scope if stage is None else self.context.spec.scope(stage)

    def rows(self, wanted: Sequence[Wanted], fields: Mapping[str, Target], data: str | None = None) -> Rows:
        """Embed the entry `data` (the stage's own where None) and read `fields`, in one pass over the data.

        Encodings that the store has are not computed again. Raises `ComponentError` where there is no row, a vector
        is not finite, or a stored encoding belongs to other rows.
        """
        found: dict[tuple[Target, str], tuple[Encoding, list[str]]] = {}
        missing: dict[Target, list[str]] = {}
        for want in wanted:
            for output in want.outputs:
                place = (want.encoder, output)
                if place in found or output in missing.get(want.encoder, ()):
                    continue
                if (stored := self._stored(*place, data)) is not None:
                    found[place] = _read(stored)
                else:
                    missing.setdefault(want.encoder, []).append(output)
        columns: dict[str, Any] = {}
        ids: list[str] | None = None
        self._skipped = {}
        stages = list(dict.fromkeys(encoder.stage for encoder in missing))
        if not stages and (fields or not found):
            stages = [None]
        for stage in stages:
            here = {encoder: outputs for encoder, outputs in missing.items() if encoder.stage == stage}
            ids, read, fresh = self._scan(here, {} if columns else fields, data, stage)
            columns |= read
            for (encoder, output), encoding in fresh.items():
                self._store(encoder, output, data, encoding, ids)
                found[encoder, output] = encoding, ids
        for (encoder, output), (encoding, own) in found.items():
            ids = own if ids is None else ids
            if own != ids:
                raise ComponentError(
                    f"the stored encodings of {encoder.name} belong to other rows than {data or 'the data'} has now",
                    hint="the data changed without its fingerprint: run with --force",
                )
            _check(encoding, f"{encoder.name}.{output}")
        if not ids:
            raise ComponentError(f"the data {data or self.context.scope.data_name!r} has no rows to evaluate")
        device = torch.device(self.context.device)
        encodings = []
        for want in wanted:
            parts = [found[want.encoder, output][0] for output in want.outputs]
            merged = {name: value for part in parts for name, value in part.outputs.items()}
            encodings.append(want.of(replace(parts[0], outputs=merged)).map(lambda t: t.to(device)))
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in columns.items()}
        return Rows(tuple(encodings), moved, ids, self._skipped)

    def _identity(self, encoder: Target, output: str, data: str | None) -> dict[str, Any]:
        identity = self.context.encoder_identity(encoder, data) if data else self.context.encoder_identity(encoder)
        return {"encodings": dict(identity), "output": output}

    def _stored(self, encoder: Target, output: str, data: str | None) -> Path | None:
        try:
            return self.context.memo(self._identity(encoder, output, data), _not_here)
        except _NotStored:
            return None

    def _store(self, encoder: Target, output: str, data: str | None, encoding: Encoding, ids: list[str]) -> None:
        self.context.memo(self._identity(encoder, output, data), lambda directory: _write(directory, encoding, ids))

    def _scan(
        self, missing: Mapping[Target, Sequence[str]], fields: Mapping[str, Target], data: str | None, stage: str | None
    ) -> tuple[list[str], dict[str, Any], dict[tuple[Target, str], Encoding]]:
        context, scope = self.context, self._scope(stage)
        source = context.scope.source if data is None else context.spec.data[data]
        if source is None:
            raise ComponentError(f"stage {context.name} names no data to read")
        requests = [ColumnRequest(f"row:{name}", target) for name, target in fields.items()]
        model = None
        if missing:
            model = self.model([f"encoders.{encoder.name}" for encoder in missing], stage)
            requests += model.requests()
        self._check_fields(source, requests, data)
        by_outputs: dict[tuple[str, ...], list[Target]] = {}
        for encoder, outputs in missing.items():
            by_outputs.setdefault(tuple(outputs), []).append(encoder)
        total = len(source.open())
        ids: list[str] = []
        columns: dict[str, list[Any]] = {name: [] for name in fields}
        pieces: dict[tuple[Target, str], list[Encoding]] = {}
        batches = scan(
            source, scope.views, requests, batch_size=self.batch_size, workers=context.workers, seed=context.spec.seed
        )
        for batch in batches:
            if context.report.should_stop():
                raise StageStopped(f"stopped while embedding row {len(ids)} of {total}")
            ids += batch.ids
            self._skipped |= {id: reason for id, (reason, _) in batch.skipped.items()}
            for name in fields:
                columns[name].append(_values(batch, f"row:{name}"))
            for outputs, encoders in by_outputs.items():
                assert model is not None
                encoded = model.encode([e.name for e in encoders], batch, outputs)
                for encoder in encoders:
                    for name in outputs:
                        one = encoded[encoder.name]
                        one = replace(one, outputs={name: one.outputs[name]}).map(lambda t: t.detach().cpu())
                        pieces.setdefault((encoder, name), []).append(one)
            context.report.progress(len(ids), total)
        return ids, {n: _joined(v) for n, v in columns.items()}, {k: join(v) for k, v in pieces.items()}

    def _check_fields(self, source: Any, requests: Sequence[ColumnRequest], data: str | None) -> None:
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


def join(parts: Sequence[Encoding]) -> Encoding:
    """Encodings of consecutive rows as one; shorter groups and sequences are padded and marked absent."""
    groups = len(parts[0].axes) - 1
    present = [part.present for part in parts]
    first = [next(iter(part.outputs.values())) for part in parts]
    shapes = [(v.mask if isinstance(v, Tokens) else v).shape[: 1 + groups] for v in first]
    ragged = len({tuple(shape[1:]) for shape in shapes}) > 1
    joined: Tensor | None = None
    if ragged or any(p is not None for p in present):
        joined = _padded(
            [torch.ones(s, dtype=torch.bool) if p is None else p for p, s in zip(present, shapes, strict=True)]
        )
    outputs: dict[str, Any] = {}
    for name, value in parts[0].outputs.items():
        values = [part.outputs[name] for part in parts]
        if isinstance(value, Tokens):
            outputs[name] = Tokens(_padded([v.values for v in values]), _padded([v.mask for v in values]))
        else:
            outputs[name] = _padded(values)
    return Encoding(outputs, parts[0].axes, joined)


def _padded(tensors: Sequence[Tensor]) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
    whole = tensors[0].new_zeros((sum(len(t) for t in tensors), *shape))
    start = 0
    for tensor in tensors:
        whole[(slice(start, start + len(tensor)), *(slice(0, size) for size in tensor.shape[1:]))] = tensor
        start += len(tensor)
    return whole


def _values(batch: Batch, key: str) -> Any:
    column = batch.columns[key]
    values, present = column.values, column.present
    if present is None or not isinstance(values, Tensor):
        return values
    absent = ~present.reshape(*present.shape, *[1] * (values.ndim - present.ndim))
    if values.is_floating_point():
        return values.masked_fill(absent, torch.nan)
    return values if values.dtype == torch.bool else values.masked_fill(absent, -1)


def _joined(parts: list[Any]) -> Any:
    if not parts:
        return []
    if isinstance(parts[0], Tokens):
        return Tokens(_padded([p.values for p in parts]), _padded([p.mask for p in parts]))
    if isinstance(parts[0], Tensor):
        return _padded(parts)
    return [value for part in parts for value in part]


def _check(encoding: Encoding, name: str) -> None:
    for value in encoding.outputs.values():
        tensor = value.values if isinstance(value, Tokens) else value
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ComponentError(
                f"{name} has values that are not finite",
                hint="the model diverged: train with a lower lr or with `clip`",
            )


class _NotStored(Exception):
    """Nothing is in the store under this identity."""


def _not_here(_: Path) -> None:
    raise _NotStored


def _write(directory: Path, encoding: Encoding, ids: list[str]) -> None:
    tensors: dict[str, Tensor] = {} if encoding.present is None else {"present": encoding.present.contiguous()}
    (name, value), *_ = encoding.outputs.items()
    if isinstance(value, Tokens):
        tensors |= {"values": value.values.contiguous(), "mask": value.mask.contiguous()}
    else:
        tensors["values"] = value.contiguous()
    save_file(tensors, directory / "encoding.safetensors")
    (directory / "rows.json").write_text(json.dumps({"output": name, "axes": encoding.axes, "ids": ids}))


def _read(directory: Path) -> tuple[Encoding, list[str]]:
    tensors = load_file(directory / "encoding.safetensors")
    rows = json.loads((directory / "rows.json").read_text())
    value = Tokens(tensors["values"], tensors["mask"]) if "mask" in tensors else tensors["values"]
    return Encoding({rows["output"]: value}, tuple(rows["axes"]), tensors.get("present")), rows["ids"]
