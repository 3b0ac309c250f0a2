"""The torch modules behind the declarations."""

from __future__ import annotations

import torch
from mmflow_encoders.modules.projection import ACTIVATIONS
from mmflow_encoders.modules.sequences import as_tokens
from torch import Tensor, nn

from mmflow.plugin import Tokens


class Bottleneck(nn.Module):
    """The module of `adapter`."""

    def __init__(
        self, width: int, *, reduction: int, activation: str, last_activation: bool, bias: bool, zero: bool
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, max(1, width // reduction), bias=bias)
        self.up = nn.Linear(self.down.out_features, width, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        self.last = self.activation if last_activation else nn.Identity()
        if zero:
            for parameter in self.up.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor | Tokens, ratio: float | Tensor) -> Tensor | dict[str, Tensor | Tokens]:
        if isinstance(x, Tokens):
            return {"tokens": Tokens(self._blended(x.values, ratio), x.mask)}
        found = self._blended(x, ratio)
        return {"grid": found} if x.ndim == 4 else found

    def _blended(self, x: Tensor, ratio: float | Tensor) -> Tensor:
        return ratio * self.last(self.up(self.activation(self.down(x)))) + (1 - ratio) * x


class Context(nn.Module):
    """The module of `prompt_tokens`."""

    def __init__(
        self, *, count: int, width: int, classes: int | None, place: str, condition_width: int | None, crossed: bool
    ) -> None:
        super().__init__()
        self.place, self.crossed = place, crossed
        self.context = nn.Parameter(torch.empty(classes or 1, count, width))
        nn.init.normal_(self.context, std=0.02)
        self.meta = None
        if condition_width is not None:
            hidden = max(1, condition_width // 16)
            self.meta = nn.Sequential(nn.Linear(condition_width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, words: Tensor | Tokens, condition: Tensor | None = None) -> dict[str, Tokens]:
        values, mask = as_tokens(words)
        rows = len(values)
        if self.meta is None or condition is None:
            if len(self.context) not in (1, rows):
                raise ValueError(f"{rows} rows of words; `classes` is {len(self.context)}")
            return {"tokens": self._joined(values, mask, self.context.expand(rows, -1, -1))}
        context = self.context + self.meta(condition)[:, None]
        if not self.crossed:
            return {"tokens": self._joined(values, mask, context)}
        samples = len(context)
        joined = self._joined(
            values.repeat(samples, 1, 1), mask.repeat(samples, 1), context.repeat_interleave(rows, dim=0)
        )
        return {"tokens": Tokens(*(x.unflatten(0, (samples, rows)) for x in joined))}

    def _joined(self, words: Tensor, mask: Tensor, context: Tensor) -> Tokens:
        """Words and context in their order, by sort keys: word k has the key k, context lies between two words."""
        rows, count = context.shape[:2]
        keys = torch.arange(words.shape[1], device=mask.device, dtype=torch.float32).expand(rows, -1)
        last = (mask.sum(dim=1, keepdim=True) - 1).clamp_min(1).to(keys.dtype)
        front = count if self.place == "front" else count // 2 if self.place == "middle" else 0
        between = torch.where(torch.arange(count, device=mask.device) < front, 0.5, last - 0.5)
        order = torch.cat([keys, between], dim=1).argsort(dim=1, stable=True)
        values = torch.cat([words, context.to(words.dtype)], dim=1)
        real = torch.cat([mask, mask.any(dim=1, keepdim=True).expand(-1, count)], dim=1)
        placed = values.gather(1, order[:, :, None].expand(-1, -1, values.shape[2]))
        return Tokens(placed, real.gather(1, order))
