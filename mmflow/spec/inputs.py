"""What an entry's references lead to, held against what its component takes: number, modality, axes, abilities."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmflow.plugin.component import ON_REQUEST, Shared
from mmflow.plugin.kinds import Encoder, Evaluator, Loss, Memory, Sampler, Score, View
from mmflow.spec.entry import Entry
from mmflow.spec.problems import Path, did_you_mean
from mmflow.spec.resolve import Resolver, as_written
from mmflow.spec.target import Target


def check_entry(resolver: Resolver, owner: str) -> None:
    """Report what is wrong with the inputs of an entry: number, modality, axes, outputs and abilities."""
    entry = resolver.entry(owner)
    made = entry.component if entry is not None else None
    targets = resolver.targets(owner)
    if entry is None or made is None or any(key[0] == entry.path for key in resolver.problems):
        return
    if isinstance(made, View):
        resolver.types.outputs_of(owner)
        return
    if isinstance(made, Encoder | Loss | Memory) and not _check_count(resolver, entry, made, targets):
        return
    if isinstance(made, Evaluator):
        _check_count(resolver, entry, made, targets)
    if isinstance(sampler := getattr(made, "sampler", None), Sampler):
        _check_sampler(resolver, entry, sampler, targets)
    if isinstance(made, Encoder):
        _check_modalities(resolver, entry, owner, made)
        resolver.types.outputs_of(owner)
    if isinstance(made, Loss | Memory) or (isinstance(made, Evaluator) and hasattr(made, "axes")):
        _check_axes(resolver, entry, made, targets)
    _check_needs(resolver, entry, made, targets)


def _check_count(resolver: Resolver, entry: Entry, made: Any, targets: Mapping[str, Target]) -> bool:
    count = len(made.of)
    if not targets and entry.section in ("encoders", "losses") and "weights" not in type(made).model_fields:
        entry_problem = entry.problem(f"{made.kind} {made.use} needs `of`", hint="write of: NAME, or of: [ONE, OTHER]")
        resolver.report(entry, (), entry_problem)
        return False
    function = getattr(type(made), type(made).method, None) if type(made).method else None
    if function is None or not count or (isinstance(made, Encoder) and made.has_weights):
        return True
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return True
    fields = type(made).model_fields
    inputs = [p for p in parameters if p.name not in fields and p.name not in ON_REQUEST]
    if isinstance(made, Memory):
        return True
    least = sum(p.default is p.empty for p in inputs)
    if least <= count <= len(inputs):
        return True
    names = ", ".join(p.name for p in inputs)
    number = f"{least} to {len(inputs)}" if least < len(inputs) else str(least)
    inputs_word = "input" if number == "1" else "inputs"
    problem = entry.problem(
        f"{made.kind} {made.use} takes {number} {inputs_word} ({names})", ("of",), found=f"{count} in `of`"
    )
    resolver.report(entry, ("of",), problem)
    return False


def _check_modalities(resolver: Resolver, entry: Entry, owner: str, made: Encoder) -> None:
    behind = resolver.types.structure(owner)
    if behind is None or not behind[1].accepts or (behind[0] != owner and not made.of):
        return
    accepts = behind[1].accepts
    for index, (path, target) in enumerate(resolver.types.inputs(owner).items()):
        declared = resolver.types.type_of(target)
        if index >= len(accepts):
            many = f"{behind[1].use} takes {len(accepts)} input{'s' if len(accepts) > 1 else ''}"
            resolver.report(
                entry, ("of",), entry.problem(many, ("of",), found=f"{len(resolver.types.inputs(owner))} in `of`")
            )
            return
        if declared is None or declared.modality == "unknown" or declared.modality in accepts[index]:
            continue
        name = _name_of(target)
        where = ("of", index) if path.startswith("of.") else ("of",)
        others = [n for n, t in (resolver.fields or {}).items() if t.modality in accepts[index]]
        problem = entry.problem(
            f"{behind[1].use} cannot read `{name}`",
            as_written(entry, where),
            found=declared.modality,
            expected=" or ".join(accepts[index]),
            hint=did_you_mean(name, others, most=6),
        )
        resolver.report(entry, where, problem)


def _check_sampler(resolver: Resolver, entry: Entry, sampler: Sampler, targets: Mapping[str, Target]) -> None:
    for name, accepts in sampler.reads.items():
        target = targets.get(f"sampler.{name}")
        declared = resolver.types.type_of(target) if target is not None else None
        if target is None or declared is None or declared.modality in ("unknown", *accepts):
            continue
        others = [n for n, t in (resolver.fields or {}).items() if t.modality in accepts]
        problem = entry.problem(
            f"the sampler {sampler.use} cannot go by `{_name_of(target)}`",
            ("sampler", name),
            found=declared.modality,
            expected=" or ".join(accepts),
            hint=did_you_mean(_name_of(target), others, most=6),
        )
        resolver.report(entry, ("sampler", name), problem)


def _check_axes(resolver: Resolver, entry: Entry, made: Any, targets: Mapping[str, Target]) -> None:
    known = getattr(type(made), "axes", ())
    rows: dict[str, str] = {}
    for path, target in targets.items():
        if path.partition(".")[0] != "of" or target.section not in ("encoders", "views", "fields"):
            continue
        declared = resolver.types.type_of(target)
        if declared is None:
            continue
        where: Path = tuple(int(part) if part.isdigit() else part for part in path.split("."))
        name = _name_of(target)
        for axis, size in zip(declared.axes[1:], [*declared.groups, *([None] * 8)], strict=False):
            if axis in known or "*" in known:
                continue
            what = {"copy": "copies"}.get(axis, f"of the axis {axis}")
            count = f"{size} {what}" if size is not None else f"the axis {axis}"
            hint = f"write {name}.0, or use a {made.kind} that takes the axis {axis}"
            problem = entry.problem(
                f"{name} has {count}, which {made.use} does not take", as_written(entry, where), hint=hint
            )
            resolver.report(entry, where, problem)
            break
        rows.setdefault(declared.axes[0] if declared.axes else "", name)
    if len(rows) > 1 and not set(rows) & set(known) and isinstance(made, Loss | Memory):
        said = " and ".join(f"{name} of {axis}" for axis, name in rows.items())
        resolver.report(
            entry, ("of",), entry.problem(f"{made.use} compares rows: {said}", ("of",), hint="use one row axis")
        )


def _check_needs(resolver: Resolver, entry: Entry, made: Any, targets: Mapping[str, Target]) -> None:
    readers: list[tuple[Path, Any]] = [((), made)] if getattr(made, "needs", ()) else []
    for name, info in type(made).model_fields.items():
        value = getattr(made, name)
        if isinstance(value, Shared):
            target = targets.get(name)
            value = resolver.component(target.owner) if target is not None and target.output is None else None
        if isinstance(value, Score):
            readers.append(((info.alias or name,), value))
    for path, reader in readers:
        for place, target in targets.items():
            if place.partition(".")[0] != "of" or target.section != "encoders" or target.output is not None:
                continue
            known, behind = resolver.types.outputs_of(target.owner), resolver.types.structure(target.owner)
            if known is None or behind is None:
                continue
            abilities = {*known, *behind[1].provides, *behind[1].taps()}
            absent = [need for need in reader.needs if need not in abilities]
            if absent:
                problem = entry.problem(
                    f"{reader.kind} {reader.use} needs {' and '.join(absent)} of {target.name}",
                    path,
                    found=f"{behind[1].use}, which gives {', '.join(known)}",
                    hint=_who_gives(resolver, absent[0]),
                )
                resolver.report(entry, path, problem)
                break


def _who_gives(resolver: Resolver, need: str) -> str | None:
    names = [
        name for name in resolver.entries["encoders"] if need in (resolver.types.outputs_of(f"encoders.{name}") or ())
    ]
    return f"{', '.join(names[:4])} {'gives' if len(names) == 1 else 'give'} it" if names else None


def _name_of(target: Target) -> str:
    index = [] if target.index is None else [str(target.index)]
    return ".".join([target.name, *index, *([target.output] if target.output else [])])
