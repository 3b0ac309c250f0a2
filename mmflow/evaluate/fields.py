"""What the fields of any stage refer to, for stages that do their work themselves: rows of data, and the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from mmflow.artifacts import ModelArtifact
from mmflow.evaluate.reading import WHOLE
from mmflow.evaluate.rows import Embedder, Wanted
from mmflow.model.leading import leading
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import DataRows, Encoder, Evaluator, Stage, StageContext, StageScope
from mmflow.plugin.modality import modality
from mmflow.plugin.references import Encoded, Pooled, RefType, reference_fields, words
from mmflow.plugin.targets import STAGE, Owner, Place, Target
from mmflow.plugin.values import Argument, Encoding, RawValue
from mmflow.spec.references.forms import brought, needed_outputs, reference_at
from mmflow.spec.references.wanted import references

BATCH = 256


class AskedModel(Protocol):
    """A model, as far as evaluators ask for it."""

    def encode_values(self, encoder: str, values: Sequence[RawValue], outputs: Sequence[str] = ...) -> Encoding: ...

    def built_for_stage(self, field: str) -> Argument: ...


class ModelGiver(Protocol):
    """Gives the models that a stage uses: an `Embedder`, or the stand-in of a trial."""

    def model(self, roots: Sequence[Owner], stage: str | None = None) -> AskedModel: ...

    def weights(self) -> dict[str, Tensor]: ...


class UsedModel:
    """The model that a stage uses: for further values, and its weights (`StageModel`)."""

    def __init__(self, embedder: ModelGiver, scope: StageScope, *, dim: int | None = None) -> None:
        self._embedder, self._scope, self._dim = embedder, scope, dim

    def encode(self, encoder: str, values: Sequence[RawValue]) -> Encoding:
        """Encode raw values (prompts, images) with an encoder that reads one field; `encoder` is a reference of the
        stage, and the outputs are those that it brings."""
        want = self._wanted(encoder)
        target = want.target
        roots = self._scope.roots() if target.stage is None else (target.owner,)
        model = self._embedder.model(roots, target.stage)
        found = model.encode_values(target.name, values, tuple(want.outputs.values()))
        # Single values are no groups to pick from.
        found = replace(want, target=replace(target, index=None)).of(found)
        return found if self._dim is None else leading((found,), self._dim, "the stage")[0]

    def _wanted(self, encoder: str) -> Wanted:
        declaration, known = self._scope.component(STAGE), []
        for place, target in self._scope.targets(STAGE).items():
            if target.section == "encoders":
                known.append(reference_at(declaration, place))
                if known[-1] == encoder:
                    return wanted(self._scope, place, target)
        raise ComponentError(f"the stage refers to no encoder {encoder!r}", expected=" or ".join(known))

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by path, on the CPU: all that a trained model has; of the untrained one those of
        entries that the stage's own fields name."""
        return self._embedder.weights()

    def reads(self, encoder: str) -> tuple[str, bool]:
        """The field of the data behind an encoder (empty where there is none), and whether its values are plain enough
        to be compared: texts, names, numbers, classes."""
        name = field_behind(self._scope, encoder)
        known = self._scope.fields.get(name)
        if known is None:
            return "", False
        return name, known.modality == "text" or modality(known.modality).discrete

    def names(self, field: str) -> tuple[str, ...]:
        """Class names of the labels behind a field of the stage (`labels`); empty where the data gives none."""
        return self._scope.type_of(self._scope.targets(STAGE)[field,]).names


def wanted(scope: StageScope, place: Place, target: Target) -> Wanted:
    """What the reference at a place of the stage's fields brings of an encoder."""
    declaration = scope.component(STAGE)
    types = _types(scope)[place]
    if Encoded not in types and Pooled not in types:
        output = target.output or "pooled"
        return Wanted(target, {output: output})
    needs = needed_outputs(scope, STAGE) if Encoded in types else ("pooled",)
    return Wanted(target, brought(target, needs), reference_at(declaration, place))


def _types(scope: StageScope) -> dict[Place, tuple[type[RefType], ...]]:
    """The types of the references in the fields of the stage, and of the components inside it, by place."""
    declaration = scope.component(STAGE)
    return {found.place: found.types for found in references(declaration if isinstance(declaration, Stage) else None)}


def field_behind(scope: StageScope, name: str) -> str:
    """The field of the data behind an encoder that a reference of the stage names; the name itself where none is."""
    if name in scope.fields:
        return name
    encoder = Owner("encoders", words(name)[0])
    if not isinstance(scope.component(encoder), Encoder):
        return name
    return next((owner.name for owner in scope.reach(encoder) if owner.section == "fields"), name)


def texts_behind(scope: StageScope, evaluator: Evaluator) -> list[str | None]:
    """For each reference in `of` the field of texts behind it, where it reads nothing else and the method asks for
    `texts_of`."""
    return [_text_behind(scope, str(name)) for name in evaluator.of] if "texts_of" in evaluator.arguments() else []


def _text_behind(scope: StageScope, name: str) -> str | None:
    encoder = Owner("encoders", words(name)[0])
    if name in scope.fields or not isinstance(scope.component(encoder), Encoder):
        return None
    fields = [owner.name for owner in scope.reach(encoder) if owner.section == "fields"]
    known = scope.fields.get(fields[0]) if len(fields) == 1 else None
    return fields[0] if known is not None and known.modality == "text" and not known.static else None


def used_model(context: StageContext) -> UsedModel:
    """The model of a stage, as far as its own fields name parts of it."""
    return UsedModel(Embedder(context, BATCH), context.scope)


def read_rows(context: StageContext, fields: Sequence[str]) -> DataRows:
    """All rows of a stage's data, with what `fields` refer to."""
    encoded, plain = _places(context, fields)
    rows = Embedder(context, BATCH).rows(list(encoded.values()), plain)
    types = _types(context.scope)
    found = {place: _as_read(types[place], one) for place, one in zip(encoded, rows.of, strict=True)}
    return DataRows(rows.ids, {**found, **rows.fields})


def _as_read(types: Sequence[type[RefType]], found: Encoding) -> Argument:
    """A class or a weight of each row where a reference is read as such, else the encoding."""
    plain = not {Encoded, Pooled} & {*types}
    return next(iter(found.outputs.values())) if plain and len(found.outputs) == 1 else found


def scan_rows(context: StageContext, fields: Sequence[str], batch_size: int) -> Iterator[DataRows]:
    """The rows of a stage's data batch by batch; what has rows of an axis of its own comes with each."""
    encoded, plain = _places(context, fields)
    embedder, types = Embedder(context, batch_size), _types(context.scope)
    stages = {want.target.stage for want in encoded.values() if want.encoded}
    if len(stages) > 1:
        raise ComponentError(f"stage {context.name} reads encoders of several models batch by batch")
    missing = [(w.encoder, output) for w in encoded.values() if w.encoded for output in w.outputs.values()]
    whole = {(WHOLE, str(want.target)): want.target for want in encoded.values() if not want.encoded}
    reading = embedder.reading(missing, {**plain, **whole}, None, next(iter(stages), None))
    beside = {place: part.value for place, part in reading.static_parts().items()}
    for batch, found in reading.batches():
        if not batch.ids:
            continue
        values = {**beside, **found}
        columns = {place: values[place] for place in plain}
        for place, want in encoded.items():
            outputs = want.outputs.values() if want.encoded else ()
            parts = [values[want.encoder, output] for output in outputs]
            parts = parts or [values[WHOLE, str(want.target)]]
            merged = {name: value for part in parts for name, value in part.outputs.items()}
            columns[place] = _as_read(types[place], want.of(Encoding(merged, parts[0].axes, parts[0].present)))
        yield DataRows(batch.ids, columns)


def write_model(context: StageContext, weights: Mapping[str, Tensor], to: ModelArtifact) -> None:
    """Write the model that a stage uses, with some weights in place of its own.

    Raises `ComponentError` for weights that it has not, or of another shape.
    """
    if context.scope.model is None:
        Embedder(context, BATCH).model(context.scope.roots()).save(to)
        stored = to
    else:
        stored = ModelArtifact(context.upstream(context.scope.model))
    own = stored.weights()
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            found = f"{name} {list(tensor.shape)}"
            expected = f"{name} {list(own[name].shape)}" if name in own else ", ".join(list(own)[:6])
            message = f"stage {context.name} writes weights that its model has not"
            raise ComponentError(message, found=found, expected=expected)
    to.write({**own, **weights}, stored.memories(), stored.states())


def _places(context: StageContext, fields: Sequence[str]) -> tuple[dict[Place, Wanted], dict[Place, Target]]:
    """The references in `fields`: those that are read as encodings, and those that are read as they are."""
    scope = context.scope
    types = _types(scope)
    declared = (*reference_fields(type(scope.component(STAGE))), *(str(place[0]) for place in types))
    unknown = [field for field in fields if field not in declared]
    if unknown:
        known = ", ".join(dict.fromkeys(declared))
        raise ComponentError(f"stage {context.name} has no field {unknown[0]!r} of references", expected=known)
    encoded: dict[Place, Wanted] = {}
    plain: dict[Place, Target] = {}
    for place, target in scope.targets(STAGE).items():
        if place[0] not in fields:
            continue
        if target.section == "encoders":
            encoded[place] = wanted(scope, place, target)
        elif Encoded in types[place]:
            encoded[place] = Wanted(target, {"pooled": "pooled"})
        else:
            plain[place] = target
    return encoded, plain


__all__ = ["UsedModel", "field_behind", "read_rows", "scan_rows", "texts_behind", "used_model", "wanted", "write_model"]
