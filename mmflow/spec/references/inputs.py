"""The targets of an entry, held against its component: number, modality, axes, abilities."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.plugin.binding import binding
from mmflow.plugin.component import Component, ComponentError, with_article
from mmflow.plugin.kinds import Application, Encoder, Evaluator, Loss, Memory, Sampler, Stage, View
from mmflow.plugin.numbers import takes_rows
from mmflow.plugin.references import Data, Model, Parameters, reference_fields
from mmflow.plugin.targets import Owner, Place, Target
from mmflow.plugin.values import TensorType, of_samples
from mmflow.spec.components.classes import VALUES, field_of
from mmflow.spec.components.entry import Entry
from mmflow.spec.references.adapters import check_adapters
from mmflow.spec.references.delivered import check_forms, check_inside, check_needs
from mmflow.spec.references.fits import check_classes, check_encodes, check_rows_of_labels, check_types, check_ungrouped
from mmflow.spec.references.fitting import transforms_to
from mmflow.spec.references.moving import check_moving
from mmflow.spec.references.resolver import Resolver, as_written
from mmflow.spec.references.row_axes import check_batch_values, check_gathered, check_pairing, check_streams
from mmflow.spec.references.services import check_services
from mmflow.spec.references.wanted import GIVEN_BY, is_number, references
from mmflow.spec.references.wiring import differing
from mmflow.spec.text.problems import did_you_mean

_OF_THE_WEIGHTS, _OF_TRAINING = ("head", "tokens", "init"), ("freeze", "lr_scale", "lora", "constrain")
"""Fields that mean nothing for applications of weights, and those that mean nothing where the weights do not train."""


def check_entry(resolver: Resolver, owner: Owner) -> None:
    """Report the faults of an entry's inputs: their number, modality, axes, outputs and abilities."""
    entry = resolver.entry(owner)
    made = entry.component if entry is not None else None
    targets = resolver.targets(owner)
    if entry is None or made is None or any(key[0] == entry.path for key in resolver.problems):
        return
    if isinstance(made, View | Encoder | Loss | Memory) and not check_streams(resolver, entry, made, targets):
        return
    if isinstance(made, View):
        resolver.outputs_of(owner)
        return
    if not _check_numbers(resolver, entry, made, targets) or not check_batch_values(resolver, entry, made):
        return
    if isinstance(made, Encoder | Loss | Memory) and not _check_arguments(resolver, entry, made, targets):
        return
    if isinstance(made, Evaluator):
        _check_arguments(resolver, entry, made, targets)
        check_encodes(resolver, entry, made, targets)
    if isinstance(made, Stage):
        check_rows_of_labels(resolver, entry, made, targets)
        resolver.given()
    check_moving(resolver, entry, owner, made)
    if not _check_read(resolver, entry, made, targets):
        return
    if isinstance(made, Stage) and (sampler := made.order()) is not None:
        inside = {place[1:]: target for place, target in targets.items() if place[0] == "sampler"}
        if _check_read(resolver, entry, sampler, inside, ("sampler",)):
            check_ungrouped(resolver, entry, sampler, inside)
    if isinstance(made, Application) and not _check_weights(resolver, entry, owner, made):
        return
    if isinstance(made, Encoder | Loss | Memory) and not check_inside(resolver, entry, made, targets):
        return
    if isinstance(made, Encoder | Loss | Memory | Evaluator) and not _check_delivered(resolver, entry, made, targets):
        return
    if isinstance(made, Encoder) and owner.section == "encoders":
        _check_brought(resolver, entry, owner, made)
    if isinstance(made, Encoder | Loss | Memory):
        check_services(resolver, entry, owner, made)
    if isinstance(made, Encoder) and not check_gathered(resolver, entry, owner, made):
        return
    if isinstance(made, Encoder):
        check_adapters(resolver, entry, owner, made)
        _check_modalities(resolver, entry, owner, made)
        resolver.outputs_of(owner)
    if isinstance(made, Encoder | Loss | Memory) and not check_pairing(resolver, entry, made, targets):
        return
    if isinstance(made, Loss | Memory | Evaluator):
        _check_axes(resolver, entry, made, targets)
    if isinstance(made, Loss):
        check_types(resolver, entry, made, targets)
    check_needs(resolver, entry, owner, made)
    if isinstance(made, Evaluator):
        check_forms(resolver, entry, made, targets)
        check_classes(resolver, entry, made, targets)


def _check_arguments(
    resolver: Resolver, entry: Entry, made: Encoder | Loss | Memory | Evaluator, targets: Mapping[Place, Target]
) -> bool:
    """Whether the component's method can be called with its references and its requests."""
    count = len(made.of)
    idle = not targets and entry.section in ("encoders", "losses") and not isinstance(made, Application)
    if idle or (isinstance(made, Loss) and not count and _takes_inputs(made)):
        problem = entry.problem(f"{made.kind} {made.use} needs `of`", hint="write of: NAME, or of: [ONE, OTHER]")
        resolver.report(entry, (), problem)
        return False
    # A module, and what its `forward` takes, is known only once it is built.
    if getattr(made, made.method, None) is None or (isinstance(made, Encoder) and made.has_weights):
        return True
    try:
        misfit = binding(made, count=count).misfit(count) if count and not isinstance(made, Memory) else None
        if misfit is None and not count:
            binding(made)
    except ComponentError as error:
        problem = entry.problem(str(error), expected=error.expected or None, hint=error.hint or None)
        resolver.report(entry, (), problem)
        return False
    if misfit is not None:
        problem = entry.problem(f"{made.kind} {made.use} takes {misfit}", ("of",), found=f"{count} in `of`")
        resolver.report(entry, ("of",), problem)
    return misfit is None


def _takes_inputs(loss: Loss) -> bool:
    """Whether a loss can do nothing without inputs; inside another component its owner gives them."""
    try:
        found = binding(loss, count=0)
    except ComponentError:  # reported where it is checked with its inputs
        return False
    return found.rest or found.misfit(0) is not None


def _check_weights(resolver: Resolver, entry: Entry, owner: Owner, made: Application) -> bool:
    """Whether `weights` lead to an encoder that can be applied here, and its inputs are here as well."""
    unheard = _OF_THE_WEIGHTS if made.shares == "structure" and made.trains else (*_OF_THE_WEIGHTS, *_OF_TRAINING)
    for name in unheard:
        if getattr(made, name) != type(made).model_fields[name].default:
            message = f"`{name}` belongs to the encoder that has the weights: {made.use} applies them as they are"
            hint = f"say it of {made.weights}, or give the result to an encoder of its own"
            resolver.report(entry, (name,), entry.problem(message, (name,), key=True, hint=hint))
            return False
    target = resolver.targets(owner).get(("weights",))
    if target is None:
        return True
    if target.stage is None:
        below = resolver.component(target.owner)
        if below is None or isinstance(below, Encoder):
            return True
        problem = entry.problem("", ("weights",), found=str(target.owner), expected="an encoder")
        resolver.report(entry, ("weights",), problem)
        return False
    if made.shares == "module" or made.follows:
        message = f"{made.use} needs weights of this stage, and `{target.stage}.{target}` are another stage's"
        hint = f"write {{use: frozen, weights: {target.stage}.{target}}}, or copy"
        resolver.report(entry, ("weights",), entry.problem(message, ("weights",), hint=hint))
        return False
    for read in resolver.inputs(owner).values() if not made.of else ():
        here = resolver.fields is None or read.section != "fields" or read.name in resolver.fields
        if read.stage is None and here and (read.section != "views" or read.name in resolver.seen.entries["views"]):
            continue
        message = f"the encoder `{target.stage}.{target}` reads `{read}`, which is not here"
        resolver.report(entry, (), entry.problem(message, hint="say in `of` what it is applied to"))
        return False
    return True


def _check_delivered(
    resolver: Resolver, entry: Entry, made: Encoder | Loss | Memory | Evaluator, targets: Mapping[Place, Target]
) -> bool:
    """Whether the component can be given what its references lead to."""
    for place, target in targets.items():
        types = reference_fields(type(made)).get(str(place[0]), ())
        if not types or Data in types or Model in types or (place[0] == "weights" and isinstance(made, Application)):
            continue
        given = target.section in ("fields", "views", "encoders") or (
            target.section == "stages" and any(set(GIVEN_BY.get(kind, ())) & set(VALUES) for kind in types)
        )
        if types == (Parameters,):
            given = not isinstance(made, Evaluator | Memory)
        elif not isinstance(made, Evaluator):
            given = given or target.section in ("memories", "sampler")
        if given:
            continue
        says = " or ".join(kind.says for kind in types)
        message = f"{with_article(made.kind)} cannot be given {says} (`{target}`)"
        hint = f"{with_article(made.kind)} can be given fields, views, outputs of encoders, and values of stages"
        resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
        return False
    return True


def _check_numbers(resolver: Resolver, entry: Entry, made: Component, targets: Mapping[Place, Target]) -> bool:
    """Whether fields that hold a number are given one, or one a row where they take that."""
    known = reference_fields(type(made))
    if all(str(place[0]) in known for place in targets):
        return True
    for found in references(made):
        place, target = found.place, targets.get(found.place)
        field = field_of(type(made), str(place[0]))
        if target is None or field is None or found.kind != "value" or not is_number(target):
            continue
        declared = resolver.type_of(target)
        hint = None
        if len(place) > 1 or not takes_rows(type(made), field):
            message = f"{made.use} takes one number as `{'.'.join(map(str, place))}`, and `{target}` gives one a row"
            hint = (
                "write `rows: NAME` for a weight of each row" if field == "weight" else "write a number or a schedule"
            )
        elif declared is not None and (declared.size or declared.axes[1:]) and declared.modality != "unknown":
            message = f"`{target}` is no number a row"
            hint = f"it is {declared.modality} {list(declared.size)} for {' and '.join(declared.axes)}"
        else:
            continue
        resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
        return False
    return True


def _check_brought(resolver: Resolver, entry: Entry, owner: Owner, made: Encoder) -> None:
    """A stage's own declaration may not contradict the model that it begins with, which brings its structure."""
    found = resolver.brought(owner) if entry.own and not isinstance(made, Application) else None
    there = found[1].structure(owner) if found is not None else None
    if found is None or there is None:
        return
    names = [name for name in differing(there.encoder, made) if name in entry.own]
    if there.encoder.lora is None and "lora" in names:
        # Adapters may be put beside what is brought.
        names.remove("lora")
    if not names:
        return
    stage, name = found[0], owner.name
    as_trained = ", ".join(f"{field}: {getattr(there.encoder, field)}" for field in names)
    problem = entry.problem(
        f"{name} comes from the model of {stage} as it was made there, and is another encoder here",
        (names[0],),
        found=", ".join(names),
        expected=f"as in {stage}: {as_trained}",
        hint=f"give the new encoder a name of its own, which may read {name} or {{use: copy, weights: {stage}.{name}}}",
    )
    resolver.report(entry, (names[0],), problem)


def _check_modalities(resolver: Resolver, entry: Entry, owner: Owner, made: Encoder) -> None:
    behind = resolver.structure(owner)
    if behind is None or not behind.encoder.accepts or (behind.encoder is not made and not made.of):
        return
    use, accepts = behind.encoder.use, behind.encoder.accepts
    inputs = resolver.inputs(owner)
    for index, (place, target) in enumerate(inputs.items()):
        declared = resolver.type_of(target)
        if index >= len(accepts):
            many = f"{use} takes {len(accepts)} input{'s' if len(accepts) > 1 else ''}"
            resolver.report(entry, ("of",), entry.problem(many, ("of",), found=f"{len(inputs)} in `of`"))
            return
        if declared is None or declared.modality == "unknown" or declared.modality in accepts[index]:
            continue
        _misread(resolver, entry, place, target, declared, accepts[index], f"{use} cannot read")


def _check_read(
    resolver: Resolver, entry: Entry, made: Component, targets: Mapping[Place, Target], above: Place = ()
) -> bool:
    """Whether the component reads the modalities that its references lead to; `above` is its own place in the entry."""
    for place, target in targets.items():
        accepts = made.reads.get(str(place[0])) if place else None
        declared = resolver.type_of(target) if accepts else None
        if not accepts or declared is None or declared.modality in ("unknown", *accepts):
            continue
        cannot = "cannot go by" if isinstance(made, Sampler) else "cannot read"
        message = f"the {made.kind} {made.use} {cannot}"
        _misread(resolver, entry, (*above, *place), target, declared, accepts, message)
        return False
    return True


def _misread(
    resolver: Resolver, entry: Entry, place: Place, target: Target, declared: TensorType, accepts: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    others = [name for name, known in (resolver.fields or {}).items() if known.modality in accepts]
    # An entry that has the name of a field stands before it.
    same = f"the field of that name is `fields.{target}`" if str(target) in others else None
    problem = entry.problem(
        f"{message} `{target}`",
        as_written(entry, place),
        found=declared.modality,
        expected=" or ".join(accepts),
        hint=same or _view_hint(target, declared, accepts) or did_you_mean(str(target), others, most=6),
    )
    resolver.report(entry, place, problem)


def _view_hint(target: Target, declared: TensorType, accepts: tuple[str, ...]) -> str | None:
    """A view whose transform makes of the value what is accepted, such as a series of a sound."""
    found = transforms_to(declared, accepts)
    return f"a view makes {accepts[0]} of it: {{of: {target}, apply: [{found}]}}" if found else None


def _check_axes(
    resolver: Resolver, entry: Entry, made: Loss | Memory | Evaluator, targets: Mapping[Place, Target]
) -> None:
    known: tuple[str, ...] = getattr(type(made), "axes", ())
    if isinstance(made, Loss) and made.scope() == "row":
        # Members of groups are rows of their own there.
        known = (*known, "*")
    rows: dict[str, str] = {}
    for place, target in targets.items():
        # All that a memory reads is of the same rows; a loss may have further inputs with rows of their own.
        own = place[0] == "of"
        if not (own or isinstance(made, Memory)) or target.section not in ("encoders", "views", "fields"):
            continue
        declared = resolver.type_of(target)
        if declared is None:
            continue
        name = str(target)
        for axis, size in () if not own else zip(declared.axes[1:], [*declared.groups, *([None] * 8)], strict=False):
            if axis in known or "*" in known:
                continue
            what = {"copy": "copies"}.get(axis, f"of the axis {axis}")
            count = f"{size} {what}" if size is not None else f"the axis {axis}"
            hint = f"write {name}.0, or use a {made.kind} that takes the axis {axis}"
            message = f"{name} has {count}, which {made.use} does not take"
            resolver.report(entry, place, entry.problem(message, as_written(entry, place), hint=hint))
            break
        rows.setdefault(declared.axes[0] if declared.axes else "", name)
    if (
        len(rows) > 1
        and not all(map(of_samples, rows))
        and not set(rows) & set(known)
        and isinstance(made, Loss | Memory)
    ):
        said = " and ".join(f"{name} of {axis}" for axis, name in rows.items())
        problem = entry.problem(f"{made.use} compares rows: {said}", ("of",), hint="use one row axis")
        resolver.report(entry, ("of",), problem)
