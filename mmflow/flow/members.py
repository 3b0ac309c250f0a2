"""The members of a matrix in the record of a run: the resolved spec of each, and the names of its stages in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypedDict

from mmflow.flow.plan import Plan
from mmflow.flow.store import RunRecord, StoreError
from mmflow.spec import Matrix, Member, load_text

_SPEC, _MEMBERS = "spec.yaml", "members.json"

Members = Mapping[str, tuple[Member, Mapping[str, str]]]
"""Each member with the names in the run of the stages of its spec."""


class _Recorded(TypedDict):
    """One entry of `members.json`."""

    name: str
    axes: dict[str, str]
    spec: str
    stages: dict[str, str]


def record_members(record: RunRecord, matrix: Matrix, plan: Plan) -> None:
    """Write the resolved specs into the record of a run: `spec.yaml`, or one file a member and `members.json`."""
    if list(matrix.members) == [""]:
        record.write(_SPEC, matrix.first.to_yaml().encode())
        return
    known: list[_Recorded] = []
    for number, member in enumerate(matrix):
        file = f"member-{number:03}.yaml"
        record.write(file, member.spec.to_yaml().encode())
        known.append({"name": member.name, "axes": {**member.axes}, "spec": file, "stages": plan.names(member.name)})
    record.write(_MEMBERS, json.dumps(known, indent=1).encode())


def recorded_members(record: RunRecord) -> Members:
    """The members as they were recorded; raises `StoreError` where there are none."""
    listed = record.read(_MEMBERS)
    entries: list[_Recorded] = json.loads(listed) if listed else [{"name": "", "axes": {}, "spec": _SPEC, "stages": {}}]
    found: dict[str, tuple[Member, Mapping[str, str]]] = {}
    for entry in entries:
        text = record.read(entry["spec"])
        if text is None:
            raise StoreError(f"the record {record.url} holds no spec")
        spec = load_text(text, file=f"{record.id}/{entry['spec']}")
        found[entry["name"]] = Member(entry["name"], entry["axes"], spec), entry["stages"]
    return found
