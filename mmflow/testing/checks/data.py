"""The checks of sources, transforms, samplers and tokenizers: the same rows in every process, in every order asked."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mmflow.data.samples import samples_of
from mmflow.plugin import Component, Sampler, Source, TensorType, Tokenizer, Transform
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Draw
from mmflow.plugin.modality import modality
from mmflow.plugin.references import reference_fields
from mmflow.plugin.samples import SampleError
from mmflow.plugin.values import RawValue
from mmflow.testing.case import Untestable, example_of
from mmflow.testing.faults import Fault
from mmflow.testing.samples import WORDS, raw_value

FEW = 12
"""Samples of a source that are read."""


@dataclass(frozen=True)
class DataCase:
    """A component between a URL and a batch."""

    component: Component

    @property
    def label(self) -> str:
        return f"{self.component.kind}/{self.component.use}"


@dataclass(frozen=True)
class SourceCase(DataCase):
    """A source that can be opened."""

    component: Source


@dataclass(frozen=True)
class TransformCase(DataCase):
    """A transform with a raw value (or a list of them, where it works `per_batch`) that it can change."""

    component: Transform
    value: RawValue
    kind: TensorType

    def apply(self, seed: int | None) -> RawValue:
        generator = None if seed is None else np.random.default_rng(seed)
        found = self.component.fitted(self.kind).apply(copy.deepcopy(self.value), generator)
        return found[0] if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping) else found


def check_samples_are_as_declared(case: SourceCase) -> None:
    """Every sample has the declared fields, each in the form of its modality, or a value that is absent."""
    fields = case.component.fields()
    for id, read in _few(case.component):
        try:
            sample = read()
        except SampleError:
            continue
        undeclared = set(sample) - set(fields) - {"id"}
        if undeclared:
            raise Fault(case, f"sample {id!r} has fields that are not declared", found=sorted(undeclared))
        for name, declared in fields.items():
            value = sample.get(name)
            if value is None or declared.static or len(declared.axes) > 1:
                continue
            try:
                modality(declared.modality).check(value, declared)
            except ValueError as error:
                raise Fault(case, f"field `{name}` of sample {id!r} is not {declared.modality}: {error}") from None


def check_ids(case: SourceCase) -> None:
    """Ids are texts, differ from each other, and are the same when the source is opened again."""
    first, again = ([id for id, _ in _few(case.component)] for _ in range(2))
    if first != again:
        raise Fault(case, "ids change when the source is opened again", found=again[:3], expected=first[:3])
    if len(set(first)) < len(first):
        raise Fault(case, "two samples have one id", found=sorted(first)[:4])
    if not all(isinstance(id, str) and id for id in first):
        raise Fault(case, "an id is not a text", found=first[:3])


def check_fingerprint(case: SourceCase) -> None:
    """The fingerprint is plain data, the same every time: it stands in keys."""
    first, again = case.component.fingerprint(), case.component.fingerprint()
    if json.dumps(first, sort_keys=True) != json.dumps(again, sort_keys=True):
        raise Fault(case, "its fingerprint changes", found=again, expected=first)


def check_reader_travels(case: SourceCase) -> None:
    """The reader can be pickled, so that loader workers have their own, and reads the same there."""
    reader = case.component.open()
    if getattr(reader, "in_process", False):
        return
    try:
        other = pickle.loads(pickle.dumps(reader))
    except Exception as error:
        raise Fault(case, f"its reader cannot be pickled, so no worker can read: {error}") from None
    names = tuple(case.component.fields())
    pairs = zip(samples_of(reader, names), samples_of(other, names), strict=False)
    for (id, here), (_, there) in islice(pairs, FEW):
        try:
            one, two = here(), there()
        except SampleError:
            continue
        if not _equal(one, two):
            raise Fault(case, f"sample {id!r} is another one in a worker")


SOURCE_CHECKS = (check_samples_are_as_declared, check_ids, check_fingerprint, check_reader_travels)


def check_draws_from_its_generator(case: TransformCase) -> None:
    """The same generator gives the same result, wherever the global ones stand."""
    np.random.seed(1)
    first = case.apply(7)
    np.random.seed(2)
    if not _equal(first, case.apply(7)):
        raise Fault(case, "one generator gives two results: it draws from somewhere else")


def check_evaluation_form(case: TransformCase) -> None:
    """Without a generator it has one deterministic form."""
    if not _equal(case.apply(None), case.apply(None)):
        raise Fault(case, "its form in evaluation (`generator` None) differs from time to time")


def check_input_stays(case: TransformCase) -> None:
    """It does not change the value that it is given: other views read it, too."""
    before = copy.deepcopy(case.value)
    given = copy.deepcopy(case.value)
    case.component.fitted(case.kind).apply(given, np.random.default_rng(0))
    if not _equal(before, given):
        raise Fault(case, "it changes the value that it is given in place")


def check_travels(case: TransformCase) -> None:
    """It can be pickled into a loader worker."""
    if pickle.loads(pickle.dumps(case.component)) != case.component:
        raise Fault(case, "it is another one after being pickled")


TRANSFORM_CHECKS = (check_draws_from_its_generator, check_evaluation_form, check_input_stays, check_travels)


def check_order_is_a_function_of_the_draw(case: DataCase) -> None:
    """Batches are the same for the same draw, cover valid places, differ between epochs, and are as many as counted."""
    sampler = case.component
    assert isinstance(sampler, Sampler)
    columns = {
        name: [place % 4 for place in range(40)]
        for name in reference_fields(type(sampler))
        if getattr(sampler, name) is not None
    }

    def drawn(epoch: int) -> list[list[int]]:
        batches = sampler.batches(Draw(40, 8, 3, epoch, columns))
        return [[int(i) for i in (batch[0] if isinstance(batch, tuple) else batch)] for batch in batches]

    try:
        first = drawn(0)
    except (TypeError, KeyError, ValueError, ComponentError) as error:
        raise Untestable(f"{case.label}: give columns of its own ({error})") from None
    if drawn(0) != first:
        raise Fault(case, "two passes of one epoch differ")
    if any(not 0 <= place < 40 for batch in first for place in batch):
        raise Fault(case, "a batch names a place outside the data")
    if sampler.count(Draw(40, 8, 3, 0, columns)) != len(first):
        raise Fault(case, "`count` is not the number of batches", found=sampler.count(Draw(40, 8, 3, 0, columns)))


SAMPLER_CHECKS = (check_order_is_a_function_of_the_draw,)


def check_ids_of_texts(case: DataCase) -> None:
    """Ids are below `size`, no more than asked, and the same every time."""
    tokenizer = case.component
    assert isinstance(tokenizer, Tokenizer)
    texts = [" ".join(WORDS), "red", "", "Ünïcode 文字 \U0001f600", "a " * 300]
    try:
        state = tokenizer.learn(texts) if tokenizer.learns else {}
        size = tokenizer.size(state)
    except ComponentError as error:
        raise Untestable(f"{case.label}: give one that can be opened here ({error})") from None
    for text in texts:
        ids = tokenizer.encode(text, state, length=16)
        if ids != tokenizer.encode(text, state, length=16):
            raise Fault(case, f"{text[:20]!r} has other ids the second time")
        if len(ids) > 16:
            raise Fault(case, f"{text[:20]!r} has more ids than asked", found=len(ids), expected="at most 16")
        if any(not 0 <= id < size for id in ids):
            raise Fault(case, f"{text[:20]!r} has an id outside 0 to {size - 1}", found=max(ids))
        tokenizer.decode(ids, state)
    if tokenizer.size(None) < size:
        raise Fault(case, "`size(None)` is no upper bound", found=tokenizer.size(None), expected=f"at least {size}")


TOKENIZER_CHECKS = (check_ids_of_texts,)


def source_case(made: type[Source]) -> SourceCase:
    """A case of a source whose example can be opened here, such as a procedural one."""
    component = example_of(made)
    assert isinstance(component, Source)
    try:
        component.fields()
        next(iter(samples_of(component.open(), ())), None)
    except ComponentError as error:
        raise Untestable(f"source/{component.use}: give one that can be opened here ({error})") from None
    return SourceCase(component)


def transform_case(made: type[Transform]) -> TransformCase:
    """A case with the first made-up value whose type the transform accepts."""
    component = example_of(made)
    assert isinstance(component, Transform)
    draw = np.random.default_rng(0)
    kinds = (
        TensorType("image", size=(40, 50, 3), dtype="uint8"), TensorType("text"),
        TensorType("series", size=(30, 6)), TensorType("audio", rate=8000), TensorType("label", names=("a", "b")),
        TensorType("vector", size=(8,)), TensorType("video", ("sample", "frame"), (20, 24, 3), "uint8", groups=(6,)),
    )  # fmt: skip
    for kind in kinds:
        try:
            component.result(kind)
            value = raw_value(kind, draw) if len(kind.axes) == 1 else [raw_value(kind.member(), draw) for _ in range(6)]
            case = TransformCase(component, [value, value] if made.per_batch else value, kind)
            case.apply(0)
        except (ValueError, TypeError, AttributeError, KeyError, ComponentError):
            continue
        return case
    raise Untestable(f"transform/{component.use}: give a value that it can change")


def _few(source: Source) -> list[tuple[str, Callable[[], Mapping[str, RawValue]]]]:
    return list(islice(samples_of(source.open(), tuple(source.fields())), FEW))


def _equal(one: object, other: object) -> bool:
    try:
        np.testing.assert_equal(one, other)
    except AssertionError:
        return False
    return True
