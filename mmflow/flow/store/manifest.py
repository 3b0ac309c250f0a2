"""Manifests, which list the files published under a key, and the rules for names in a store."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from mmflow.flow.store.errors import StoreError
from mmflow.flow.store.storage import FileRecord
from mmflow.identity.canonical import Json

STAMP = "%Y%m%dT%H%M%S"
"""How names in a store begin that are made at a moment (UTC)."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """A published result: its key, when it was published (ISO time, UTC), its files and the publisher's meta."""

    key: str
    attempt: str
    created: str
    files: Mapping[str, FileRecord]
    meta: Mapping[str, Json]

    @property
    def size(self) -> int:
        """Length of all files in bytes."""
        return sum(record.size for record in self.files.values())


def manifest_of(key: str, attempt: str, files: Mapping[str, FileRecord], meta: Mapping[str, Json]) -> bytes:
    content = {
        "mmflow_store": 1,
        "key": key,
        "attempt": attempt,
        "created": datetime.now(UTC).isoformat(),
        "files": {name: asdict(record) for name, record in files.items()},
        "meta": dict(meta),
    }
    return json.dumps(content, indent=1).encode()


def parse_manifest(key: str, data: bytes) -> Entry:
    """Raises `ValueError` where `data` is not a manifest."""
    try:
        content = json.loads(data)
        if content["mmflow_store"] != 1:
            raise ValueError(f"the manifest has version {content['mmflow_store']}, this mmflow reads version 1")
        files = {name: FileRecord(int(item["size"]), item["sha256"]) for name, item in content["files"].items()}
        if not all(map(_safe_relative, [*files, content["attempt"]])):
            raise ValueError("the manifest names a file outside its folder")
        return Entry(key or content["key"], content["attempt"], content["created"], files, content["meta"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the manifest cannot be read ({type(error).__name__}: {error})") from None


def checked_name(name: str) -> str:
    """`name`, where it can name something in a store; raises `StoreError`."""
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot name anything in the store: letters, digits, '.', '_' and '-' only")
    return name


def _safe_relative(name: str) -> bool:
    """Whether a recorded file name stays below its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
