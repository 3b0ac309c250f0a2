"""Contrast of a row's vector with its own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from mmflow.plugin import Bounds, ComponentError, Loss, Pooled, Ref, Refs, TensorType, TokenSequence, Value, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Tokens


class LocalContrast(Loss, name="local_contrast"):
    """A row's vector among its own tokens and those of other rows (Deep InfoMax; Hjelm et al., 2019; as in TCL; Yang et
    al., 2022), [N].

    For row i and each of its tokens l, with cosines s over the temperature:

        log( exp s(i, il) + sum over tokens of other rows exp s(i, jm) ) - s(i, il)

    and the value of a row is the mean over its tokens. A row without a token has loss 0.
    """

    example: ClassVar[str] = "{use: local_contrast, of: [image], parts: patches.tokens, temperature: 0.07}"

    of: Refs[Pooled] = Field((), max_length=1)
    parts: Ref[TokenSequence] = Field(description="the tokens of a row")
    temperature: Annotated[Value, Bounds(gt=0)] = default(0.07, description="divisor of the scores")
    normalize: bool = Field(True, description="score by cosine, otherwise by dot product")

    def fits(self, of: Sequence[TensorType], fields: Mapping[str, TensorType]) -> None:
        parts = fields.get("parts")
        if parts is not None and not parts.dtype.startswith("float"):
            raise ComponentError("it compares vectors", found=f"{self.parts}, whole numbers",
                                 hint="name the tokens of an encoder, such as image.tokens")  # fmt: skip
        width, given = (kind.size[-1] if kind is not None and kind.size else None for kind in (parts, of[0]))
        if None not in (width, given) and width != given:
            raise ComponentError("tokens have the width of the vectors", found=f"{width} and {given}",
                                 hint=f"give them a projection: tokens: {{use: linear, dim: {given}}}")  # fmt: skip

    def in_batch_negatives(self) -> bool:
        return True

    def compute(self, x: Tensor, *, parts: Tokens, temperature: float | Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.kernels import row_logsumexp

        tokens, mask = parts
        x, tokens = (v.float() if v.element_size() < 4 else v for v in (x, tokens))
        if self.normalize:
            x, tokens = normalize(x, dim=-1), normalize(tokens, dim=-1)
        rows = torch.arange(len(x), device=x.device)
        others = row_logsumexp(
            x, tokens.flatten(0, 1), temperature=temperature, x_ids=rows,
            y_ids=rows.repeat_interleave(tokens.shape[1]), exclude="same_id", y_present=mask.flatten(),
        )  # fmt: skip
        own = torch.einsum("nd,nld->nl", x, tokens) / temperature
        loss = torch.logaddexp(own, others[:, None]) - own
        return loss.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp_min(1)
