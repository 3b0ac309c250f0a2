"""The bottleneck adapter and learned prompts, by hand and against the text encoder that reads them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_adapters.adapter import Adapter
from mmflow_adapters.prompt_tokens import PromptTokens
from mmflow_encoders.texts.text_transformer import TextTransformer
from pydantic import ValidationError
from torch import Tensor

from mmflow.plugin import ComponentError, TensorType, Tokens

VECTOR = TensorType("vector", size=(16,))
WORDS = TensorType("tokens", size=(None, 8))
NAMES = WORDS.with_(axes=("class",))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adapter(**fields: Any) -> Any:
    torch.manual_seed(0)
    return Adapter.model_validate({"of": "image", **fields}).build(VECTOR, state={}).double()


def test_an_adapter_blends_a_bottleneck_with_its_input() -> None:
    module, x = adapter(), drawn(5, 16, seed=1)
    assert sum(p.numel() for p in module.parameters()) == 2 * 16 * 16 // 4
    inner = module.up(module.down(x).relu()).relu()
    assert (inner >= 0).all()
    torch.testing.assert_close(module(x, 0.2), 0.2 * inner + 0.8 * x)
    assert torch.equal(module(x, 0.0), x)
    open_end = adapter(last_activation=False)
    torch.testing.assert_close(open_end(x, 1.0), open_end.up(open_end.down(x).relu()))


def test_an_adapter_may_start_from_nothing_and_keeps_the_kind_of_its_input() -> None:
    module, x = adapter(start="zero", bias=True), drawn(5, 16, seed=2)
    torch.testing.assert_close(module(x, 0.3), 0.7 * x)
    mask = torch.ones(2, 3, dtype=torch.bool)
    tokens = module(Tokens(drawn(2, 3, 16, seed=3), mask), 0.3)["tokens"]
    assert tokens.values.shape == (2, 3, 16)
    assert module(drawn(2, 3, 4, 16, seed=4), 0.3)["grid"].shape == (2, 3, 4, 16)
    with pytest.raises(ValidationError, match="ratio"):
        Adapter.model_validate({"of": "image", "ratio": 1.5})


def prompts(*inputs: TensorType, **fields: Any) -> Any:
    names = ["words", "image"][: len(inputs)]
    return PromptTokens.model_validate({"of": names, **fields}).build(*inputs, state={}).double()


@pytest.mark.parametrize(
    ("place", "order"), [("front", "bxyzwe"), ("end", "bwxyze"), ("middle", "bxwyze")]
)  # fmt: skip
def test_context_stands_at_its_place(place: str, order: str) -> None:
    module = prompts(WORDS, count=3, place=place)
    words = drawn(2, 5, 8, seed=5)
    mask = torch.arange(5)[None] < torch.tensor([[3], [5]])
    values, real = module(Tokens(words, mask))["tokens"]
    named = {"b": words[0, 0], "w": words[0, 1], "e": words[0, 2], **dict(zip("xyz", module.context[0], strict=True))}
    torch.testing.assert_close(values[0, :6], torch.stack([named[mark] for mark in order]))
    assert real.sum(1).tolist() == [6, 8]
    assert real[0, :6].all()


def test_embedded_tokens_are_read_as_the_text_that_they_embed() -> None:
    """Context that equals the embedding of a word gives the encoding of the text with that word."""
    encoder = TextTransformer.model_validate(
        {"of": "caption", "tokenizer": "byte", "width": 8, "depth": 2, "heads": 2, "pool": "eos"}
    )
    torch.manual_seed(0)
    text: Any = encoder.build(TensorType("text"), state={}).double().eval()
    module = prompts(WORDS, count=2)
    short, long = torch.tensor([[1, 50, 60, 2]]), torch.tensor([[1, 70, 80, 50, 60, 2]])
    with torch.no_grad():
        module.context.copy_(text.words(long[:, 1:3]))
    mask = torch.ones_like(short, dtype=torch.bool)
    words = text(Tokens(short, mask), taps=("words",))["words"]
    found = text(module(words)["tokens"])
    expected = text(Tokens(long, torch.ones_like(long, dtype=torch.bool)))
    torch.testing.assert_close(found["pooled"], expected["pooled"])
    torch.testing.assert_close(found["tokens"].values, expected["tokens"].values)


def test_classes_have_context_of_their_own() -> None:
    module = prompts(NAMES, count=2, classes=3)
    words = drawn(3, 4, 8, seed=6)
    values = module(Tokens(words, torch.ones(3, 4, dtype=torch.bool)))["tokens"].values
    torch.testing.assert_close(values[:, 1:3], module.context)
    with pytest.raises(ValueError, match="`classes` is 3"):
        module(words[:2])
    with pytest.raises(ComponentError, match="a row for each class"):
        prompts(WORDS, classes=3)
    with pytest.raises(ValidationError, match="exclude each other"):
        PromptTokens.model_validate({"of": ["a", "b"], "classes": 3})


def test_a_condition_shifts_all_context_vectors() -> None:
    module = prompts(WORDS, VECTOR, count=2)
    words, image = drawn(3, 4, 8, seed=7), drawn(3, 16, seed=8)
    values = module(words, image)["tokens"].values
    torch.testing.assert_close(values[:, 1:3], module.context + module.meta(image)[:, None])


def test_each_sample_has_prompts_for_every_class() -> None:
    encoder = PromptTokens.model_validate({"of": ["names", "image"], "count": 2})
    declared = encoder.outputs(NAMES, VECTOR)["tokens"]
    assert (declared.axes, declared.groups) == (("sample", "class"), (None,))
    module = prompts(NAMES, VECTOR, count=2)
    names, image = drawn(5, 4, 8, seed=9), drawn(3, 16, seed=10)
    values, mask = module(names, image)["tokens"]
    assert values.shape == (3, 5, 6, 8)
    assert mask.shape == (3, 5, 6)
    alone = prompts(NAMES, VECTOR, count=2)
    alone.load_state_dict(module.state_dict())
    torch.testing.assert_close(alone(names, image[1:2])["tokens"].values[0], values[1])
    torch.testing.assert_close(values[2, 3, 3:], names[3, 1:])
