"""Prototypes: running means of classes or clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Encoding, Labels, Memory, Ref, TensorType, Value, default
from mmflow_memories.columns import PREFIX, columns_of, like_rows, numeric, row_of, stored
from mmflow_memories.places import places_within

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HELD = "held."
"""In front of rows that wait for the start by k-means."""


class Prototypes(Memory, name="prototypes"):
    """The mean vector of each class or cluster, moved by each batch.

    With `labels` a row moves the prototype of its class (labels below zero: none); without them the nearest one, by the
    first column. `over: recent` moves p to momentum * p + (1 - momentum) * the mean of the batch's rows; with
    `one_by_one` row after row (CAPro; Qin et al., 2023). `over: all` is the mean of all rows so far. The first rows of
    a class are its prototype; without labels the first `count` rows are, or with `start: kmeans` the centers of the
    first `start_rows` rows.

    There may be fewer than `count`: those that no row has met are absent, and `initial` may bring any number up to it.
    State: a buffer [count, D] a column, and the rows that each has met. Readers see the columns, `count`, and
    `density`: the running mean distance of rows to their prototype over log(count + 10) (PCL; Li et al., 2021).
    """

    example: ClassVar[str] = "{use: prototypes, count: 10, of: image, labels: label, momentum: 0.99}"

    labels: Ref[Labels] | None = None
    count: int = Field(ge=1, le=10_000_000, description="prototypes at most")
    over: Literal["recent", "all"] = Field("recent", description="averages with `momentum`, or all rows alike")
    momentum: Value = default(0.99)
    one_by_one: bool = Field(False, description="rows of a batch move a prototype one after another")
    normalize: bool = Field(False, description="keep rows and prototypes at length one")
    start: Literal["rows", "kmeans"] = Field("rows", description="without labels: what the first prototypes are")
    start_rows: int | None = Field(None, ge=1, le=100_000_000, description="rows for `start: kmeans`; 10 a prototype")
    ready: Literal["any", "full"] = Field("any", description="readable from the first prototype on, or with all")

    @model_validator(mode="after")
    def _one_start(self) -> Prototypes:
        if self.labels is not None and self.start == "kmeans":
            raise ValueError("start: kmeans makes clusters, and `labels` say what the prototypes are")
        if self.start_rows is not None and self.start_rows < self.count:
            raise ValueError(f"start_rows: {self.start_rows} rows have no {self.count} centers")
        return self

    @property
    def _waiting(self) -> int:
        return (self.start_rows or 10 * self.count) if self.start == "kmeans" else 0

    def initial(self, columns: Mapping[str, TensorType], *, generator: torch.Generator) -> dict[str, Tensor]:
        import torch

        state: dict[str, Tensor] = {}
        for name, column in columns.items():
            shape, dtype = row_of(self.use, name, column), numeric(self.use, name, column)
            state[PREFIX + name] = torch.zeros((self.count, *shape), dtype=dtype)
            if self._waiting:
                state[HELD + name] = torch.zeros((0, *shape), dtype=dtype)
            state.setdefault("distance", torch.zeros(self.count, dtype=dtype))
        state["seen"] = torch.zeros(self.count, dtype=torch.int64)
        return state

    def gives(self, columns: Mapping[str, TensorType]) -> Mapping[str, TensorType]:
        return {"density": TensorType("number"), "count": TensorType("number", dtype="int64")}

    def entries(self) -> int:
        return self.count

    def begun(self, state: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Prototypes that another stage gives, each as one row that was met."""
        import torch

        found = len(next(iter(content.values())))
        if found > self.count:
            raise ComponentError("more prototypes than `count`", found=str(found), expected=f"at most {self.count}")
        places = torch.arange(found, device=state["seen"].device)
        after = dict(state)
        for name, rows in content.items():
            buffer = state[PREFIX + name]
            after[PREFIX + name] = buffer.index_copy(0, places, stored(rows, buffer, unit=self.normalize))
        return {**after, "seen": state["seen"].index_fill(0, places, 1)}

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Mapping[str, Tensor], columns: Mapping[str, Tensor], labels: Tensor | None,
        momentum: float | Tensor, generator: torch.Generator,
    ) -> dict[str, Tensor]:  # fmt: skip
        import torch

        rows = {name: stored(x, state[PREFIX + name], unit=self.normalize) for name, x in columns.items()}
        if labels is not None:
            labels = labels.to(state["seen"].device)
            if len(labels) and int(labels.max()) >= self.count:
                found = f"label {int(labels.max())}"
                raise ComponentError("a label has no prototype", found=found, expected=f"below {self.count} (`count`)")
            there = labels >= 0
            return self._moved(state, {name: x[there] for name, x in rows.items()}, labels[there], momentum)
        state = dict(state)
        if self._waiting and not bool(state["seen"].any()):
            rows = {name: torch.cat([state[HELD + name], x])[: self._waiting] for name, x in rows.items()}
            if len(next(iter(rows.values()))) < self._waiting:
                return {**state, **{HELD + name: x for name, x in rows.items()}}
            state |= {HELD + name: x[:0] for name, x in rows.items()}
            return self._moved(state, rows, self._clusters(next(iter(rows.values())), generator), 0.0)
        begin = min(self.count - int((state["seen"] > 0).sum()), len(next(iter(rows.values()))))
        if begin:
            free = (state["seen"] == 0).nonzero().flatten()[:begin]
            state = self._moved(state, {name: x[:begin] for name, x in rows.items()}, free, momentum)
        rest = {name: x[begin:] for name, x in rows.items()}
        first = next(iter(rest))
        if not len(rest[first]):
            return state
        return self._moved(state, rest, self._nearest(state, first, rest[first]), momentum)

    def _clusters(self, x: Tensor, generator: torch.Generator) -> Tensor:
        from mmflow.kernels import kmeans

        return kmeans(x.flatten(1), self.count, spherical=self.normalize, generator=generator).labels

    def _nearest(self, state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
        """The prototype that is there and nearest to each row, int64 [N]."""
        from mmflow.kernels import nearest_center

        there = (state["seen"] > 0).nonzero().flatten()
        return there[nearest_center(x.flatten(1), state[PREFIX + name][there].flatten(1))[0]]

    def _moved(
        self, state: Mapping[str, Tensor], rows: Mapping[str, Tensor], labels: Tensor, momentum: float | Tensor
    ) -> dict[str, Tensor]:
        """The state after rows [N, D] by column, each with its prototype [N]."""
        import torch
        from torch.nn.functional import normalize

        after, seen = dict(state), state["seen"]
        arrived = torch.bincount(labels, minlength=self.count)
        shares, rest = self._shares(labels, arrived, seen, momentum, state["distance"].dtype)
        distance: Tensor | None = None
        for name, x in rows.items():
            old = state[PREFIX + name]
            sums = torch.zeros_like(old).index_add(0, labels, like_rows(shares, x) * x)
            found = like_rows(rest, old) * old + sums
            found = normalize(found, dim=-1) if self.normalize else found
            after[PREFIX + name] = new = found.where(like_rows(arrived > 0, old), old)
            if distance is None:
                distance = (x - new[labels]).flatten(1).norm(dim=1)
        assert distance is not None
        met = torch.zeros_like(state["distance"]).index_add(0, labels, shares * distance)
        moved = rest * state["distance"] + met
        after["distance"] = moved.where(arrived > 0, state["distance"])
        return {**after, "seen": seen + arrived}

    def _shares(
        self, labels: Tensor, arrived: Tensor, seen: Tensor, momentum: float | Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The weight of each row in its prototype [N], and that of each prototype as it was [count]; together 1."""
        import torch

        first = (seen == 0)[labels]
        if self.over == "all":
            total = (seen + arrived).clamp_min(1).to(dtype)
            return 1 / total[labels], seen / total
        keep = torch.as_tensor(momentum, dtype=dtype, device=labels.device)
        if not self.one_by_one:
            rest = torch.where(seen == 0, 0.0, keep)
            return (1 - rest[labels]) / arrived[labels].to(dtype), rest
        turn = places_within(labels)
        later = (arrived[labels] - 1 - turn).to(dtype)
        shares = keep**later * torch.where(first & (turn == 0), 1.0, 1 - keep)
        return shares, torch.where(seen == 0, 0.0, keep ** arrived.to(dtype))

    def read(self, state: Mapping[str, Tensor]) -> Mapping[str, Encoding] | None:
        there = state["seen"] > 0
        if not bool(there.all() if self.ready == "full" else there.any()):
            return None
        present = None if bool(there.all()) else there
        density = state["distance"] / (state["seen"] + 10).to(state["distance"].dtype).log()
        found = {**columns_of(state), "density": density, "count": state["seen"]}
        return {name: Encoding({"pooled": rows}, ("entry",), present) for name, rows in found.items()}
