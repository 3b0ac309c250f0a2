"""The module of `caption_decoder`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmflow.plugin import Tokens
from mmflow_encoders.modules.attention import Block, attention_mask, through
from mmflow_encoders.modules.decoding import sample, search
from mmflow_encoders.modules.initialization import initialize
from mmflow_encoders.modules.sequences import as_tokens, join


class CaptionDecoder(nn.Module):
    """Blocks of causal self-attention over text states or ids, and logits over the vocabulary.

    The other sequences are attended to by cross-attention, or stand before the text as its prefix.
    """

    def __init__(
        self, *, vocabulary: int, width: int, memory_width: int, depth: int, heads: int, mlp_ratio: float,
        dropout: float, length: int | None, prefix: bool = False, begin: int = 0, end: int = 0,
        decoding: str = "greedy", beams: int = 1, penalty: float = 0.0, top_p: float = 1.0, temperature: float = 1.0,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.begin, self.end, self.decoding, self.beams, self.penalty = begin, end, decoding, beams, penalty
        self.top_p, self.temperature, self.seed = top_p, temperature, seed
        self.words = None if length is None else nn.Embedding(vocabulary, width)
        self.positions = None if length is None else nn.Parameter(torch.empty(1, length, width))
        self.prefix = nn.Linear(memory_width, width) if prefix else None
        attended = None if prefix else memory_width
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout, attended) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary)
        initialize(self)

    def forward(self, text: Tokens, *memories: Tensor | Tokens, taps: Sequence[str] = ()) -> dict[str, Tokens | Tensor]:
        memory = join([as_tokens(m) for m in memories])
        x, states, maps = self._through(text, memory, taps)
        layers = {name: Tokens(state, text.mask) for name, state in states.items()}
        generated = {"generated": self.generated(memory)} if "generated" in taps else {}
        return {"logits": Tokens(self.logits(self.norm(x)), text.mask), **layers, **maps, **generated}

    @torch.no_grad()
    def generated(self, memory: Tokens) -> Tokens:
        """Ids [N, L] decoded from the other sequences alone, begin and end included."""
        assert self.positions is not None

        def step(ids: Tensor, rows: Tensor) -> Tensor:
            text = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
            x, _, _ = self._through(text, Tokens(memory.values[rows], memory.mask[rows]), ())
            return self.logits(self.norm(x[:, -1]))

        count, length, device = len(memory.values), self.positions.shape[1], memory.mask.device
        if self.decoding == "beam":
            return search(
                step, count, begin=self.begin, end=self.end, length=length, beams=self.beams, penalty=self.penalty,
                device=device,
            )  # fmt: skip
        generator = torch.Generator().manual_seed(self.seed) if self.decoding == "nucleus" else None
        return sample(
            step, count, begin=self.begin, end=self.end, length=length, top_p=self.top_p,
            temperature=self.temperature, generator=generator, device=device,
        )  # fmt: skip

    def _through(
        self, text: Tokens, memory: Tokens, taps: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """States of the text after the blocks, before the norm, with the states and maps that `taps` names."""
        x, mask = text
        if self.words is not None and self.positions is not None:
            if x.shape[1] > self.positions.shape[1]:
                raise ValueError(f"texts of {x.shape[1]} ids; the decoder's `length` is {self.positions.shape[1]}")
            x = self.words(x) + self.positions[:, : x.shape[1]]
        if self.prefix is None:
            allowed, others = attention_mask(mask, causal=True), attention_mask(memory.mask)
            return through(self.blocks, x, allowed, taps, memory.values, others)
        first = memory.values.shape[1]
        x = torch.cat([self.prefix(memory.values), x], dim=1)
        x, states, maps = through(self.blocks, x, prefix_mask(memory.mask, mask), taps)
        return x[:, first:], {name: state[:, first:] for name, state in states.items()}, maps


def prefix_mask(prefix: Tensor, text: Tensor) -> Tensor:
    """Allowed pairs [N, 1, L, L] of a prefix that sees itself, followed by a text that sees the prefix and its past."""
    mask = torch.cat([prefix, text], dim=1)
    length, first = mask.shape[1], prefix.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    before[:first, :first] = True
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((mask[:, None, :] & before) | own)[:, None]
