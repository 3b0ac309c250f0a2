"""Modules behind the stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmflow.plugin import Tokens, emit


class Resampled(nn.Module):
    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.project = nn.Linear(first + second, first)

    def forward(self, a: Tokens, b: Tokens) -> dict[str, Any]:
        other = F.interpolate(b.values.transpose(1, 2), size=a.values.shape[1]).transpose(1, 2)
        values = self.project(torch.cat([a.values, other], dim=-1))
        weights = a.mask.to(values.dtype).unsqueeze(-1)
        pooled = (values * weights).sum(1) / weights.sum(1).clamp_min(1)
        return {"pooled": pooled, "tokens": Tokens(values, a.mask)}


class Joined(nn.Module):
    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, dim)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.project(torch.cat(inputs, dim=-1))


class Aligned(nn.Module):
    """A video tower that emits how far neighboring frames lie apart."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.temporal = nn.ModuleDict({"tower": tower})

    def forward(self, video: Any, shift: Any = 1.0, taps: Sequence[str] = ()) -> dict[str, Any]:
        found = dict(self.temporal["tower"](video, taps=taps))
        frames = found["tokens"].values
        emit("align", shift * (frames[:, 1:] - frames[:, :-1]).square().mean((1, 2)))
        return {**found, "frame_cls": found["tokens"]}


class PartPrototypes(nn.Module):
    """Prototypes of several parts each: vectors [classes * per_class, parts, dim], a slot for each part."""

    def __init__(self, count: int, parts: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, parts, dim) * 0.1)
        self.slots = nn.Parameter(torch.ones(count, parts))

    def forward(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors, "slots": self.slots}


class ClassLinear(nn.Module):
    """Logits from prototypes, each of one class."""

    def __init__(self, classes: int, count: int, own: float, other: float) -> None:
        super().__init__()
        weight = torch.full((classes, count), other)
        for place in range(count):
            weight[place * classes // count, place] = own
        self.weight = nn.Parameter(weight)

    def forward(self, hit: Tensor) -> Tensor:
        return F.linear(hit, self.weight)


class Answers(nn.Module):
    """Logits of a few words from an image and counts of words."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.look, self.read = nn.Linear(3, words), nn.Linear(8, words)

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        return self.look(image.mean((-2, -1))) + self.read(question)


class Denoiser(nn.Module):
    """Noise of an image [N, 16, 16, 3] at step t, with attention from places to words."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ask, self.answer = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x: Tensor, t: Tensor, words: Tokens, taps: Sequence[str] = ()) -> dict[str, Tensor]:
        at = (t / 1000).view(-1, 1, 1, 1).expand(*x.shape[:3], 1)
        places = self.ask(torch.cat([x, at.to(x)], dim=-1)).flatten(1, 2)
        scores = places @ words.values.transpose(1, 2) / places.shape[-1] ** 0.5
        maps = torch.softmax(scores.masked_fill(~words.mask.unsqueeze(1), float("-inf")), dim=-1)
        eps = self.answer(maps @ words.values + places)
        found = {"pooled": eps.flatten(1)}
        return {**found, "attention.cross": maps} if "attention.cross" in taps else found


class LanguageModel(nn.Module):
    """Words that see the mean of their sentence, and logits of all words at each place."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table, self.mix, self.say = (
            nn.Embedding(words, width),
            nn.Linear(2 * width, width),
            nn.Linear(width, words),
        )

    def forward(self, ids: Tokens) -> dict[str, Any]:
        x, weights = self.table(ids.values), ids.mask.unsqueeze(-1).to(self.table.weight.dtype)
        mean = (x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
        x = torch.tanh(self.mix(torch.cat([x, mean.expand_as(x)], dim=-1)))
        tokens, logits = Tokens(x, ids.mask), Tokens(self.say(x), ids.mask)
        return {"pooled": (x * weights).sum(1) / weights.sum(1).clamp_min(1), "tokens": tokens, "logits": logits}


class Guessed(nn.Module):
    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, k)

    def forward(self, image: Tokens, text: Tokens) -> dict[str, Tensor]:
        found = {}
        for name, tokens in (("image", image), ("text", text)):
            weights = tokens.mask.unsqueeze(-1).to(tokens.values.dtype)
            mean = (tokens.values * weights).sum(1) / weights.sum(1).clamp_min(1)
            found[name] = torch.softmax(self.head(mean), dim=-1)
        return found


class Bilinear(nn.Module):
    """a W b of encodings."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim) + 0.01 * torch.randn(dim, dim))

    def blocks(self, a: Any, b: Any) -> Tensor:
        return F.normalize(a.pooled, dim=-1) @ self.weight @ F.normalize(b.pooled, dim=-1).T

    def pairs(self, a: Any, b: Any) -> Tensor:
        return ((F.normalize(a.pooled, dim=-1) @ self.weight) * F.normalize(b.pooled, dim=-1)).sum(-1)


class Propagated(nn.Module):
    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, dim)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        edges = edges / edges.sum(1, keepdim=True).clamp_min(1e-6)
        return F.elu(self.project(edges @ x))
