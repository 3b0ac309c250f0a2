"""The members of a matrix in the record of a run: the resolved spec of each, and the names of its stages in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypedDict

from mmflow.flow.plan import Plan
from mmflow.flow.store import RunRecord, StoreError
from mmflow.plugin.recorded import plain_types, recorded
from mmflow.plugin.values import Json
from mmflow.spec import Matrix, Member, load_text

_SPEC, _MEMBERS, _FIELDS = "spec.yaml", "members.json", "fields.json"

Members = Mapping[str, tuple[Member, Mapping[str, str]]]
"""Each member with the names in the run of the stages of its spec."""


class _Recorded(TypedDict):
    """One entry of `members.json`."""

    name: str
    axes: dict[str, str]
    spec: str
    stages: dict[str, str]


def record_members(record: RunRecord, matrix: Matrix, plan: Plan) -> None:
    """Write the resolved specs into the record of a run: `spec.yaml`, or one file a member and `members.json`.

    Beside them the declared fields of all data, so that models can be used where the data are not: `fields.json`.
    """
    fields = {
        member.name: {name: plain_types(source.fields()) for name, source in member.spec.data.items()}
        for member in matrix
    }
    record.write(_FIELDS, json.dumps(fields).encode())
    if list(matrix.members) == [""]:
        record.write(_SPEC, matrix.first.to_yaml().encode())
        return
    known: list[_Recorded] = []
    for number, member in enumerate(matrix):
        file = f"member-{number:03}.yaml"
        record.write(file, member.spec.to_yaml().encode())
        known.append({"name": member.name, "axes": {**member.axes}, "spec": file, "stages": plan.names(member.name)})
    record.write(_MEMBERS, json.dumps(known, indent=1).encode())


def recorded_members(record: RunRecord, *, with_data: bool = True) -> Members:
    """The members as they were recorded; raises `StoreError` where there are none.

    Not `with_data`, their data have the fields that were declared then, and no rows: nothing of them is read.
    """
    fields = {} if with_data else _recorded_fields(record)
    found: dict[str, tuple[Member, Mapping[str, str]]] = {}
    for entry in _entries(record):
        text = _text(record, entry)
        data = [f"data.{name}={json.dumps(written)}" for name, written in fields.get(entry["name"], {}).items()]
        spec = load_text(text, file=f"{record.id}/{entry['spec']}", overrides=data, env=None if with_data else _Blank())
        found[entry["name"]] = Member(entry["name"], entry["axes"], spec), entry["stages"]
    return found


def recorded_text(record: RunRecord, member: str = "") -> str:
    """The resolved spec of a member as it was recorded; raises `StoreError` where there is none."""
    found = next((entry for entry in _entries(record) if entry["name"] == member), None)
    if found is None:
        raise StoreError(f"the record {record.url} holds no spec of {member!r}")
    return _text(record, found).decode(errors="replace")


def _entries(record: RunRecord) -> list[_Recorded]:
    listed = record.read(_MEMBERS)
    return json.loads(listed) if listed else [{"name": "", "axes": {}, "spec": _SPEC, "stages": {}}]


def _text(record: RunRecord, entry: _Recorded) -> bytes:
    text = record.read(entry["spec"])
    if text is None:
        raise StoreError(f"the record {record.url} holds no spec")
    return text


def _recorded_fields(record: RunRecord) -> dict[str, dict[str, Json]]:
    """By member, a declaration in place of each entry of its data."""
    written = record.read(_FIELDS)
    if written is None:
        raise StoreError(f"the record {record.url} does not say which fields its data have")
    return {
        member: {name: recorded(types) for name, types in entries.items()}
        for member, entries in json.loads(written).items()
    }


class _Blank(dict[str, str]):
    """An environment in which every variable is set: nothing that comes from it can change a model."""

    def get(self, name: str, default: str | None = None) -> str:  # type: ignore[override]
        return "-"
