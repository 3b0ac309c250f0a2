"""Vectors joined by learned gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoded, Encoder, Encoding, Refs, TensorType
from mmflow_encoders.declared import Width, vector_like, width_of
from mmflow_encoders.inputs import MOST

if TYPE_CHECKING:
    from torch import Tensor, nn


class Gated(Encoder, name="gated"):
    """A weighted sum of several vectors, with weights that depend on all of them (Arevalo et al., 2017).

    h_i = tanh(W_i x_i + b_i), g = softmax_i(v_i . [x_1; ...; x_n] + c_i), `pooled` [N, width] = sum_i g_i h_i. With two
    inputs the gate is the sigmoid of the paper. `gate: vector` has a gate for each dimension instead of one for each
    input. Output `gates` [N, n], the weights of the inputs (their mean over dimensions).

    Absent inputs count as zero in the gates and get the weight 0; a row without any input is absent.
    """

    example: ClassVar[str] = "{use: gated, of: [image, text], width: 256}"

    of: Refs[Encoded] = Field(min_length=2, max_length=MOST)  # pyright: ignore[reportIncompatibleVariableOverride]
    width: Width = Field(256, description="of the result")
    gate: Literal["scalar", "vector"] = Field("scalar", description="a gate for each input, or for each dimension")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": vector_like(inputs[0], self.width), "gates": vector_like(inputs[0], len(inputs))}

    def presence(self, inputs: Sequence[Encoding]) -> Tensor | None:
        present = None
        for encoding in inputs:
            if encoding.present is None:
                return None
            present = encoding.present if present is None else present | encoding.present
        return present

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.joining import Gates

        widths = [width_of(self.use, given) for given in inputs]
        return Gates(widths=widths, width=self.width, per_dimension=self.gate == "vector")
