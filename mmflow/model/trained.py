"""What a model has learned and what trains of it: by `freeze`, by groups, and by what a step runs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from mmflow.model.lora import is_adapter
from mmflow.model.model import Model, entry_of
from mmflow.model.outlook import StagedSpec
from mmflow.model.preprocessing import not_learned, prepared_structures
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import StageScope
from mmflow.plugin.references import words
from mmflow.plugin.targets import Owner


def trainable(model: Model, patterns: Mapping[str, str]) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that the optimizer of a stage moves, with their paths; `patterns` are those of its groups.

    With groups, parameters that no group matches are frozen, and those that one matches train, whatever `freeze` says;
    those that adapters stand in for never do.
    """
    averaged = {path for path, *_ in model.modules.averaged()}
    beneath = model.modules.beneath_adapters() if patterns else frozenset()
    run = {entry_of(node.module) for node in model.graph.working}
    for path, parameter in model.modules.named_parameters():
        if any(path.startswith(f"{owner}.") for owner in averaged):
            continue
        if path.startswith("encoders.") and entry_of(path) not in run:
            # It lends its structure or its first weights to others, and does nothing itself.
            continue
        if patterns:
            parameter.requires_grad_(group_of(patterns, path) is not None and path not in beneath)
        if parameter.requires_grad:
            yield path, parameter


def check_trainable(model: Model, patterns: Mapping[str, str]) -> None:
    """Raise `ComponentError` where a stage would train nothing."""
    if any(True for _ in trainable(model, patterns)):
        return
    if not model.parameters():
        message = "nothing to train: the losses of this stage read no encoder that has weights"
        raise ComponentError(message, hint="let one of them read an encoder, or take the stage out")
    raise ComponentError("nothing to train: every parameter is frozen", hint="look at `freeze` and `groups`")


def nothing_depends() -> ComponentError:
    return ComponentError(
        "nothing to train: no loss depends on a parameter that trains",
        hint="look at `freeze`, `.detach`, `groups` and at what the losses read",
    )


def check_learned(spec: StagedSpec, scope: StageScope, roots: Sequence[Owner], trained: str | None) -> None:
    """Raise `ComponentError` where encoders of `roots` have a vocabulary to learn, and the model of the stage `trained`
    has not learned it."""
    for (owner, _, origin), _ in prepared_structures(scope, roots):
        brought = origin is not None and origin.trained
        stage, wanted = (origin.stage, origin.preparation) if origin is not None and brought else (trained, owner)
        known = _learned_by(spec, stage)
        if known is not None and wanted not in known:
            raise not_learned(owner) if stage == trained else not_learned(wanted, stage)


def _learned_by(spec: StagedSpec, stage: str | None) -> set[Owner] | None:
    """The encoders that learned their preprocessing in the training of a stage, or of those that it began with; None
    where that is not known."""
    found: set[Owner] | None = None
    while stage is not None:
        declaration = spec.stages.get(stage)
        if declaration is None or not declaration.trains:
            return None
        scope = spec.scope(stage)
        found = (found or set()) | {structure.owner for structure, _ in prepared_structures(scope, scope.roots())}
        stage = scope.start
    return found


def group_of(patterns: Mapping[str, str], path: str) -> str | None:
    """The last group whose pattern matches a path."""
    found = None
    for name, pattern in patterns.items():
        if fnmatch.fnmatchcase(path, pattern) or path.startswith(pattern.removesuffix("*").rstrip(".") + "."):
            found = name
    return found


def trained_by_entry(model: Model, patterns: Mapping[str, str]) -> list[str]:
    """How many parameters train, of how many, by entry: `encoders.image 1,024 of 50,176 (head)`.

    Where only some of an encoder's parts train, they are named.
    """
    trained: dict[str, dict[str, int]] = {}
    total: dict[str, dict[str, int]] = {}
    for counts, parameters in ((trained, trainable(model, patterns)), (total, model.modules.named_parameters())):
        for path, parameter in parameters:
            entry = entry_of(path)
            part = words(path)[2]
            part = part if part in ("head", "tokens") and f"{entry}.{part}" in model.modules.paths() else "body"
            part = "adapters" if is_adapter(path) else part
            parts = counts.setdefault(entry, {})
            parts[part] = parts.get(part, 0) + parameter.numel()
    lines = []
    for entry, parts in total.items():
        moved = trained.get(entry, {})
        count, whole = sum(moved.values()), sum(parts.values())
        if count == whole:
            lines.append(f"{entry} {whole:,}")
        elif count:
            some = [p for p in moved if len(moved) < len(parts) or moved[p] < parts[p]]
            lines.append(f"{entry} {count:,} of {whole:,} ({', '.join(some)})")
        else:
            lines.append(f"{entry} 0 of {whole:,}")
    return lines
