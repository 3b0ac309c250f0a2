"""Unit length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mmflow.plugin import Encoder, TensorType
from mmflow_encoders.inputs import VECTORS, Sequences, output_of

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Tokens


class L2Norm(Encoder, name="l2norm"):
    """Scales vectors (each token or place of a sequence or grid) to length one: x / ||x||. No weights."""

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (VECTORS,)
    example: ClassVar[str] = "{use: l2norm, of: image}"

    of: Sequences = ()  # pyright: ignore[reportIncompatibleVariableOverride]

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {output_of(inputs[0]): inputs[0]}

    def apply(self, x: Tensor | Tokens) -> Any:
        from torch.nn.functional import normalize

        from mmflow.plugin import Tokens

        if isinstance(x, Tokens):
            return {"tokens": Tokens(normalize(x.values, dim=-1), x.mask)}
        return {"grid": normalize(x, dim=-1)} if x.ndim == 4 else normalize(x, dim=-1)
