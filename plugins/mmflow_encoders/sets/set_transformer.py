"""The transformer of sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import TensorType
from mmflow_encoders.declared import Tower, length_of, map_like, map_names, width_of
from mmflow_encoders.inputs import SEQUENCES, Sequences

if TYPE_CHECKING:
    from torch import nn


class SetTransformer(Tower, name="set_transformer"):
    """Transformer over a set (Lee et al., 2019), pre-norm: there are no positions, so that order does not matter.

    Input: tokens [N, L, C] with their mask (such as the members of a group, `members.tokens`) or a grid. Outputs:
    `tokens` [N, L, width] with the same mask, permuted as the input is; `pooled` [N, width], by a learned query with an
    MLP, the mean, or the maximum over the real tokens. Taps: `layers.1` to `layers.<depth>`, the tokens after each
    block; `attention.1` to `attention.<depth>`, the maps [N, heads, L, L]; `attention.pool`.

    With `inducing` m > 0 each block attends through m learned points (induced set attention), at a cost that grows with
    L m instead of L^2; its map is then that of the tokens to the points, [N, heads, L, m].
    """

    accepts: ClassVar[tuple[tuple[str, ...], ...]] = (SEQUENCES,)
    example: ClassVar[str] = "{use: set_transformer, of: objects.tokens, width: 128, depth: 2}"

    of: Sequences = Field(min_length=1, max_length=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    pool: Literal["attention", "mean", "max"] = Field("attention", description="learned query, mean, or maximum")
    inducing: int = Field(0, ge=0, le=65_536, description="learned points that a block attends through; 0: none")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        given = inputs[0]
        outputs = self.tower(given, length_of(given), self.pool)
        if self.inducing:
            maps = map_like(given, self.heads, length_of(given), self.inducing)
            outputs.update(dict.fromkeys(map_names(self.depth), maps))
        return outputs

    def taps(self) -> tuple[str, ...]:
        return self.tower_taps(self.pool)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from mmflow_encoders.modules.set_transformer import SetTransformer as Module

        return Module(
            channels=width_of(self.use, inputs[0]),
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            dropout=self.dropout,
            pool=self.pool,
            inducing=self.inducing,
        )
