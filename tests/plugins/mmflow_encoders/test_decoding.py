"""Decoding: greedy, beam and nucleus against enumeration; the caption decoder that generates, and its prefix."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from mmflow_encoders.decoders.caption_decoder import CaptionDecoder
from mmflow_encoders.modules.decoding import from_nucleus, sample, search
from torch import Tensor, nn

from mmflow.plugin import TensorType, Tokens

BEGIN, END, WORDS = 0, 1, 4
DEVICE = torch.device("cpu")


def table(seed: int, rows: int = 2) -> Tensor:
    """Logits [rows, T, V, V] of the next id by row, place and last id."""
    return 2 * torch.randn(rows, 5, WORDS, WORDS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stepper(logits: Tensor) -> Any:
    return lambda ids, rows: logits[rows, ids.shape[1] - 1, ids[:, -1]]


def every(logits: Tensor, row: int, length: int, penalty: float) -> list[tuple[float, list[int]]]:
    """All sequences of a row with their scores, best first."""
    found: dict[tuple[int, ...], float] = {}
    for tail in product(range(WORDS), repeat=length - 1):
        ids, score = [BEGIN], 0.0
        for chosen in tail:
            score += float(logits[row, len(ids) - 1, ids[-1]].log_softmax(-1)[chosen])
            ids.append(chosen)
            if chosen == END:
                break
        found[tuple(ids)] = score / (len(ids) - 1) ** penalty
    return sorted(((score, list(ids)) for ids, score in found.items()), reverse=True)


def listed(tokens: Tokens) -> list[list[int]]:
    return [ids[real].tolist() for ids, real in zip(*tokens, strict=True)]


def greedy(logits: Tensor, length: int) -> list[list[int]]:
    options: dict[str, Any] = {"begin": BEGIN, "end": END, "length": length, "device": DEVICE}
    return listed(sample(stepper(logits), len(logits), top_p=1, temperature=1, generator=None, **options))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(seed: int, penalty: float) -> None:
    logits = table(seed)
    found = search(
        stepper(logits), 2, begin=BEGIN, end=END, length=5, beams=WORDS**4, penalty=penalty, device=DEVICE
    )  # fmt: skip
    assert listed(found) == [every(logits, row, 5, penalty)[0][1] for row in range(2)]


@pytest.mark.parametrize("seed", range(6))
def test_one_beam_is_greedy_and_greedy_takes_the_largest_logit(seed: int) -> None:
    logits = table(seed)
    found = greedy(logits, 5)
    for row, ids in enumerate(found):
        assert ids[0] == BEGIN
        for place in range(1, len(ids)):
            assert ids[place] == int(logits[row, place - 1, ids[place - 1]].argmax())
        assert END not in ids[1:-1]
        assert len(ids) == 5 or ids[-1] == END
    one = search(stepper(logits), 2, begin=BEGIN, end=END, length=5, beams=1, penalty=0, device=DEVICE)
    assert listed(one) == found


def test_the_nucleus_holds_the_fewest_ids_that_reach_its_probability() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    logits = shares.log()[None]
    draws = torch.linspace(0, 0.999, 1000, dtype=torch.float64)

    def counted(top_p: float) -> list[float]:
        ids = torch.cat([from_nucleus(logits, top_p, draw) for draw in draws])
        return (torch.bincount(ids, minlength=4) / len(draws)).tolist()

    assert counted(1.0) == pytest.approx(shares.tolist(), abs=2e-3)
    assert counted(0.79) == pytest.approx([0.625, 0.375, 0, 0], abs=2e-3)
    assert counted(0.81) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=2e-3)
    assert counted(0.3) == [1, 0, 0, 0]


def test_a_small_nucleus_is_greedy_and_a_seed_gives_the_same_again() -> None:
    logits = table(7, rows=3)
    options: dict[str, Any] = {"begin": BEGIN, "end": END, "length": 5, "device": DEVICE}

    def drawn(seed: int, top_p: float) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return listed(
            sample(stepper(logits), 3, top_p=top_p, temperature=1.0, generator=generator, **options)
        )  # fmt: skip

    assert drawn(0, 1e-9) == greedy(logits, 5)
    assert drawn(1, 0.9) == drawn(1, 0.9)
    assert any(drawn(1, 1.0) != drawn(seed, 1.0) for seed in range(2, 8))


def decoder(**fields: Any) -> Any:
    declared = {
        "of": ["caption", "image"],
        "tokenizer": "byte",
        "width": 8,
        "depth": 2,
        "heads": 2,
        "length": 8,
        **fields,
    }
    encoder = CaptionDecoder.model_validate(declared)
    torch.manual_seed(0)
    module = encoder.build(TensorType("text"), TensorType("tokens", size=(None, 6)), state={})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


def memory(rows: int = 3) -> Tokens:
    values = torch.randn(rows, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Tokens(values, torch.arange(4)[None] < torch.tensor([4, 2, 3][:rows])[:, None])


def text(ids: Tensor) -> Tokens:
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


@pytest.mark.parametrize("attend", ["cross", "prefix"])
def test_generated_texts_are_those_that_the_logits_prefer(attend: str) -> None:
    module, image = decoder(attend=attend), memory()
    start = text(torch.full((3, 1), 1))
    generated = module(start, image, taps=("generated",))["generated"]
    for row, ids in enumerate(listed(generated)):
        alone = Tokens(image.values[row : row + 1], image.mask[row : row + 1])
        logits = module(text(torch.tensor([ids])), alone)["logits"].values[0]
        assert ids[1:] == logits[:-1].argmax(-1).tolist()
        assert len(ids) == 8 or ids[-1] == 2


def test_a_beam_is_at_least_as_probable_as_the_greedy_text() -> None:
    image, start = memory(), text(torch.full((3, 1), 1))

    def score(ids: list[int], row: int) -> float:
        alone = Tokens(image.values[row : row + 1], image.mask[row : row + 1])
        logits = plain(text(torch.tensor([ids])), alone)["logits"].values[0].log_softmax(-1).detach()
        return sum(float(logits[place, chosen]) for place, chosen in enumerate(ids[1:]))

    plain, beam = decoder(), decoder(decoding="beam", beams=200, penalty=0.0)
    greedy_texts, beam_texts = (listed(m(start, image, taps=("generated",))["generated"]) for m in (plain, beam))
    for row in range(3):
        assert score(beam_texts[row], row) >= score(greedy_texts[row], row) - 1e-9


def test_a_prefix_is_seen_by_all_and_sees_no_text() -> None:
    module, image = decoder(attend="prefix"), memory(1)
    ids = torch.tensor([[1, 50, 60, 70]])
    found = module(text(ids), image, taps=("attention.1", "layers.1"))
    maps = found["attention.1"][0]
    assert maps.shape == (2, 8, 8)
    assert (maps[:, :4, :4] > 0).all()
    assert (maps[:, :4, 4:] == 0).all()
    assert (maps[:, 4:, :4] > 0).all()
    assert (maps[:, 4:, 4:].triu(1) == 0).all()
    joined = torch.cat([module.prefix(image.values), module.words(ids) + module.positions[:, :4]], dim=1)
    allowed = maps[0][None, None] > 0
    for block in module.blocks:
        joined = block(joined, allowed)
    torch.testing.assert_close(found["logits"].values, module.logits(module.norm(joined[:, 4:])))


def test_states_of_another_encoder_cannot_be_generated_here() -> None:
    encoder = CaptionDecoder.model_validate({"of": ["text.tokens", "image"]})
    assert "generated" not in encoder.taps()
    assert "generated" in CaptionDecoder.model_validate({"of": ["caption", "image"], "tokenizer": "byte"}).taps()
    with pytest.raises(ValueError, match="`length` is 8"):
        decoder()(text(torch.ones(1, 9, dtype=torch.int64)), memory(1))
