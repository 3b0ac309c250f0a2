"""Where a result is: a recorded run in a store, or the folder of an exported model."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmflow.cache import user_cache
from mmflow.compat.fsspec import filesystem_of
from mmflow.flow.members import recorded_members, recorded_text
from mmflow.flow.run import open_store
from mmflow.flow.store import RunRecord, RunStore, StoreError
from mmflow.plugin.component import ComponentError
from mmflow.spec import Spec

LATEST = "latest"
EXPORTED = "spec.yaml"
"""The file by which the folder of an exported model is known, beside its model."""


@dataclass(frozen=True)
class FoundRun:
    """A member of a recorded run."""

    store: RunStore
    record: RunRecord
    spec: Spec
    """With the declared fields of its data, which are not read."""
    member: str
    names: Mapping[str, str]
    """The names in the run of its stages, where they differ from those in the spec."""

    def key(self, stage: str) -> str:
        """The key of a stage's result; raises `ComponentError` where the run has none."""
        key = self.record.about().get("keys", {}).get(self.names.get(stage, stage), "")
        if not key:
            raise ComponentError(f"run {self.record.id} has no result of the stage {stage}")
        return key

    def text(self) -> str:
        """The resolved spec, as it was recorded."""
        return recorded_text(self.record, self.member)

    def with_data(self) -> Spec:
        """The spec with its data, which must be where they were; raises `SpecError`."""
        return recorded_members(self.record)[self.member][0].spec

    def result(self, stage: str) -> Path:
        """The local folder with a stage's result; raises `StoreError` where it is not stored."""
        return self.store.fetch(self.key(stage))


def exported_folder(source: str | Path) -> Path | None:
    """The local folder of an exported model at a path or an fsspec URL; None where there is none."""
    text = str(source)
    if "://" in text or "::" in text:
        return _fetched(text)
    folder = Path(text).expanduser()
    return folder if (folder / EXPORTED).is_file() and (folder / "model").is_dir() else None


def find_record(source: str | Path, store: str, *, otherwise: str = "") -> tuple[RunStore, RunRecord]:
    """The store and the record of a run: that of an id (`latest`: the newest one), or the one at a path or URL.

    Raises `StoreError` for an unknown run, which is not `otherwise` either.
    """
    place, mark, name = str(source).rstrip("/").removesuffix("/report.html").rpartition("/runs/")
    opened = open_store(place if mark else store)
    known = opened.runs()
    if not known:
        more = f", and {source} is not {otherwise}" if otherwise else ""
        raise StoreError(f"no run is recorded in {opened.url}{more}; name another store with --store")
    run_id = name if mark else str(source)
    run_id = known[-1] if run_id == LATEST else run_id
    if run_id not in known:
        nor = f", nor {otherwise}" if otherwise else ""
        raise StoreError(f"{source} is no run in {opened.url} (the newest is {known[-1]}){nor}")
    return opened, opened.run(run_id)


def find_run(source: str | Path, store: str, member: str = "") -> FoundRun:
    """The run of that id (`latest`: the newest one) in a store, or the one whose record is at a path or URL.

    Raises `StoreError` for an unknown run and `ComponentError` for an unknown member.
    """
    opened, record = find_record(source, store, otherwise="an exported model")
    members = recorded_members(record, with_data=False)
    if member not in members:
        known_members = ", ".join(name for name in members if name)
        hint = "" if known_members else "this run has no members"
        raise ComponentError(
            f"run {record.id} has no member {member!r}" if member else f"run {record.id} has several members: name one",
            expected=f"one of: {known_members}" if known_members else "", hint=hint,
        )  # fmt: skip
    found, names = members[member]
    return FoundRun(opened, record, found.spec, member, names)


def _fetched(url: str) -> Path | None:
    """A copy of an exported model on this machine, made once for each version of it."""
    filesystem, path = filesystem_of(url)
    try:
        if not filesystem.exists(f"{path.rstrip('/')}/{EXPORTED}"):
            return None
        files: dict[str, dict[str, object]] = dict(filesystem.find(path, detail=True))
    except (OSError, ValueError) as error:
        raise ComponentError(f"{url} cannot be read: {error}", found=url) from error
    said = "\n".join(
        f"{name} {info.get('size')} {info.get('ETag') or info.get('mtime')}" for name, info in files.items()
    )
    folder = user_cache() / "models" / hashlib.sha256(f"{url}\n{said}".encode()).hexdigest()[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            filesystem.get(path.rstrip("/") + "/", f"{scratch}/model/", recursive=True)
            try:
                shutil.move(f"{scratch}/model", folder)
            except OSError:
                # Another process has just put the same files there.
                if not folder.is_dir():
                    raise
    return folder
