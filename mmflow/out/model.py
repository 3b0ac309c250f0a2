"""`LoadedModel`: encoders that a run has trained, or that were exported, for values of any origin."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmflow.data import Batch, ColumnRequest, scan
from mmflow.evaluate.parts import join
from mmflow.model.model import Model
from mmflow.out.values import given_rows
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Score, Source, StageScope
from mmflow.plugin.targets import Owner, Target
from mmflow.plugin.values import Encoding, RawValue, TensorType, Tokens
from mmflow.spec.references.views import fields_of
from mmflow.spec.text.problems import did_you_mean

if TYPE_CHECKING:
    from mmflow.out.finding import FoundRun

Given = Sequence[RawValue] | Mapping[str, Sequence[RawValue]]
"""A value a row, or for an encoder that reads several fields, such a list for each of them."""

BATCH = 256
"""Rows that are encoded at a time, as evaluations do."""


@dataclass(frozen=True)
class EncoderInputs:
    """The columns that one encoder reads: keys of the graph, and the fields of the data behind them."""

    keys: frozenset[str]
    fields: tuple[str, ...]


class LoadedModel:
    """Trained encoders by their names in the spec. Made by `mmflow.load`.

    >>> model = mmflow.load("latest")
    >>> vectors = model.encode(image=["cat.jpg", "dog.jpg"], text=["a cat"])
    >>> model.score(image=["cat.jpg", "dog.jpg"], text=["a cat"])

    Vectors are the encoder's own, as evaluations see them: a score normalizes, where it does.
    """

    def __init__(
        self,
        scope: StageScope,
        model: Model,
        encoders: Sequence[str],
        *,
        origin: FoundRun | Path,
        stage: str,
        name: str,
        parts: Sequence[str] = (),
    ) -> None:
        self.parts = tuple(parts)
        """Names of the scores with weights, by which `mmflow search --rerank` orders rows again."""
        self._scope, self._model, self._names = scope, model, tuple(encoders)
        self.name = name
        """The name of the spec."""
        self.origin = origin
        """The run, or the folder, that the model comes from."""
        self.stage = stage
        """The stage that has trained it."""

    def __repr__(self) -> str:
        said = ", ".join(f"{name} of {' and '.join(self.inputs(name).fields)}" for name in self._names)
        return f"<mmflow model {self.name} ({self.stage}) on {self._model.device}: {said}>"

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders."""
        return self._names

    @property
    def scope(self) -> StageScope:
        return self._scope

    @property
    def modules(self) -> Model:
        """The modules and learned preprocessing themselves."""
        return self._model

    @property
    def device(self) -> torch.device:
        return self._model.device

    def to(self, device: str | torch.device) -> LoadedModel:
        """The same model, moved to a device."""
        self._model.to(device)
        return self

    def fields(self, encoder: str) -> dict[str, TensorType]:
        """The fields of the data that an encoder reads, with their declared types."""
        return {name: self._scope.fields[name] for name in self.inputs(encoder).fields}

    def encode(self, *, batch_size: int = BATCH, **values: Given) -> dict[str, Tensor]:
        """Vectors [N, *groups, D] on the CPU, by the names of encoders.

        `values` gives each encoder its raw values, one a row: paths and URLs of files, bytes, PIL images or arrays
        (uint8 [H, W, C]) for images; texts; float arrays for sounds and series. An encoder that reads several fields
        takes `{"image": [...], "caption": [...]}`. Raises `ComponentError` for a value that cannot be read; rows whose
        value is None are NaN.
        """
        found = self.encodings_of(values, batch_size=batch_size)
        return {name: pooled(encoding) for name, encoding in found.items()}

    def encodings(
        self, *, outputs: Sequence[str] = ("pooled",), batch_size: int = BATCH, **values: Given
    ) -> dict[str, Encoding]:
        """`encode` with other outputs (`tokens`, `grid`, `layers.6`) and with presence, by the names of encoders."""
        return self.encodings_of(values, outputs=outputs, batch_size=batch_size)

    def encodings_of(
        self, values: Mapping[str, Given], *, outputs: Sequence[str] = ("pooled",), batch_size: int = BATCH
    ) -> dict[str, Encoding]:
        """`encodings` of encoders whose names are known at run time."""
        if not values:
            raise ComponentError("nothing to encode", hint=f"encode({self._names[0]}=[...])")
        encodings: dict[str, Encoding] = {}
        for name, given in values.items():
            rows = given_rows(self._columns(name, given), self._scope.fields)
            if not rows.samples:
                raise ComponentError(f"no value for {name}")
            encoded = [found[name] for _, found in self.batches(rows, [name], outputs, batch_size=batch_size)]
            encodings[name] = join(encoded)
        return encodings

    def prepare(self, **values: Given) -> dict[str, dict[str, Tensor]]:
        """What the modules of encoders are given for raw values, by the names of encoders and of tensors: an exported
        graph (`mmflow export --form onnx`) takes these. Of texts the ids, and beside them their mask."""
        return {name: flat(self.columns_of(name, given)) for name, given in values.items()}

    def columns_of(self, encoder: str, given: Given) -> dict[str, Encoding]:
        """The columns of raw values that an encoder reads, prepared, by their keys in the graph."""
        rows = given_rows(self._columns(encoder, given), self._scope.fields)
        self._model.read_from(rows)
        requests = [request for request in self._model.requests() if request.key in self.inputs(encoder).keys]
        batch = next(iter(scan(rows, self._scope.views, requests, batch_size=len(rows.samples))))
        return self._model.columns(batch)

    def score(self, by: str | Mapping[str, object] | Score | None = None, **values: Given) -> Tensor:
        """Similarities [N, M] of the values of two encoders, the first against the second.

        `by` is a score of the language; by default the one by which a loss has trained these encoders to compare, else
        the cosine.
        """
        if len(values) != 2:
            raise ComponentError(f"a score compares two encoders, not {len(values)}", hint="score(image=..., text=...)")
        score = self.trained_score(tuple(values)) if by is None else Score.accept(by)
        if not isinstance(score, Score) or hasattr(score, "build"):
            raise ComponentError("a score with weights of its own is part of no model that was loaded")
        a, b = self.encodings_of(values, outputs=score.needs).values()
        blocks = score.blocks(a, b)
        return blocks[0] if isinstance(blocks, tuple) else blocks

    def batches(
        self, source: Source, encoders: Sequence[str], outputs: Sequence[str] = ("pooled",), *,
        further: Sequence[ColumnRequest] = (), batch_size: int = BATCH, workers: int = 0,
    ) -> Iterator[tuple[Batch, dict[str, Encoding]]]:  # fmt: skip
        """Every row of a source in batches, each with its encodings on the CPU and the columns of `further`."""
        keys = frozenset[str]().union(*(self.inputs(name).keys for name in encoders))
        self._model.read_from(source)
        requests = [request for request in self._model.requests() if request.key in keys]
        known = source.fields()
        for request in requests:
            lacking = [name for name in fields_of(request.target, self._scope.views) if name not in known]
            if lacking:
                raise ComponentError(f"the data have no field {lacking[0]!r}, which {' and '.join(encoders)} read",
                                     expected=f"one of: {', '.join(known)}")  # fmt: skip
        rows = scan(source, self._scope.views, [*requests, *further], batch_size=batch_size, workers=workers)
        for batch in rows:
            if not batch.ids:
                continue
            found = self._model.encode(encoders, batch, outputs)
            yield batch, {name: one.map(lambda tensor: tensor.detach().cpu()) for name, one in found.items()}

    def inputs(self, encoder: str) -> EncoderInputs:
        """The columns and fields that an encoder reads; raises `ComponentError` for a name that is none."""
        if encoder not in self._names:
            near = did_you_mean(encoder, self._names)
            raise ComponentError(
                f"the model has no encoder {encoder!r}", expected=f"one of: {', '.join(self._names)}", hint=near or ""
            )
        return self._inputs[encoder]

    @cached_property
    def _inputs(self) -> dict[str, EncoderInputs]:
        return {name: self._read_by(name) for name in self._names}

    def _read_by(self, encoder: str) -> EncoderInputs:
        graph, keys = self._model.graph, dict[str, None]()
        open_ = [owner for owner in graph.nodes if owner.whole == Owner("encoders", encoder)]
        seen = set(open_)
        while open_:
            for owner, _ in (output for read in graph.nodes[open_.pop()].reads for output in read.outputs):
                if isinstance(owner, str):
                    keys[owner] = None
                elif owner not in seen:
                    seen.add(owner)
                    open_.append(owner)
        targets: list[Target] = [graph.leaves[key].target for key in keys]
        fields = dict.fromkeys(name for target in targets for name in fields_of(target, self._scope.views))
        return EncoderInputs(frozenset(keys), tuple(fields))

    def _columns(self, encoder: str, given: Given) -> Mapping[str, Sequence[RawValue]]:
        fields = self.inputs(encoder).fields
        static = [name for name in fields if self._scope.fields[name].static]
        if static:
            raise ComponentError(f"{encoder} reads {static[0]}, which is no field of single rows: it needs its data")
        if isinstance(given, Mapping):
            if set(given) != set(fields):
                raise ComponentError(f"{encoder} reads {', '.join(fields)}, not {', '.join(map(str, given))}")
            return {name: list(given[name]) for name in fields}
        if len(fields) != 1:
            said = ", ".join(f'"{name}": [...]' for name in fields)
            raise ComponentError(f"{encoder} reads {len(fields)} fields", hint=f"{encoder}={{{said}}}")
        if isinstance(given, str | bytes | Path):
            raise ComponentError(f"{encoder} takes a list of values", hint=f"{encoder}=[{str(given)[:40]!r}]")
        return {fields[0]: list(given)}

    def trained_score(self, encoders: Collection[str]) -> Score:
        """The score of a loss that compares these encoders; the cosine where there is none."""
        for name in self._scope.losses:
            owner = Owner("losses", name)
            compared = {t.name for place, t in self._scope.targets(owner).items() if place[0] == "of"}
            if compared.issuperset(encoders):
                for _, held in self._scope.held(owner):
                    if isinstance(held, Score):
                        return held
        found = Score.accept("cosine")
        assert isinstance(found, Score)
        return found


def flat(columns: Mapping[str, Encoding]) -> dict[str, Tensor]:
    """The tensors of columns by name: `image`, `caption` and `caption_mask`."""
    found: dict[str, Tensor] = {}
    for key, column in columns.items():
        value, name = column["value"], key.removeprefix("fields.").replace(".", "_")
        if isinstance(value, Tokens):
            found |= {name: value.values, f"{name}_mask": value.mask}
        elif isinstance(value, Tensor):
            found[name] = value
        else:
            raise ComponentError(f"{key} is no tensor, so that no graph can take it")
    return found


def pooled(encoding: Encoding) -> Tensor:
    """Vectors [N, *groups, D], NaN in absent rows."""
    vectors, present = encoding.pooled, encoding.present
    if present is None:
        return vectors
    return vectors.masked_fill(~present.reshape(*present.shape, *[1] * (vectors.ndim - present.ndim)), torch.nan)


def normalized(encoding: Encoding) -> Encoding:
    """An encoding with vectors of length one."""
    outputs = {name: torch.nn.functional.normalize(value, dim=-1) for name, value in encoding.outputs.items()}
    return replace(encoding, outputs=outputs)
