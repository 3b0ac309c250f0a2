"""Matching of regions and words: towers, guessed classes, a score with weights, and the measure of each pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mmflow_encoders.series.audio_transformer import AudioTransformer
from mmflow_encoders.texts.text_transformer import TextTransformer

from mmflow.plugin import (
    DataStage,
    Encoded,
    Encoder,
    Field,
    Loss,
    Model,
    Ref,
    Refs,
    Score,
    StageContext,
    StageInputs,
    TensorType,
    TokenSequence,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class Regions(AudioTransformer, name="regions"):
    """Attention over the regions of an image."""


class Bigru(TextTransformer, name="bigru"):
    """A transformer in place of a recurrent network."""


class PseudoClasses(Encoder, name="pseudo_classes"):
    """Shares of k guessed classes, of an image and of a text, by one head for both."""

    of: Refs[TokenSequence]  # pyright: ignore[reportIncompatibleVariableOverride]
    k: int = 128

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return dict.fromkeys(("image", "text"), inputs[0].with_(modality="vector", size=(self.k,)))

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Guessed

        return Guessed(int(inputs[0].size[-1] or 1), self.k)


class Sgraf(Score, name="sgraf"):
    """A learned bilinear similarity."""

    dim: int = 16

    def build(self) -> nn.Module:
        from stand_ins.modules import Bilinear

        return Bilinear(self.dim)


class PseudoCe(Loss, name="pseudo_ce"):
    """Cross-entropy between the classes that two modalities guess, less the entropy of their mean over the batch."""

    entropy: Literal["batch_mean", "none"] = "none"

    def compute(self, image: Tensor, text: Tensor) -> Tensor:
        crossed = -(text.detach() * image.clamp_min(1e-9).log()).sum(-1)
        mean = (image.mean(0) + text.mean(0)) / 2
        return crossed + (mean * mean.clamp_min(1e-9).log()).sum() if self.entropy == "batch_mean" else crossed


class Measure(DataStage, name="measure"):
    """How little two encodings of a row are alike, by name, and further encodings: a column for each."""

    gives = {"*": "Column"}
    of: dict[str, Refs[Encoded]]
    beside: Refs[Encoded] = Field((), alias="with")
    model: Ref[Model] | None = None

    def given(self) -> Mapping[str, str]:
        return dict.fromkeys((*self.of, *map(str, self.beside)), "Column")

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        further = {str(reference): given.of("with", place) for place, reference in enumerate(self.beside)}
        return {**dict.fromkeys(self.of, TensorType("number")), **further}

    def depends_on_seed(self) -> bool:
        return False

    def run(self, context: StageContext) -> None:
        from torch.nn.functional import cosine_similarity

        rows = context.rows("of", "with")
        for name in self.of:
            first, second = (rows["of", name, place].pooled for place in (0, 1))
            context.write_column(name, rows.ids, 1 - cosine_similarity(first, second))
        for place, reference in enumerate(self.beside):
            (values,) = rows["with", place].outputs.values()
            context.write_column(str(reference), rows.ids, values)
