"""What the fields of any stage refer to, for stages that do their work themselves: rows of data, and the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from mmflow.artifacts import ModelArtifact
from mmflow.evaluate.reading import WHOLE
from mmflow.evaluate.rows import Embedder, Wanted
from mmflow.model.graph import needed_outputs
from mmflow.model.model import Model
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import DataRows, StageContext, StageScope
from mmflow.plugin.references import Encoded, reference_fields
from mmflow.plugin.targets import STAGE, Place, Target
from mmflow.plugin.values import Encoding, RawValue

BATCH = 256


class UsedModel:
    """The model that a stage uses: for further values, and its weights (`StageModel`)."""

    def __init__(self, model: Model, scope: StageScope) -> None:
        self._model, self._scope = model, scope

    def encode(self, encoder: str, values: Sequence[RawValue], outputs: Sequence[str] = ("pooled",)) -> Encoding:
        """Encode raw values (prompts, images) with an encoder in `of` that reads one field."""
        return self._model.encode_values(str(encoder), values, outputs)

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by path, on the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in self._model.modules.state_dict().items()}

    def names(self, field: str) -> tuple[str, ...]:
        """Class names of the labels behind a field of the stage (`labels`); empty where the data gives none."""
        return self._scope.type_of(self._scope.targets(STAGE)[field,]).names


def used_model(context: StageContext) -> UsedModel:
    """The model of a stage, as far as its own fields name parts of it."""
    roots = context.scope.roots()
    return UsedModel(Embedder(context, BATCH).model(roots), context.scope)


def read_rows(context: StageContext, fields: Sequence[str]) -> DataRows:
    """All rows of a stage's data, with what `fields` refer to."""
    encoded, plain = _places(context, fields)
    rows = Embedder(context, BATCH).rows(list(encoded.values()), plain)
    found = dict(zip(encoded, rows.of, strict=True))
    return DataRows(rows.ids, {**found, **rows.fields})


def scan_rows(context: StageContext, fields: Sequence[str], batch_size: int) -> Iterator[DataRows]:
    """The rows of a stage's data batch by batch; what has rows of an axis of its own comes with each."""
    encoded, plain = _places(context, fields)
    embedder = Embedder(context, batch_size)
    stages = {want.target.stage for want in encoded.values() if want.encoded}
    if len(stages) > 1:
        raise ComponentError(f"stage {context.name} reads encoders of several models batch by batch")
    missing = [(want.encoder, output) for want in encoded.values() if want.encoded for output in want.outputs]
    whole = {(WHOLE, str(want.target)): want.target for want in encoded.values() if not want.encoded}
    reading = embedder.reading(missing, {**plain, **whole}, None, next(iter(stages), None))
    beside = {place: part.value for place, part in reading.static_parts().items()}
    for batch, found in reading.batches():
        if not batch.ids:
            continue
        values = {**beside, **found}
        columns = {place: values[place] for place in plain}
        for place, want in encoded.items():
            parts = [values[want.encoder, output] for output in want.outputs] if want.encoded else []
            parts = parts or [values[WHOLE, str(want.target)]]
            merged = {name: value for part in parts for name, value in part.outputs.items()}
            columns[place] = want.of(Encoding(merged, parts[0].axes, parts[0].present))
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
    types = reference_fields(type(scope.component(STAGE)))
    unknown = [field for field in fields if field not in types]
    if unknown:
        raise ComponentError(
            f"stage {context.name} has no field {unknown[0]!r} of references", expected=", ".join(types)
        )
    encoded: dict[Place, Wanted] = {}
    plain: dict[Place, Target] = {}
    for place, target in scope.targets(STAGE).items():
        if place[0] not in fields:
            continue
        if target.section == "encoders":
            whole = target.output in (None, "tokens")
            outputs = needed_outputs(scope, STAGE) if whole else (str(target.output),)
            encoded[place] = Wanted(target, outputs)
        elif Encoded in types[str(place[0])]:
            encoded[place] = Wanted(target, ("pooled",))
        else:
            plain[place] = target
    return encoded, plain


__all__ = ["UsedModel", "read_rows", "scan_rows", "used_model", "write_model"]
