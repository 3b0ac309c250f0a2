"""Sources made of several others: one after the other (`concat`), or in stated shares (`mix`)."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, Source, TensorType, describe, read_sample
from mmflow_sources.nested import inner, opened


class Combination(Source):
    """Base of both: fields of all members, absent where a member lacks them, and the field `source`.

    Ids begin with the member's name, `NAME:ID`. Classes are joined by name, in the order in which they are met.
    """

    of: tuple[Source, ...] = Field(min_length=1)
    names: tuple[str, ...] | None = Field(None, description="of the members; 0, 1, ... where unset")

    @model_validator(mode="after")
    def _named(self) -> Combination:
        if self.names is not None and (len(self.names) != len(self.of) or len(set(self.names)) < len(self.names)):
            raise ValueError("`names` needs one name for each member, all different")
        return self

    def members(self) -> tuple[str, ...]:
        return self.names or tuple(str(place) for place in range(len(self.of)))

    def fields(self) -> Mapping[str, TensorType]:
        found: dict[str, TensorType] = {}
        for source in self.of:
            for name, type_ in inner(source).fields().items():
                if name == "source":
                    raise ComponentError(f"{describe(source)} has a field `source`, which the combination adds itself")
                found[name] = type_ if name not in found else _joined(name, found[name], type_)
        return {**found, "source": TensorType("label", dtype="int64", names=self.members())}

    def fingerprint(self) -> Any:
        return [source.fingerprint() for source in self.of]

    def counts(self, lengths: Sequence[int]) -> Sequence[int]:
        """Samples that each member gives."""
        return lengths

    def open(self) -> CombinationReader:
        return CombinationReader(self)


class Concat(Combination, name="concat"):
    """All samples of several sources, one source after the other."""

    example: ClassVar[str] = "{use: concat, of: [{use: shapes}, {use: digits}], names: [shapes, digits]}"


class Mix(Combination, name="mix"):
    """Samples of several sources in the shares `weights`, whatever the sources' lengths are.

    A member that is shorter than its share is gone through again (ids `NAME:ID#1`, ...). By default the mixture is as
    long as it must be to hold every sample of every member once.
    """

    example: ClassVar[str] = "{use: mix, of: [{use: shapes}, {use: digits}], weights: [3, 1], size: 4000}"

    weights: tuple[float, ...]
    size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _weighted(self) -> Mix:
        if len(self.weights) != len(self.of) or min(self.weights, default=0) <= 0:
            raise ValueError("`weights` needs one positive number for each member")
        return self

    def counts(self, lengths: Sequence[int]) -> Sequence[int]:
        total = sum(self.weights)
        shares = [weight / total for weight in self.weights]
        size = self.size
        if size is None:
            size = max(length / share for length, share in zip(lengths, shares, strict=True))
        ends = [round(size * sum(shares[: place + 1])) for place in range(len(shares))]
        return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


class CombinationReader:
    """Reads from the readers of the members."""

    def __init__(self, source: Combination) -> None:
        self.readers = [opened(member) for member in source.of]
        self.names = source.members()
        self.lengths = [len(reader) for reader in self.readers]
        self.types = source.fields()
        self._fields = [set(member.fields()) for member in source.of]
        starts = [0]
        for name, length in zip(self.names, self.lengths, strict=True):
            if not length:
                hint = "leave it out; a source of static fields alone has no samples to add"
                raise ComponentError(f"the member {name} of {describe(source)} has no samples", found=name, hint=hint)
        for count in source.counts(self.lengths):
            starts.append(starts[-1] + count)
        self._starts = starts
        self._numbers = [_renumbered(member.fields(), self.types) for member in source.of]

    @property
    def in_process(self) -> bool:
        return any(getattr(reader, "in_process", False) for reader in self.readers)

    def __len__(self) -> int:
        return self._starts[-1]

    def _place(self, index: int) -> tuple[int, int, int]:
        """Member, its sample, and how often it was gone through before."""
        member = bisect.bisect_right(self._starts, index) - 1
        turn, inner = divmod(index - self._starts[member], self.lengths[member])
        return member, inner, turn

    def id(self, index: int) -> str:
        member, inner, turn = self._place(index)
        return f"{self.names[member]}:{self.readers[member].id(inner)}" + (f"#{turn}" if turn else "")

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.read(index)

    def read(self, index: int, fields: Collection[str] | None = None) -> Mapping[str, Any]:
        member, inner, _ = self._place(index)
        wanted = set(self.types if fields is None else fields)
        found = read_sample(self.readers[member], inner, wanted & self._fields[member])
        sample = {name: found.get(name) for name in wanted}
        for name, numbers in self._numbers[member].items():
            if sample.get(name) is not None:
                sample[name] = _mapped(sample[name], numbers)
        return {**sample, "id": self.id(index), "source": member}

    def static(self) -> Mapping[str, Any]:
        return {}


def _joined(name: str, one: TensorType, other: TensorType) -> TensorType:
    if one.modality != other.modality or len(one.axes) != len(other.axes):
        raise ComponentError(
            f"field {name!r} is {one.modality} in one source and {other.modality} in another", found=other.modality
        )
    size = one.size
    if one.size != other.size:
        if len(one.size) != len(other.size):
            raise ComponentError(f"field {name!r} has the sizes {one.size} and {other.size} in two sources")
        size = tuple(a if a == b else None for a, b in zip(one.size, other.size, strict=True))
    groups = tuple(a if a == b else None for a, b in zip(one.groups, other.groups, strict=False))
    return one.with_(size=size, groups=groups, names=tuple(dict.fromkeys((*one.names, *other.names))))


def _renumbered(own: Mapping[str, TensorType], joined: Mapping[str, TensorType]) -> dict[str, list[int]]:
    """For each field whose classes have other numbers in the combination: own number -> joined number."""
    found = {}
    for name, type_ in own.items():
        if type_.names and type_.names != joined[name].names[: len(type_.names)]:
            found[name] = [joined[name].names.index(one) for one in type_.names]
    return found


def _mapped(value: Any, numbers: Sequence[int]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_mapped(member, numbers) for member in value]
    return numbers[int(value)]
