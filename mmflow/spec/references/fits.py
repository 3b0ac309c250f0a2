"""Declared types behind references, held against their reader: what a loss fits, groups that a sampler takes."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.component import ComponentError, with_article
from mmflow.plugin.kinds import Evaluator, Loss, Sampler, Stage
from mmflow.plugin.references import Labels, Weight, reference_fields
from mmflow.plugin.targets import Place, Target
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.resolver import Resolver, as_written

_ONE_VALUE = ("mask", "label", "number", "index")
"""Modalities of which a sampler that goes by one reads a single value a sample."""


def check_types(resolver: Resolver, entry: Entry, made: Loss, targets: Mapping[Place, Target]) -> None:
    """Whether the loss takes inputs of these declared types, where all of `of` are known."""
    types = {place: resolver.type_of(target) for place, target in targets.items()}
    of = [declared for place, declared in types.items() if place[0] == "of" and declared is not None]
    if len(of) < sum(place[0] == "of" for place in types):
        return
    single = {str(place[0]): declared for place, declared in types.items() if len(place) == 1 and declared is not None}
    try:
        made.fits(of, single)
    except ComponentError as error:
        message = f"{made.use} does not fit its inputs: {error}"
        found, expected, hint = error.found or None, error.expected or None, error.hint or None
        problem = entry.problem(message, ("of",), found=found, expected=expected, hint=hint)
        resolver.report(entry, ("of",), problem)
    widths = [t.size[0] for t in types.values() if t is not None and len(t.size) == 1 and t.dtype.startswith("float")]
    known = [width for width in widths if width is not None]
    if made.dims and not widths:
        problem = entry.problem(f"{made.use} reads no vectors", ("dims",), hint="leave `dims` out")
        resolver.report(entry, ("dims",), problem)
    elif known and max(made.dims, default=0) > min(known):
        found = f"{max(made.dims)} of vectors of {min(known)} numbers"
        problem = entry.problem("it asks for more than there is", ("dims",), found=found)
        resolver.report(entry, ("dims",), problem)


def check_ungrouped(resolver: Resolver, entry: Entry, made: Sampler, targets: Mapping[Place, Target]) -> None:
    """Whether what a sampler reads has one value a sample, where the sampler does not say that it takes several."""
    for place, target in targets.items():
        declared = resolver.type_of(target)
        if declared is None:
            continue
        at = ("sampler", *place)
        if declared.modality in _ONE_VALUE and declared.size:
            problem = entry.problem(
                f"the sampler {made.use} goes by one value a sample, and {target} has several", as_written(entry, at),
                found=f"{with_article(declared.modality)} of {len(declared.size)} axes",
            )  # fmt: skip
            resolver.report(entry, at, problem)
            continue
        if "*" in made.axes or set(declared.axes[1:]) <= set(made.axes):
            continue
        problem = entry.problem(
            f"the sampler {made.use} goes by one value a sample, and {target} has several",
            as_written(entry, at), found=f"the axis {declared.axes[1]}", hint=f"write {target}.0 for the first",
        )  # fmt: skip
        resolver.report(entry, at, problem)


def check_rows_of_labels(resolver: Resolver, entry: Entry, made: Stage, targets: Mapping[Place, Target]) -> None:
    """Whether labels and weights have the rows that are read: those of papers say nothing of authors."""
    types = reference_fields(type(made))
    read = [resolver.type_of(target) for place, target in targets.items() if place[0] == "of"]
    axes = {declared.axes[0] for declared in read if declared is not None and declared.axes}
    if not read or None in read or any(declared is not None and declared.modality == "unknown" for declared in read):
        return
    for place, target in targets.items():
        declared = resolver.type_of(target) if target.section in ("fields", "views", "encoders") else None
        if place[0] == "of" or not {Labels, Weight} & {*types.get(str(place[0]), ())} or declared is None:
            continue
        if not declared.axes or declared.axes[0] in axes or declared.modality == "unknown":
            continue
        problem = entry.problem(
            f"{made.use} reads `{target}` of each row of {' and '.join(axes)}", as_written(entry, place),
            found=f"rows of {declared.axes[0]}",
        )  # fmt: skip
        resolver.report(entry, place, problem)


def check_classes(resolver: Resolver, entry: Entry, made: Evaluator, targets: Mapping[Place, Target]) -> None:
    """Whether labels of an evaluator that reads one class a row are one a row."""
    types = reference_fields(type(made))
    for place, target in targets.items():
        field = str(place[0])
        if Labels not in types.get(field, ()) or "labels" in made.reads.get(field, ("labels",)):
            continue
        declared = resolver.type_of(target)
        if declared is None or len(declared.axes) < 2 or declared.modality == "unknown":
            continue
        problem = entry.problem(
            f"{made.use} reads one class a row, and `{target}` has several", as_written(entry, place),
            found=f"the axis {declared.axes[1]}", hint=f"write {target}.0 for the first",
        )  # fmt: skip
        resolver.report(entry, place, problem)


def check_encodes(resolver: Resolver, entry: Entry, made: Evaluator, targets: Mapping[Place, Target]) -> None:
    """Whether the encoders that an evaluator gives values of its own read one field of that modality."""
    for number, modality in made.encodes.items():
        target = targets.get(("of", number))
        if target is None or target.section != "encoders":
            continue
        wiring = resolver if target.stage is None else resolver.other(target.stage)
        read = list(wiring.inputs(target.owner).values()) if wiring is not None else []
        declared = [wiring.type_of(one) for one in read] if wiring is not None else []
        if not read or None in declared:
            continue
        modalities = [one.modality for one in declared if one is not None]
        if modalities == [modality] or "unknown" in modalities:
            continue
        found = f"it reads {' and '.join(f'{one} ({kind})' for one, kind in zip(read, modalities, strict=True))}"
        message = f"{made.use} gives {modality} of its own to {target}"
        hint = f"name an encoder that reads one field of {modality}"
        place = ("of", number)
        problem = entry.problem(message, as_written(entry, place), found=found, hint=hint)
        resolver.report(entry, place, problem)
