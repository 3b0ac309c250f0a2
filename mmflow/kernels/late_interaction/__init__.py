"""Late interaction: every token finds its best partner in the other item, in both directions at once."""

from typing import Literal

import torch
from torch import Tensor

from ..dispatch import choose
from ..inputs import positive

Reduce = Literal["mean", "sum", "softmax"]


def max_sim(
    x: Tensor,
    y: Tensor,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    reduce: Reduce = "mean",
    *,
    x_logits: Tensor | None = None,
    y_logits: Tensor | None = None,
    inner_temperature: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Token-wise similarity of all pairs of items, as seen by x and as seen by y.

        s_xy[i, j] = sum_p a[i, p] max_t <x[i, p], y[j, t]>
        s_yx[i, j] = sum_t b[j, t] max_p <x[i, p], y[j, t]>

    with weights a, b over the valid tokens: 1 / count (`mean`, FILIP: Yao et al., 2022), 1 (`sum`, ColBERT: Khattab and
    Zaharia, 2020) or a softmax over tokens of logits (`softmax`, weighted token interaction: Wang et al., 2022). The
    maximum goes to the first of equal tokens. With `inner_temperature` it is softened to
    sum_t softmax_t(s / inner_temperature) s (CiCo: Cheng et al., 2023). Tokens are not normalized here.

    Args:
        x: [N, P, D]. y: [M, T, D]. float32, bfloat16, float16 or float64; mixed dtypes are promoted.
        x_mask: bool [N, P], True where a token counts. y_mask: bool [M, T]. A masked token is neither partner nor
            summand. An item without tokens has similarity 0 and no gradient.
        reduce: how the maxima of an item's tokens are summed.
        x_logits: [N, P]. y_logits: [M, T]. The logits of `reduce="softmax"`.
        inner_temperature: > 0, or None for the maximum.

    Returns:
        s_xy, s_yx, each [N, M], float32 (float64 for float64 inputs). Gradients for x, y and the logits.

    Cost: one product of all tokens, 2 N M P T D FLOP, for both directions; the backward gathers (P + T) D numbers a
    pair, or multiplies once more for each input where tokens are few; with a soft maximum it computes the product again
    and multiplies once more for each input. Memory: tiles, and the indices of the maxima (or the soft maxima) up to
    16 MB, beyond which they are computed again; in the Triton form tiles hold up to 256 MB of indices, or 64 MB of
    gradients of soft maxima, and the shorter of P and T is at most 512.
    """
    run_inputs = _inputs(x, y, x_mask, y_mask, reduce, x_logits, y_logits, inner_temperature)
    form = choose("max_sim", x, y, backend=backend, without_triton=_obstacle(x, y))
    if form == "triton":
        from .fused import max_sim as run
    elif form == "chunked":
        from .chunked import max_sim as run
    else:
        from .reference import max_sim as run
    with torch.autocast(x.device.type, enabled=False):
        return run(*run_inputs, inner_temperature)


def max_sim_contrast(
    x: Tensor,
    y: Tensor,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    reduce: Reduce = "mean",
    *,
    temperature: float | Tensor = 0.07,
    x_logits: Tensor | None = None,
    y_logits: Tensor | None = None,
    inner_temperature: float | None = None,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "none"] = "mean",
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Symmetric contrastive loss over `max_sim`: item i of x matches item i of y (FILIP: Yao et al., 2022).

    Rows compare s_xy over the items of y, columns s_yx over the items of x; the two are not averaged before the
    softmax. Items without tokens are left out, as rows, as columns and of the mean.

    Args:
        x, y, masks, reduce, logits, inner_temperature: as in `max_sim`, N = M.
        temperature: > 0, a number or a tensor [] (learned).
        label_smoothing: share of the target spread evenly over all candidates.
        reduction: "mean" gives the mean of the two directions' means, "none" the losses ([N], [M]) themselves.

    Returns:
        [] or ([N], [M]); float32 (float64 for float64 inputs). Gradients for x, y, logits and temperature.

    Cost: that of `max_sim`, whose tiles are computed a second time in the backward unless they fit into 16 MB. Neither
    N x M x P x T nor N x M numbers are stored.
    """
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"max_sim_contrast: x has {x.shape[0]} items and y {y.shape[0]}; item i of x matches item i of y"
        )
    run_inputs = _inputs(x, y, x_mask, y_mask, reduce, x_logits, y_logits, inner_temperature)
    positive("max_sim_contrast", temperature)
    scale = torch.as_tensor(temperature, dtype=run_inputs[0].dtype, device=x.device)
    form = choose("max_sim_contrast", x, y, backend=backend, without_triton=_obstacle(x, y))
    if form == "triton":
        from .fused import max_sim_contrast as run
    elif form == "chunked":
        from .chunked import max_sim_contrast as run
    else:
        from .reference import max_sim_contrast as run
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = run(*run_inputs, inner_temperature, scale, label_smoothing)
    if reduction == "none":
        return rows, columns
    both = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for mask in (x_mask, y_mask):
        both = both if mask is None else both & mask.any(1)
    return (rows + columns).sum() / (2 * both.sum().clamp_min(1))


def _inputs(
    x: Tensor,
    y: Tensor,
    x_mask: Tensor | None,
    y_mask: Tensor | None,
    reduce: str,
    x_logits: Tensor | None,
    y_logits: Tensor | None,
    inner_temperature: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Checked inputs in the dtype of the computation, and the weights of the tokens."""
    if x.dim() != 3 or y.dim() != 3 or x.shape[2] != y.shape[2]:
        raise ValueError(f"max_sim: tokens are x [N, P, D] and y [M, T, D], got {list(x.shape)} and {list(y.shape)}")
    for name, tokens, mask in (("x", x, x_mask), ("y", y, y_mask)):
        if not tokens.numel():
            raise ValueError(f"max_sim: {name} is empty: {list(tokens.shape)}")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != tokens.shape[:2]):
            raise ValueError(
                f"max_sim: {name}_mask is bool {list(tokens.shape[:2])}, True where a token counts; "
                f"got {mask.dtype} {list(mask.shape)}"
            )
    if reduce not in ("mean", "sum", "softmax"):
        raise ValueError(f"max_sim: reduce is {reduce!r}; known are mean, sum, softmax")
    if (reduce == "softmax") != (x_logits is not None and y_logits is not None):
        raise ValueError("max_sim: reduce='softmax' takes x_logits [N, P] and y_logits [M, T], the others none")
    if inner_temperature is not None:
        positive("max_sim", inner_temperature, "inner_temperature")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    return x, y, _weights(x, x_mask, reduce, x_logits), _weights(y, y_mask, reduce, y_logits), x_mask, y_mask


def _weights(tokens: Tensor, mask: Tensor | None, reduce: str, logits: Tensor | None) -> Tensor:
    n, p, _ = tokens.shape
    if reduce == "softmax":
        assert logits is not None
        if logits.shape != (n, p):
            raise ValueError(
                f"max_sim: the logits of tokens {list(tokens.shape)} are [{n}, {p}], got {list(logits.shape)}"
            )
        logits = logits.to(tokens.dtype)
        if mask is None:
            return logits.softmax(1)
        none = ~mask.any(1, keepdim=True)
        return logits.masked_fill(~(mask | none), -torch.inf).softmax(1).masked_fill(none, 0.0)
    weight = tokens.new_ones(n, p) if mask is None else mask.to(tokens.dtype)
    return weight if reduce == "sum" else weight / weight.sum(1, keepdim=True).clamp_min(1)


def _obstacle(x: Tensor, y: Tensor) -> str:
    if min(x.shape[1], y.shape[1]) > 512:
        return "one side may have any number of tokens, the other at most 512"
    return ""
