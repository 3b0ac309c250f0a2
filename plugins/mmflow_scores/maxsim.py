"""Late interaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Score

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


class MaxSim(Score, name="maxsim"):
    """Late interaction: the best match of each token among the tokens of the other side.

        s_ab[i, j] = reduce_p max_t <a[i, p], b[j, t]>     s_ba[j, i] = reduce_t max_p <b[j, t], a[i, p]>

    over real tokens; `reduce` is the `mean` (FILIP; Yao et al., 2022), the `sum` (ColBERT; Khattab and Zaharia, 2020)
    or the `max` over the tokens. The two directions differ: `blocks` gives both, `pairs` the mean of the two. With
    `normalize` the tokens have length one, so that each product is a cosine. A row without tokens scores 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("tokens",)
    example: ClassVar[str] = "{use: infonce, of: [image, text], score: {use: maxsim, reduce: mean}}"

    reduce: Literal["mean", "sum", "max"] = Field("mean", description="reduction over the best matches of the tokens")
    normalize: bool = Field(True, description="whether tokens are scaled to length one first")

    def blocks(self, a: Encoding, b: Encoding) -> tuple[Tensor, Tensor]:
        from mmflow.kernels import max_sim

        (x, x_mask), (y, y_mask) = self._tokens(a), self._tokens(b)
        if self.reduce == "max":
            largest = _largest(x, y, x_mask, y_mask)
            return largest, largest.T
        over_b, over_a = max_sim(x, y, x_mask, y_mask, self.reduce)
        return over_b, over_a.T

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        import torch

        (x, x_mask), (y, y_mask) = self._tokens(a), self._tokens(b)
        both = x_mask[:, :, None] & y_mask[:, None, :]
        # Inside autocast the product has another type than its factors.
        product = x @ y.transpose(1, 2)
        similar = product.masked_fill(~both, torch.finfo(product.dtype).min)
        sides = [_reduced(similar.amax(2), x_mask, self.reduce), _reduced(similar.amax(1), y_mask, self.reduce)]
        return torch.where(both.flatten(1).any(1), (sides[0] + sides[1]) / 2, 0.0)

    def _tokens(self, a: Encoding) -> tuple[Tensor, Tensor]:
        from torch.nn.functional import normalize

        values, mask = a.tokens
        values = values.float() if values.element_size() < 4 else values
        return (normalize(values, dim=-1) if self.normalize else values), mask


def _reduced(best: Tensor, mask: Tensor, reduce: str) -> Tensor:
    if reduce == "max":
        return best.amax(1)
    total = best.masked_fill(~mask, 0).sum(1)
    return total if reduce == "sum" else total / mask.sum(1).clamp_min(1)


def _largest(x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> Tensor:
    """The largest product of any token of x[i] with any of y[j]: [N, M], one token of x at a time; 0 where none."""
    import torch

    n, m = len(x), len(y)
    flat, best = y.flatten(0, 1), x.new_full((n, m), torch.finfo(x.dtype).min)
    for place in range(x.shape[1]):
        # Inside autocast a product has another type than its factors.
        product = (x[:, place] @ flat.T).view(n, m, -1)
        lowest = torch.finfo(product.dtype).min
        products = product.masked_fill(~y_mask, lowest).amax(2)
        best = torch.maximum(best, products.masked_fill(~x_mask[:, place, None], lowest))
    return torch.where(x_mask.any(1)[:, None] & y_mask.any(1)[None, :], best, 0.0)
