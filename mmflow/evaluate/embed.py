"""The stage `embed`: vectors of a data entry, for other stages and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from mmflow.artifacts import ColumnArtifact
from mmflow.plugin.kinds import DataStage, StageContext, StageInputs
from mmflow.plugin.marks import outside_identity
from mmflow.plugin.references import Encoded, Model, Ref, Refs
from mmflow.plugin.targets import STAGE
from mmflow.plugin.values import TensorType


class Embed(DataStage, name="embed"):
    """Embed every row of `data` with the encoders in `of`.

    Writes `columns/<encoder>.parquet` for each: `id` and `value`, the pooled vector as a list of float32 (a list of
    lists where the encoder has a group axis), null where the row is absent. With `normalize` vectors are stored
    with length 1. `feats.image` is then a column of vectors that joins data by id.
    """

    gives: ClassVar[Mapping[str, str]] = {"*": "Column"}
    """Any, until `of` names them."""
    needs: ClassVar[tuple[str, ...]] = ("pooled",)
    example: ClassVar[str] = "{use: embed, data: train, of: [image, text], normalize: true}"

    of: Refs[Encoded] = Field(min_length=1)
    model: Ref[Model] | None = None
    normalize: bool = False
    batch_size: int = outside_identity(256, ge=1)

    @model_validator(mode="after")
    def _once(self) -> Embed:
        names = [ColumnArtifact.file_name(reference) for reference in self.of]
        if len(set(names)) < len(names):
            raise ValueError("two references in `of` would be stored under one name")
        return self

    def depends_on_seed(self) -> bool:
        return False

    def given(self) -> Mapping[str, str]:
        return {str(reference): "Column" for reference in self.of}

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {str(reference): given.of("of", place) for place, reference in enumerate(self.of)}

    def run(self, context: StageContext) -> None:
        from torch.nn.functional import normalize

        from mmflow.evaluate.fields import wanted
        from mmflow.evaluate.rows import Embedder

        targets = context.scope.targets(STAGE)
        places = [("of", number) for number in range(len(self.of))]
        asked = [wanted(context.scope, place, targets[place]) for place in places]
        rows = Embedder(context, self.batch_size).rows(asked, {})
        for place, (reference, encoding) in enumerate(zip(self.of, rows.of, strict=True)):
            vectors = normalize(encoding.pooled, dim=-1) if self.normalize else encoding.pooled
            declared = context.scope.type_of(targets["of", place])
            type_ = declared.with_(axes=encoding.axes, size=tuple(vectors.shape[len(encoding.axes) :]))
            ColumnArtifact(context.output, reference).write(rows.ids, vectors, encoding.present, type_)
