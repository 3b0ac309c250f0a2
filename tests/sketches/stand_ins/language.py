"""A masked language model, the prompts around a sentence, and words as classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zlib import crc32

from mmflow.plugin import Encoder, RawField, Ref, Refs, TensorType, TokenSequence, Transform

if TYPE_CHECKING:
    from torch import Tensor, nn

WORDS = 64
MASK = 0


def number_of(word: str) -> int:
    return MASK if word == "[MASK]" else 1 + crc32(word.encode()) % (WORDS - 1)


class PromptTemplate(Transform, name="prompt_template"):
    """A sentence in one of several templates with a mask, after an example of a class; `mask_index` is its place."""

    adds: ClassVar[Mapping[str, TensorType]] = {"mask_index": TensorType("index", dtype="int64")}
    auxiliary: int = 20
    demos: Literal["per_class", "none"] = "none"

    def apply(self, value: Any, generator: Any) -> Any:
        number = 0 if generator is None else int(generator.integers(self.auxiliary))
        words = [*str(value["sentence"]).split(), "it", "was" if number % 2 else "seems", "[MASK]"]
        demo = ["a", "demonstration"] if self.demos == "per_class" and generator is not None else []
        words = [*words, *demo]
        return {**value, "sentence": " ".join(words)}, {"mask_index": words.index("[MASK]")}


class MaskedLm(Encoder, name="masked_lm"):
    """Words in their context: `tokens`, and `logits` of all words at each place."""

    accepts = (("text",),)
    width: int = 16

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {
            "pooled": TensorType("vector", size=(self.width,)),
            "tokens": TensorType("tokens", size=(None, self.width)),
            "logits": TensorType("tokens", size=(None, WORDS)),
        }

    def preprocess(self, index: int, value: Any, state: Any) -> Any:
        return [number_of(word) for word in str(value).split()]

    def build(self, *inputs: TensorType, state: Any) -> nn.Module:
        from stand_ins.modules import LanguageModel

        return LanguageModel(WORDS, self.width)


class MaskToken(Encoder, name="mask_token"):
    """The vector at a place of a sequence."""

    of: Refs[TokenSequence]  # pyright: ignore[reportIncompatibleVariableOverride]
    at: Ref[RawField]

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": inputs[0].with_(modality="vector", size=inputs[0].size[-1:])}

    def apply(self, tokens: Any, at: Tensor) -> Tensor:
        return tokens.values[range(len(at)), at.long().clamp(max=tokens.values.shape[1] - 1)]


class Verbalizer(MaskToken, name="verbalizer"):
    """Logits of classes: of the word that stands for each, at a place of a sequence."""

    words: dict[str, str]

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("logits", size=(len(self.words),))}

    def apply(self, tokens: Any, at: Tensor) -> Tensor:
        return super().apply(tokens, at)[:, [number_of(word) for word in self.words.values()]]
