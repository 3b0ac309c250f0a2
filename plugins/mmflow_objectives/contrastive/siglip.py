"""The pairwise sigmoid loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from mmflow.plugin import Bank, Bounds, Encoded, Loss, Ref, Refs, Score, Value, default
from mmflow_objectives.contrastive.contrast import contrast

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding


Temperature = Annotated[Value, Bounds(gt=0)]


class SigLIP(Loss, name="siglip"):
    """Binary cross-entropy of each pair (Zhai et al., 2023).

    With s_ij the score over the temperature plus the bias, the value of row i is the sum over all j of
    log(1 + exp(-z_ij s_ij)), z_ii = 1 and z_ij = -1 otherwise, [N]; the mean over rows is the published loss. The
    defaults are the published start: a learned scale of 10 and a learned bias of -10. `negatives`, a memory or an
    encoding, are further columns that match nothing.
    """

    example: ClassVar[str] = "{use: siglip, of: [image, text]}"

    of: Refs[Encoded] = Field((), max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="similarity of two rows")
    temperature: Temperature = default(
        {"use": "learned", "init": 0.1, "min": 0.001}, description="divisor of the scores"
    )
    bias: Value = default({"use": "learned", "init": -10.0, "exp": False}, description="added to every scaled score")
    negatives: Ref[Bank | Encoded] | None = Field(None, description="further candidates: a memory or an encoder")

    def in_batch_negatives(self) -> bool:
        return True

    def compute(
        self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor, bias: float | Tensor,
        negatives: Encoding | None,
    ) -> Tensor:  # fmt: skip
        from functools import partial

        from mmflow.kernels.contrast import contrast_blocks, sigmoid_contrast

        options: dict[str, Any] = {"temperature": temperature, "bias": bias, "reduction": "none"}
        return contrast(
            self.use, sigmoid_contrast, partial(contrast_blocks, form="sigmoid"), a, b, score, options,
            negatives=negatives,
        )  # fmt: skip
