"""`Matrix`: the members that one text stands for, each a complete spec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mmflow.plugin.component import ComponentError
from mmflow.spec.check import check_document
from mmflow.spec.spec import Spec
from mmflow.spec.text.expand import read_members
from mmflow.spec.text.matrix import Variant, described, member_name
from mmflow.spec.text.problems import Place, Problem, SpecError, did_you_mean

SEED = "seed"
"""The axis along which members are repetitions of one another."""


@dataclass(frozen=True)
class Member:
    """One member: its name, empty where there is no matrix; the value that it has on each axis; and its spec."""

    name: str
    axes: Mapping[str, str]
    spec: Spec

    @property
    def group(self) -> str:
        """The name without the seed: members of one group differ in nothing else."""
        return member_name({axis: label for axis, label in self.axes.items() if axis != SEED})


@dataclass(frozen=True)
class Matrix:
    """The members of a spec by name, in order; a spec without a matrix has one, without a name."""

    members: Mapping[str, Member]

    @classmethod
    def of(cls, spec: Spec) -> Matrix:
        """A spec by itself."""
        return cls({"": Member("", {}, spec)})

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members.values())

    def __len__(self) -> int:
        return len(self.members)

    @property
    def first(self) -> Spec:
        return next(iter(self)).spec

    @property
    def notes(self) -> list[Problem]:
        """Advice about the specs, each once; about an entry of a section where all members have it."""
        counts = Counter(note for member in self for note in dict.fromkeys(member.spec.notes))
        return [note for note, count in counts.items() if len(note.path) != 2 or count == len(self.members)]

    def only(self, names: Collection[str]) -> Matrix:
        """The members with these names, in their order here; all where there are none. Raises `ComponentError`."""
        for name in names:
            if name not in self.members:
                known = [known for known in self.members if known]
                hint = did_you_mean(name, known) if known else "this spec has no matrix"
                expected = f"one of: {', '.join(known[:12])}" if known else ""
                raise ComponentError(f"there is no member {name}", expected=expected, hint=hint or "")
        return Matrix({name: member for name, member in self.members.items() if not names or name in names})


def load_members(
    source: str, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None, text: str | bytes | None = None
) -> Matrix:
    """The checked members of the spec at a path or an fsspec URL; `text` is its content, where it is at hand.

    Raises `SpecError` with everything that is wrong; what is wrong with some members only says with which.
    """
    found: dict[str, Member] = {}
    told: dict[Problem, list[Variant]] = {}
    read = read_members(source, overrides, env, text)
    for variant, document in read:
        try:
            if isinstance(document, SpecError):
                raise document
            found[variant.name] = Member(variant.name, variant.axes, check_document(document))
        except SpecError as error:
            for problem in error.problems:
                told.setdefault(problem, []).append(variant)
    if told:
        raise SpecError(_of_members(problem, having, len(read)) for problem, having in told.items())
    return Matrix(found)


def _of_members(problem: Problem, having: Sequence[Variant], count: int) -> Problem:
    """The problem with the members that have it, unless all do."""
    mark = having[0].mark
    if len(having) == count or mark is None:
        return problem
    place = Place(f"in {described([variant.name for variant in having])}, written at", mark)
    return replace(problem, also=(*problem.also, place))
