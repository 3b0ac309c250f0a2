"""Running values of every sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmflow.plugin import Encoding, Memory, TensorType, Value, default
from mmflow_memories.columns import PREFIX, first_rows, like_rows, numeric, row_of, stored
from mmflow_memories.places import find, no_places, numbers_of, rounds, take

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MEASURES = ("mean", "variance", "last", "min", "max")


class Statistics(Memory, name="statistics"):
    """Mean, deviation, last, smallest and largest value of every sample so far, found by its id.

    `over: all` counts every visit alike (Welford, 1962): the deviation is that of the values seen, over their number.
    `over: recent` averages with `momentum`: mean += (1 - momentum) * (x - mean), with the variance momentum *
    (variance + (1 - momentum) * (x - mean)^2). Readers see the mean under the name of the column, the others as
    `loss.std`, `loss.last`, `loss.min`, `loss.max`, and `count` and `id`; `recall` finds the rows of a batch.
    """

    example: ClassVar[str] = "{use: statistics, size: 50000, of: {margin: margin}, over: all}"

    size: int = Field(ge=1, le=1_000_000_000, description="number of samples")
    over: Literal["all", "recent"] = Field("all", description="all visits alike, or averages with `momentum`")
    momentum: Value = default(0.9)

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        import torch

        state = no_places(self.size)
        for name, column in columns.items():
            shape, dtype = (self.size, *row_of(self.use, name, column)), numeric(self.use, name, column)
            state |= {f"{PREFIX}{name}.{measure}": torch.zeros(shape, dtype=dtype) for measure in MEASURES}
        state["count"] = torch.zeros(self.size, dtype=torch.int64)
        return state

    def gives(self, columns: Mapping[str, TensorType]) -> Mapping[str, TensorType]:
        found = {"id": TensorType("id", dtype="int64"), "count": TensorType("number", dtype="int64")}
        for name, column in columns.items():
            found |= {f"{name}.{measure}": column for measure in ("std", "last", "min", "max")}
        return found

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor], ids: Sequence[str], momentum: float | Tensor
    ) -> dict[str, Tensor]:
        keys = numbers_of(ids, state["id"].device)
        after = {**state, **take(self.use, state, keys)}
        places, _ = find(keys, after["ordered"], after["place"])
        for turn in rounds(keys):
            at = places[turn]
            count = after["count"][at]
            for name, column in columns.items():
                path = f"{PREFIX}{name}."
                x = stored(column[turn], state[f"{path}mean"])
                old = {measure: after[path + measure][at] for measure in MEASURES}
                found = self._next(old, x, like_rows(count, x), momentum)
                after |= {
                    path + measure: after[path + measure].index_copy(0, at, value) for measure, value in found.items()
                }
            after["count"] = after["count"].index_copy(0, at, count + 1)
        return after

    def _next(self, old: Mapping[str, Tensor], x: Tensor, count: Tensor, momentum: float | Tensor) -> dict[str, Tensor]:
        """The values after one more visit with `x` [N, ...]; `count` visits came before."""
        first = count == 0
        step = x - old["mean"]
        share = 1 / (count + 1).to(x.dtype) if self.over == "all" else (1.0 - momentum) * x.new_ones(count.shape)
        # The first visit is the mean itself, whatever the momentum.
        share = share.where(~first, share.new_ones(()))
        variance = (1 - share) * (old["variance"] + share * step * step)
        found = {"mean": old["mean"] + share * step, "variance": variance, "last": x}
        found["min"] = x.where(first, x.minimum(old["min"]))
        found["max"] = x.where(first, x.maximum(old["max"]))
        return {name: value.to(x.dtype) for name, value in found.items()}

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        if int(state["filled"]) == 0:
            return None
        present = first_rows(self.size, state["filled"])
        found = {"id": state["id"], "count": state["count"]}
        for path, values in state.items():
            if path.startswith(PREFIX):
                name, _, measure = path.removeprefix(PREFIX).rpartition(".")
                named = {"mean": name, "variance": f"{name}.std"}.get(measure, f"{name}.{measure}")
                found[named] = values.clamp_min(0).sqrt() if measure == "variance" else values
        return {name: Encoding({"pooled": values}, ("entry",), present) for name, values in found.items()}
