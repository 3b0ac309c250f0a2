"""The module of `transformers_pairs`: ids of two texts joined as a tokenizer joins them, and scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmflow.plugin import Encoding, Tokens


@dataclass(frozen=True)
class Joined:
    """How a tokenizer writes a pair: marks around two texts, and the type of each place."""

    begin: tuple[int, ...]
    middle: tuple[int, ...]
    end: tuple[int, ...]
    types: tuple[int, int, int, int, int]
    """Of the begin, the first text, the middle, the second text, and the end."""
    typed: bool
    """Whether the model is told these types."""
    alone: tuple[int, int]
    """How many marks stand before and behind a single text."""
    padding: int


def joined_by(tokenizer: Any) -> Joined:
    """What a tokenizer does with pairs, found by asking it to join two."""
    pair, single = tokenizer("a", "a", return_token_type_ids=True), tokenizer("a")
    sides, ids, types = pair.sequence_ids(0), pair["input_ids"], pair["token_type_ids"]
    first, last = sides.index(0), len(sides) - 1 - sides[::-1].index(0)
    second, final = sides.index(1), len(sides) - 1 - sides[::-1].index(1)
    own = single.sequence_ids(0)
    middle = types[last + 1] if second > last + 1 else types[last]
    return Joined(
        begin=tuple(ids[:first]), middle=tuple(ids[last + 1 : second]), end=tuple(ids[final + 1 :]),
        types=(types[0], types[first], middle, types[second], types[-1]),
        typed="token_type_ids" in tokenizer.model_input_names,
        alone=(own.index(0), own[::-1].index(0)), padding=tokenizer.pad_token_id or 0,
    )  # fmt: skip


class PairScore(nn.Module):
    """Ids of two sides -> one number a pair."""

    def __init__(self, model: nn.Module, joined: Joined, length: int, rows: int) -> None:
        super().__init__()
        self.model, self.joined, self.length, self.rows = model.eval(), joined, length, rows

    def train(self, mode: bool = True) -> PairScore:
        """Dropout stays off: scores draw nothing."""
        self.training = mode
        return self

    def vectors(self, a: Encoding) -> None:
        """It compares no vectors."""

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        """[N]: row i of one side with row i of the other."""
        left, right = a["ids"], b["ids"]
        every = range(0, len(left.values), self.rows)
        found = [self._pairs(_cut(left, at, self.rows), _cut(right, at, self.rows)) for at in every]
        return torch.cat(found)

    def blocks(self, a: Encoding, b: Encoding) -> Tensor:
        """[N, M]: every row of one side with every row of the other."""
        left, right = a["ids"], b["ids"]
        rows = torch.arange(len(left.values), device=left.values.device).repeat_interleave(len(right.values))
        columns = torch.arange(len(right.values), device=rows.device).repeat(len(left.values))
        found = self.pairs(
            Encoding({"ids": Tokens(left.values[rows], left.mask[rows])}),
            Encoding({"ids": Tokens(right.values[columns], right.mask[columns])}),
        )
        return found.view(len(left.values), len(right.values))

    def _pairs(self, left: Tokens, right: Tokens) -> Tensor:
        ids, types, mask = self.joined_ids(left, right)
        options = {"token_type_ids": types} if self.joined.typed else {}
        return self.model(input_ids=ids, attention_mask=mask.long(), **options).logits.squeeze(-1)

    def joined_ids(self, left: Tokens, right: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, types and mask [N, L] of pairs; the longer text is cut first, as the library does."""
        by, device = self.joined, left.values.device
        before, behind = by.alone
        room = self.length - len(by.begin) - len(by.middle) - len(by.end)
        first, second = ((side.mask.sum(1) - before - behind).clamp_min(0) for side in (left, right))
        n, m = _shared(first, second, room)
        parts = [
            (_constant(by.begin, left), torch.full_like(n, len(by.begin))),
            (left.values[:, before:], n),
            (_constant(by.middle, left), torch.full_like(n, len(by.middle))),
            (right.values[:, before:], m),
            (_constant(by.end, left), torch.full_like(n, len(by.end))),
        ]
        widest = sum(len(marks) for marks in (by.begin, by.middle, by.end))
        widest += min(room, left.values.shape[1] + right.values.shape[1])
        place = torch.arange(widest, device=device)[None].expand(len(n), widest)
        ids = torch.full_like(place, by.padding)
        types, start = torch.zeros_like(place), torch.zeros_like(n)
        for (values, size), kind in zip(parts, by.types, strict=True):
            at = place - start[:, None]
            here = (at >= 0) & (at < size[:, None])
            if values.shape[1]:
                ids = torch.where(here, values.gather(1, at.clamp(0, values.shape[1] - 1)), ids)
            types = torch.where(here, kind, types)
            start = start + size
        return ids, types, place < start[:, None]


def _shared(first: Tensor, second: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Lengths of two texts in `room` places: what the shorter leaves is for the longer, else each has half."""
    short, long = torch.minimum(first, second), torch.maximum(first, second)
    cut = torch.minimum(long, torch.maximum(short, room - short))
    both = short + cut > room
    short = torch.where(both, room // 2, short)
    cut = torch.where(both, room // 2 + room % 2, cut)
    swapped = first > second
    return torch.where(swapped, cut, short), torch.where(swapped, short, cut)


def _constant(marks: tuple[int, ...], like: Tokens) -> Tensor:
    value = torch.tensor(marks, dtype=torch.int64, device=like.values.device)
    return value[None].expand(len(like.values), len(marks))


def _cut(side: Tokens, at: int, rows: int) -> Tokens:
    return Tokens(side.values[at : at + rows], side.mask[at : at + rows])
