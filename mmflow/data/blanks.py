"""The data of a stage before other stages have run: what they make is there with blank values of its declared type."""

from __future__ import annotations

from collections.abc import Mapping

from mmflow.data.joined import BlankValues, Joined, JoinedValues
from mmflow.data.made import BlankData
from mmflow.plugin.kinds import Source, StageScope
from mmflow.plugin.streams import as_read
from mmflow.plugin.targets import STAGE, Target


def blank_source(scope: StageScope, source: Source | None = None) -> Source | None:
    """The data that a stage reads (or `source`, further data of it), for checks; None where it names none.

    Values whose types or sizes no stage declares are left out.
    """
    source = as_read(scope.component(STAGE), source) if source is not None else scope.source
    if source is None and scope.data is not None:
        own = {name: type_ for name, type_ in scope.fields.items() if name not in scope.joined}
        source = BlankData(path=str(scope.data), types=own)
    if source is None:
        return None
    known = source.fields()
    axes = {declared.axes[0] for declared in known.values() if declared.axes}
    joined: dict[str, JoinedValues] = {}
    for name, target in scope.joined.items():
        if name in known:
            continue
        try:
            declared = scope.fields[name] if name in scope.fields else scope.type_of(target)
            joined[name] = BlankValues(declared, declared.static and declared.axes[0] not in axes)
        except (ValueError, IndexError):  # no stage declares the modality, or the sizes of a value
            continue
    return Joined(of=source, columns=joined) if joined else source


def made_by_stages(scope: StageScope) -> bool:
    """Whether a stage reads data that other stages make or add to, so that it is known only once they have run."""
    data = scope.data.values() if isinstance(scope.data, Mapping) else filter(None, (scope.data,))
    return bool(scope.joined) or any(target.section == "stages" for target in data)


def joins(scope: StageScope, target: Target) -> bool:
    """Whether a reference leads to values of another stage, by itself or as a field of the data."""
    return target.section == "stages" or (target.section == "fields" and target.name in scope.joined)


__all__ = ["blank_source", "joins", "made_by_stages"]
