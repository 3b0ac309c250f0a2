"""Decoding with a second stream: a kind of its own, an encoder that answers, and the stage that puts both together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import (
    Component,
    DataStage,
    Encoded,
    Encoder,
    Field,
    Model,
    Ref,
    StageContext,
    StageInputs,
    TensorType,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor, nn

WORDS = ("yes", "no", "perhaps")


class Decoding(Component, kind="decoding"):
    """How logits of one stream or two become one distribution."""

    against: Ref[Encoded] | None = Field(None, description="the second stream")

    def logits(self, first: Tensor, second: Tensor | None) -> Tensor:
        return first


class Sample(Decoding, name="sample"):
    """The logits over a temperature."""

    temperature: float = 1.0

    def logits(self, first: Tensor, second: Tensor | None) -> Tensor:
        return first / self.temperature


class Contrastive(Decoding, name="contrastive"):
    """(1 + alpha) times the first stream less alpha times the second, over words that the first finds likely (VCD)."""

    alpha: float = 1.0
    beta: float = 0.1

    def logits(self, first: Tensor, second: Tensor | None) -> Tensor:
        assert second is not None
        import torch

        likely = torch.softmax(first, -1) >= self.beta * torch.softmax(first, -1).amax(-1, keepdim=True)
        return ((1 + self.alpha) * first - self.alpha * second).masked_fill(~likely, float("-inf"))


class AddLogits(Decoding, name="add_logits"):
    """The first stream and some of the second (RITUAL)."""

    factor: float = 3.0

    def logits(self, first: Tensor, second: Tensor | None) -> Tensor:
        assert second is not None
        return first + self.factor * second


class HfVlm(Encoder, name="hf_vlm"):
    """Answers a question about an image with one of a few words."""

    accepts = (("image",), ("text",))
    provides = ("next_token",)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("logits", size=(len(WORDS),))}

    def preprocess(self, index: int, value: Any, state: Any) -> Any:
        import numpy as np

        if index == 0:
            return value
        return np.bincount([len(word) % 8 for word in str(value).split()], minlength=8).astype(np.float32)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Answers

        return Answers(len(WORDS))


class Generate(DataStage, name="generate"):
    """One word for each row, the likeliest."""

    gives = {"text": "Column"}
    of: Ref[Encoded]
    decode: Decoding
    model: Ref[Model] | None = None
    max_tokens: int = 1

    def depends_on_seed(self) -> bool:
        return False

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"text": TensorType("text")}

    def run(self, context: StageContext) -> None:
        rows = context.rows("of", *(["decode"] if self.decode.against else []))
        first = rows["of"].pooled
        second = rows["decode", "against"].pooled if self.decode.against else None
        chosen = self.decode.logits(first, second).argmax(-1)
        context.write_column("text", rows.ids, [WORDS[int(place)] for place in chosen])
