"""Mistakes that show only when data are read: samples of all entries that a stage needs, its first draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from mmflow.data import Batch, ColumnRequest, Loader, count_of, read_column, sample_of, scan
from mmflow.data.blanks import blank_source, joins
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Evaluator, Source, Stage, StageScope, StageSpec, Tally, View
from mmflow.plugin.modality import modality
from mmflow.plugin.references import Data, Model, reference_fields
from mmflow.plugin.samples import SampleError
from mmflow.plugin.streams import Streams, as_read
from mmflow.plugin.targets import STAGE
from mmflow.plugin.values import RawValue
from mmflow.spec.references.forms import reference_at
from mmflow.spec.references.views import fields_of, numbers_of
from mmflow.spec.text.problems import Problem

SPREAD = 4
"""Samples that are read from all over an entry of data."""
FIRST = 32
"""Batches that are looked at for one that is not left out whole by the source's policy."""
DRAWN = 200_000
"""Samples up to which a sampler that reads all of them is asked for its first batch."""
ORDERED = 4_000_000
"""Samples up to which any sampler is."""
LISTED = 100_000
"""Samples of an entry up to which the files of all of them are looked for."""
COUNTED = 5_000
"""Samples of an entry up to which the rows of each class are counted."""
MOST_NUMBERS = 200_000_000
"""Numbers that one check reads of the data: those of 1,000 images of 256 x 256 pixels in color."""
MOST_AT_ONCE = 60_000_000
"""Numbers that it reads at once."""


class TooMuch(ComponentError):
    """More numbers than one check reads."""


class Reading:
    """Reads samples for one check, as long as they are not too large."""

    def __init__(self) -> None:
        self._left = MOST_NUMBERS
        self._told = set[str]()
        self._counted: dict[tuple[str, str], Mapping[int, int]] = {}

    def first_rows(
        self, source: Source, views: Mapping[str, View], requests: Sequence[ColumnRequest], rows: int
    ) -> Batch:
        """The first batch with a sample in it; raises `SampleError` where all that are looked at are left out.

        A source with static fields alone (one big graph) has no samples to read: an empty batch. Raises `TooMuch`.
        """
        self._spend(1, _declared(source, views, requests))
        # One row first: what encoders make of it in their preprocessing is not declared.
        one = _first(source, views, requests, 1)
        self._spend(rows, _numbers(one))
        return _first(source, views, requests, rows)

    def rows_from_all_over(
        self, source: Source, views: Mapping[str, View], requests: Sequence[ColumnRequest], data: str = ""
    ) -> None:
        """Read some samples between the first and the last through views and preprocessing; raises what they raise."""
        fields = source.fields()
        lacking = [name for request in requests for name in fields_of(request.target, views) if name not in fields]
        if lacking:
            known = ", ".join(fields)
            raise ComponentError(f"data {data!r} has no field {lacking[0]!r}", expected=f"one of: {known}")
        count = count_of(source)
        if count is not None and source.streaming() is None and requests:
            last = max(count - 1, 0)
            places = sorted({last * place // (SPREAD - 1) for place in range(SPREAD)})
            self._spend(1, _declared(source, views, requests))
            one = sample_of(source, views, requests, places[:1])
            if len(places) > 1:
                self._spend(len(places), _numbers(one))
                sample_of(source, views, requests, places)
            _check_complete(source, views, requests, count)

    def tally(self, data: str, source: Source, labels: Mapping[str, str]) -> Tally:
        """The rows of an entry of data, and those of each class; `labels` are fields by the references to them."""
        rows, fields = count_of(source), source.fields()
        # Static fields alone (one big graph) have rows of their own, which are not samples.
        rows = None if not rows and any(declared.static for declared in fields.values()) else rows
        if rows is None or rows > COUNTED or source.streaming() is not None:
            return Tally(rows, {}, {})
        labels = {reference: field for reference, field in labels.items() if field in fields}
        for field in set(labels.values()):
            if (data, field) not in self._counted:
                column = read_column(source.open(), source, field)
                found = [int(value) for value in column if value is not None]
                self._counted[data, field] = Counter(value for value in found if value >= 0)
        return Tally(
            rows,
            {reference: self._counted[data, field] for reference, field in labels.items()},
            {reference: fields[field].names for reference, field in labels.items()},
        )

    def tells(self, error: Exception) -> bool:
        """Whether an error is to be told: a sample that cannot be read is one mistake, however many stages read it."""
        if not isinstance(error, SampleError):
            return True
        before = len(self._told)
        self._told.add(str(error))
        return len(self._told) > before

    def _spend(self, rows: int, numbers: int) -> None:
        """Count `rows` rows of so many numbers; raises `TooMuch`."""
        self._left -= rows * numbers
        if self._left < 0 or rows * numbers > MOST_AT_ONCE:
            raise TooMuch(f"a row of the data takes {numbers:,} numbers, and a check reads no more")


def _check_complete(source: Source, views: Mapping[str, View], requests: Sequence[ColumnRequest], count: int) -> None:
    """Read the first row that lacks a file, where a reader knows it without reading any; raises what that raises."""
    incomplete = getattr(source.open(), "incomplete", None) if count <= LISTED else None
    if incomplete is not None:
        fields = {name for request in requests for name in fields_of(request.target, views)}
        if (place := incomplete(fields)) is not None:
            sample_of(source, views, requests, [place])


def _first(source: Source, views: Mapping[str, View], requests: Sequence[ColumnRequest], rows: int) -> Batch:
    reasons: list[str] = []
    for number, batch in enumerate(scan(source, views, requests, batch_size=rows)):
        if batch.size:
            return batch
        reasons += [reason for reason, _ in batch.skipped.values()]
        if number >= FIRST:
            break
    if not reasons:
        return Batch({}, [], 0, 0, 0)
    raise SampleError(f"none of the first {len(reasons)} samples can be read: {reasons[0]}")


def _declared(source: Source, views: Mapping[str, View], requests: Sequence[ColumnRequest]) -> int:
    """Numbers of a row, as far as they are declared."""
    targets = dict.fromkeys(request.target for request in requests if request.target.section in ("fields", "views"))
    return numbers_of(targets, views, source.fields())


def _numbers(batch: Batch) -> int:
    """Numbers of a row as it was read."""
    total = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel()
        return tensor

    for column in batch.columns.values():
        column.map(count)
    return total // max(batch.size, 1)


def declaration_of(scope: StageScope) -> Stage:
    declaration = scope.component(STAGE)
    assert isinstance(declaration, Stage)
    return declaration


def other_data(scope: StageScope) -> Iterator[str]:
    """Further entries of data that the stage's encoders read."""
    types = reference_fields(type(declaration_of(scope)))
    for place, target in scope.targets(STAGE).items():
        if target.section == "data" and place[0] != "data" and Data in types.get(str(place[0]), ()):
            yield target.name


def read_problems(reading: Reading, spec: StageSpec, scope: StageScope, stage: str) -> Iterator[Problem]:
    """Mistakes in the fields that a stage reads itself, in its sampler's first draw, and too few rows or classes."""
    source, declaration = blank_source(scope), declaration_of(scope)
    if source is None:
        return
    types = reference_fields(type(declaration))
    own = [
        target
        for place, target in scope.targets(STAGE).items()
        if target.section in ("fields", "views")
        and Model not in types.get(str(place[0]), ())
        and "sampler" not in place[:3:2]
    ]
    requests = [ColumnRequest(f"row:{place}", target) for place, target in enumerate(dict.fromkeys(own))]
    requests = [request for request in requests if not scope.type_of(request.target).static]
    # Values whose type no stage declares are read when the stage runs.
    known = source.fields()
    requests = [
        r for r in requests if r.target.section != "fields" or r.target.name in known or not joins(scope, r.target)
    ]
    try:
        for data in ["", *other_data(scope)]:
            read = blank_source(scope, spec.data[data]) if data else source
            assert read is not None
            reading.rows_from_all_over(read, scope.views, requests, data)
        _draw(scope, source)
        if isinstance(declaration, Evaluator) and type(declaration).refuses_rows is not Evaluator.refuses_rows:
            for field, message, hint in declaration.refuses_rows(_tallies(reading, spec, scope)):
                yield Problem(message, ("stages", stage, field), hint=hint)
        if type(declaration).refuses_values is not Stage.refuses_values:
            for field, message, hint in declaration.refuses_values(_whole_fields(scope, source)):
                yield Problem(message, ("stages", stage, field), hint=hint)
    except TooMuch:
        return
    except Exception as error:  # sources, transforms and samplers may raise anything
        if reading.tells(error):
            yield said(error, stage, declaration.use)


def _whole_fields(scope: StageScope, source: Source) -> dict[str, list[RawValue]]:
    """Columns of the fields that a stage reads itself, by its own fields; none of data that is large or streams."""
    if source.streaming() is not None or (count_of(source) or 0) > COUNTED:
        return {}
    targets = {str(place[0]): target for place, target in scope.targets(STAGE).items() if len(place) == 1}
    return {
        name: read_column(source.open(), source, target.name)
        for name, target in targets.items()
        if target.section == "fields" and target.index is None and not joins(scope, target)
        and target.name in source.fields()
    }  # fmt: skip


def _tallies(reading: Reading, spec: StageSpec, scope: StageScope) -> dict[str, Tally]:
    """The entries of data that an evaluator reads, by the field that names them."""
    declaration, targets = declaration_of(scope), scope.targets(STAGE)
    labels: dict[str, str] = {}
    for place, target in targets.items():
        if target.section != "fields" or target.index is not None:
            continue
        declared = scope.type_of(target)
        if len(declared.axes) == 1 and not declared.static and modality(declared.modality).classes:
            labels[reference_at(declaration, place)] = target.name
    return {
        str(place[0]): reading.tally(target.name, as_read(declaration, spec.data[target.name]), labels)
        for place, target in targets.items()
        if target.section == "data"
    }


def _draw(scope: StageScope, source: Source) -> None:
    """Ask the samplers of the stage's streams for the samples of their first batches."""
    for loader in _loaders(scope, source):
        loader.draw()


def smallest_batch(scope: StageScope, source: Source) -> int | None:
    """Rows of the smallest micro-batch of the stage's first epoch; None where only reading would tell."""
    sizes = declaration_of(scope).sizes()
    if sizes is None:
        return None
    try:
        rows = [size for loader in _loaders(scope, source, most=DRAWN) for size in loader.sizes()]
    except Exception:
        # A sampler that fails is told where its first batch is drawn.
        return None
    return min((size % sizes.micro or sizes.micro for size in rows if size), default=None)


def _loaders(scope: StageScope, source: Source, most: int = ORDERED) -> Iterator[Loader]:
    """The loaders of the stage's streams, without columns; those whose sampler cannot be asked before the run, or that
    would order more than `most` samples, are left out."""
    for stream, (sampler, size) in declaration_of(scope).drawn().items():
        own = source.of[stream] if isinstance(source, Streams) else source
        places = (("data", stream, "sampler"), ("sampler",))
        targets = {str(p[-1]): t for p, t in scope.targets(STAGE).items() if p[:-1] in places}
        if (
            own.streaming() is not None
            or any(joins(scope, target) for target in targets.values())
            or (count_of(own) or 0) > min(most, DRAWN if targets else ORDERED)
        ):
            continue
        with Loader(own, scope.views, [], sampler=sampler, batch_size=size, seed=0, sampled=targets) as loader:
            yield loader


def said(error: Exception, stage: str, use: str) -> Problem:
    """The problem of a stage whose components or data raised an error."""
    expected = isinstance(error, ComponentError | SampleError)
    if isinstance(error, ComponentError) and error.owner:
        return problem_of(error.owner, said_by(error), error)
    return problem_of(("stages", stage), said_by(error) if expected else f"{use}: {said_by(error)}", error)


def said_by(error: BaseException) -> str:
    """The first line of an error; the type of one that says nothing by itself."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError | AttributeError | TypeError) else text


def problem_of(path: tuple[str, ...], message: str, error: BaseException) -> Problem:
    """The problem that an error is, with what a `ComponentError` knows beside its message."""
    hint = getattr(error, "hint", "") or None
    found, expected = getattr(error, "found", "") or None, getattr(error, "expected", "") or None
    return Problem(message, path, found=found, expected=expected, hint=hint)
