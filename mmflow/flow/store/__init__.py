"""The run store: results under content keys, checkpoints of unfinished stages, records of runs."""

from mmflow.flow.store.errors import DamagedEntry, NotStored, StoreError
from mmflow.flow.store.manifest import Entry
from mmflow.flow.store.records import Event, RunAbout, RunRecord, new_run_id
from mmflow.flow.store.store import RunStore

__all__ = [
    "DamagedEntry",
    "Entry",
    "Event",
    "NotStored",
    "RunAbout",
    "RunRecord",
    "RunStore",
    "StoreError",
    "new_run_id",
]
