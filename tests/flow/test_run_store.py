"""The run store keeps every promise on a real disk and on an object store, under kills, races and damage."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmflow.flow.store import DamagedEntry, NotStored, RunStore, StoreError, new_run_id
from mmflow.flow.store.disk import LocalStorage
from mmflow.flow.store.guarded import GuardedStorage
from mmflow.flow.store.locations import open_storage
from mmflow.flow.store.objects import ObjectStorage
from mmflow.flow.store.storage import Storage
from mmflow.identity.canonical import key_of

pytestmark = pytest.mark.process

KEY = "a" * 64


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    url = tmp_path / "store" if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return RunStore(url, cache=tmp_path / "cache")


def stored_bytes(store: RunStore, name: str) -> bytes:
    data = inside(store).read(name)
    assert data is not None
    return data


def checkpoint(store: RunStore, key: str = KEY) -> Path:
    folder = store.load_partial(key, "checkpoint")
    assert folder is not None
    return folder


def inside(store: RunStore) -> Storage:
    """The bytes of a store, to be damaged."""
    return open_storage(store.url)


def tree(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def child(code: str, *args: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


def test_what_is_published_comes_back(store, tmp_path):
    source = tree(tmp_path / "src", model="weights", sub__dir__log="x" * 3_000_000, empty="")
    assert not store.has(KEY)
    store.publish(KEY, source, {"stage": "train", "seconds": 1.5})
    assert store.has(KEY)
    assert store.verify(KEY)
    assert contents(store.fetch(KEY)) == contents(source)
    assert store.keys() == [KEY]
    entry = store.entry(KEY)
    assert entry.meta == {"stage": "train", "seconds": 1.5}
    assert entry.size == 3_000_007


def test_absent_keys(store):
    with pytest.raises(NotStored, match=KEY):
        store.fetch(KEY)
    assert store.entry(KEY) is None
    assert not store.verify(KEY)
    assert store.load_partial(KEY, "checkpoint") is None
    store.drop_partial(KEY)
    assert store.runs() == []


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "a b"])
def test_a_key_cannot_leave_the_store(store, tmp_path, key):
    with pytest.raises(StoreError, match="cannot name"):
        store.publish(key, tree(tmp_path / "src", a="1"), {})


def test_moving_uses_the_scratch_folder_up(tmp_path):
    store = RunStore(tmp_path / "store")
    with store.scratch() as folder:
        tree(folder, a="1", b__c="2")
        (folder / "link").symlink_to(folder / "a")
        inode = (folder / "b/c").stat().st_ino
        store.publish(KEY, folder, {}, move=True)
    fetched = store.fetch(KEY)
    assert (fetched / "b/c").stat().st_ino == inode
    assert not folder.exists()
    assert not (fetched / "link").is_symlink()


def test_flipped_byte_is_found_reported_and_made_again(store, tmp_path, caplog):
    store.publish(KEY, tree(tmp_path / "src", a=b"abcdef"), {})
    fetched = store.fetch(KEY)
    # The stored object itself, and not the copy of it that a remote store has given.
    inside(store).write(f"entries/{KEY}/{store.entry(KEY).attempt}/a", b"abXdef")
    if store.url.startswith("memory:"):
        (fetched / "a").unlink()
    assert store.has(KEY), "lengths alone do not show it"
    with pytest.raises(DamagedEntry, match="sha256"):
        store.fetch(KEY)
    assert "set aside" in caplog.text
    assert not store.has(KEY)
    assert store.keys() == []
    store.publish(KEY, tmp_path / "src", {})
    assert contents(store.fetch(KEY)) == {"a": b"abcdef"}


def test_missing_file_and_cut_manifest_mean_absent(store, tmp_path):
    store.publish(KEY, tree(tmp_path / "src", a="1", b="2"), {})
    inside(store).remove(f"entries/{KEY}/{store.entry(KEY).attempt}/b")
    assert not store.has(KEY)
    store.publish(KEY, tmp_path / "src", {})
    manifest = stored_bytes(store, f"entries/{KEY}/manifest.json")
    for bad in (manifest[: len(manifest) // 2], b"", b"[]", b"\xff\xfe", manifest.replace(b'"a"', b'"../a"')):
        inside(store).write(f"entries/{KEY}/manifest.json", bad)
        assert store.entry(KEY) is None
        assert not store.has(KEY)
    store.publish(KEY, tmp_path / "src", {})
    assert store.verify(KEY)


def test_a_damaged_cached_copy_of_a_remote_entry_is_fetched_again(tmp_path):
    store = RunStore(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")
    store.publish(KEY, tree(tmp_path / "src", a="abcdef"), {})
    copy = store.fetch(KEY)
    (copy / "a").write_text("abcdeX")
    assert contents(store.fetch(KEY)) == {"a": b"abcdef"}


PUBLISH_SLOWLY = """
import sys, time
from pathlib import Path
from mmflow.flow.store import RunStore

stop_after, calls = int(sys.argv[3]), 0
def pausing(event, args):
    # Every opening of a file for writing, rename and fsync below the store is a moment to be killed at.
    global calls
    if event in ("open", "os.rename", "os.mkdir") and sys.argv[1] in str(args[0]):
        calls += 1
        if calls == stop_after:
            print("here", flush=True)
            time.sleep(60)
store = RunStore(sys.argv[1])
sys.addaudithook(pausing)
getattr(store, sys.argv[4])(*eval(sys.argv[5]), Path(sys.argv[2]), *eval(sys.argv[6]))
print("end", flush=True)
"""


def killed_at_every_moment(store: Path, source: Path, method: str, before: tuple, after: tuple):
    """Kill a child at the first, second, ... touch of the disk; stops when a child has come to its end."""
    for moment in range(1, 100):
        process = child(PUBLISH_SLOWLY, store, source, moment, method, before, after)
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        process.wait()
        yield
        if said == "end":
            return
        assert said == "here"
    pytest.fail("the child has never come to its end")


def test_killed_at_any_moment_a_publication_is_absent_or_whole(tmp_path):
    store = RunStore(tmp_path / "store")
    source = tree(tmp_path / "src", a="1" * 100_000, b__c="2" * 100_000)
    seen = []
    for _ in killed_at_every_moment(tmp_path / "store", source, "publish", (KEY,), ({},)):
        seen.append(store.has(KEY))
        assert store.verify(KEY) == seen[-1]
        if seen[-1]:
            assert contents(store.fetch(KEY)) == contents(source)
            inside(store).remove(f"entries/{KEY}/manifest.json")
    assert seen[-1]
    assert seen.count(False) > 8
    store.publish(KEY, source, {})
    assert store.sweep() == 0, "what is young may belong to a run at work"
    assert store.sweep(timedelta(seconds=-5)) > 5
    assert len(inside(store).children(f"entries/{KEY}")) == 2, "one manifest, one folder of files"
    assert contents(store.fetch(KEY)) == contents(source)


def test_killed_at_any_moment_a_checkpoint_leaves_the_one_before(tmp_path):
    store = RunStore(tmp_path / "store")
    old, new = tree(tmp_path / "one", state="old"), tree(tmp_path / "two", state="new", more="x")
    store.save_partial(KEY, "checkpoint", old)
    seen = []
    for _ in killed_at_every_moment(tmp_path / "store", new, "save_partial", (KEY, "checkpoint"), ()):
        seen.append((checkpoint(store) / "state").read_text())
        if seen[-1] == "new":
            store.save_partial(KEY, "checkpoint", old)
    assert seen[-1] == "new"
    assert seen.count("old") > 8


def test_newest_complete_checkpoint_counts(store, tmp_path):
    for step in range(5):
        store.save_partial(KEY, "checkpoint", tree(tmp_path / str(step), state=f"step {step}"))
        assert (checkpoint(store) / "state").read_text() == f"step {step}"
    assert len(inside(store).children(f"partial/{KEY}/checkpoint")) == 4, "two manifests and their two folders"
    newest = json.loads(stored_bytes(store, f"partial/{KEY}/checkpoint/00000005.json"))["attempt"]
    inside(store).write(f"partial/{KEY}/checkpoint/{newest}/state", b"step X")
    if store.url.startswith("memory:"):
        (checkpoint(store) / "state").write_text("step X")
    assert (checkpoint(store) / "state").read_text() == "step 3", "the one before a damaged one"
    assert store.load_partial(KEY, "other") is None
    store.drop_partial(KEY)
    assert store.load_partial(KEY, "checkpoint") is None


PUBLISH_MANY = """
import sys
from pathlib import Path
from mmflow.flow.store import RunStore
store = RunStore(sys.argv[1])
for round in range(30):
    key = f"{round:064d}"
    store.publish(key, Path(sys.argv[2]), {"by": sys.argv[3]})
    store.save_partial(key, "checkpoint", Path(sys.argv[2]))
    assert store.verify(key) and store.load_partial(key, "checkpoint")
"""


def test_two_processes_publish_the_same_keys_at_once(tmp_path):
    source = tree(tmp_path / "src", a="1" * 10_000, b="2" * 10_000)
    processes = [child(PUBLISH_MANY, tmp_path / "store", source, name) for name in "xy"]
    assert [process.wait() for process in processes] == [0, 0]
    store = RunStore(tmp_path / "store")
    assert len(store.keys()) == 30
    assert all(map(store.verify, store.keys()))
    store.sweep(timedelta(seconds=-5))
    assert all(map(store.verify, store.keys()))
    for key in map("{:064d}".format, range(30)):
        assert len(inside(store).children(f"entries/{key}")) == 2, "one manifest, one folder of files"


SAVE_MANY = """
import sys
from pathlib import Path
from mmflow.flow.store import RunStore
store = RunStore(sys.argv[1])
for round in range(int(sys.argv[3])):
    store.save_partial("k" * 64, "checkpoint", Path(sys.argv[2]))
    found = store.load_partial("k" * 64, "checkpoint")
    if found is not None and round % 7 == 6:
        # As a run that has published its result and drops what it wrote.
        store.drop_partial("k" * 64)
store.drop_partial("k" * 64)
"""


def test_runs_that_save_and_drop_checkpoints_of_one_stage_do_not_harm_each_other(tmp_path):
    source = tree(tmp_path / "src", state="1" * 10_000, sub__more="2")
    processes = [child(SAVE_MANY, tmp_path / "store", source, 30) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    store = RunStore(tmp_path / "store")
    assert store.load_partial("k" * 64, "checkpoint") is None
    store.sweep(timedelta(seconds=-5))
    assert inside(store).children("partial/" + "k" * 64) in ([], ["checkpoint"])
    assert inside(store).children("partial/" + "k" * 64 + "/checkpoint") == []


def test_a_run_drops_the_checkpoints_that_it_wrote_or_went_on_from_and_no_others(store, tmp_path):
    source = tree(tmp_path / "src", state="1")
    other = RunStore(store.url, cache=tmp_path / "cache")
    store.save_partial(KEY, "checkpoint", source)
    other.save_partial(KEY, "checkpoint", source)
    store.drop_partial(KEY)
    assert other.load_partial(KEY, "checkpoint") is not None
    third = RunStore(store.url, cache=tmp_path / "cache")
    assert third.load_partial(KEY, "checkpoint") is not None
    third.drop_partial(KEY)
    assert other.load_partial(KEY, "checkpoint") is None


@contextlib.contextmanager
def files_limited_to(size: int):
    """A real refusal of the kernel to write more, as a full disk gives it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_no_room_for_a_new_result_leaves_the_old_ones(tmp_path):
    store = RunStore(tmp_path / "store")
    store.publish(KEY, tree(tmp_path / "old", a="old"), {})
    store.save_partial(KEY, "checkpoint", tmp_path / "old")
    big = tree(tmp_path / "big", a="small", b="x" * 200_000)
    with files_limited_to(100_000):
        with pytest.raises(StoreError, match=r"cannot store the result .* unchanged"):
            store.publish(KEY, big, {})
        with pytest.raises(StoreError, match="cannot store the checkpoint"):
            store.save_partial(KEY, "checkpoint", big)
    assert contents(store.fetch(KEY)) == {"a": b"old"}
    assert contents(checkpoint(store)) == {"a": b"old"}
    assert len(inside(store).children(f"entries/{KEY}")) == 2, "the failed attempt has been removed"


SCRATCH = """
import os, sys, time
from mmflow.flow.store import RunStore
with RunStore(sys.argv[1]).scratch() as folder:
    (folder / "state").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_the_scratch_folder_of_a_killed_process_goes_with_the_next_one_and_of_a_living_one_never(tmp_path):
    root = tmp_path / "store"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRATCH, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [Path(process.stdout.readline().strip()) for process in processes]
    assert [(folder / "state").read_text() for folder in folders] == ["half", "half"]
    # As that of a stage that works for a week.
    for folder in folders:
        os.utime(folder, (0, 0))
    processes[0].kill()
    processes[0].wait()
    with RunStore(root).scratch() as own:
        assert [folder.exists() for folder in folders] == [False, True]
        assert own.exists()
    processes[1].communicate("", timeout=60)
    assert processes[1].returncode == 0
    assert list((root / "scratch").iterdir()) == []


def test_scratch_folders_without_a_lock_or_of_another_machine_go_when_they_are_old(tmp_path):
    scratch = tmp_path / "store" / "scratch"
    for name, host in (("old", None), ("young", None), ("far", b"elsewhere"), ("forgotten", b"elsewhere")):
        tree(scratch / f"20200101T000000-{name}", state="x")
        if host is not None:
            (scratch / f"20200101T000000-{name}.lock").write_bytes(host)
    days = {"old": 2, "far": 2, "forgotten": 40}
    for name, age in days.items():
        at = time.time() - age * 86400
        os.utime(scratch / f"20200101T000000-{name}", (at, at))
    assert RunStore(tmp_path / "store").sweep() == 2
    assert sorted(path.name.partition("-")[2] for path in scratch.iterdir()) == ["far", "far.lock", "young"]


def test_a_result_that_cannot_be_published_is_kept_and_stored_later(tmp_path):
    store = RunStore(tmp_path / "store")
    with store.scratch() as folder:
        source = tree(folder, a="1" * 50, sub__b="2" * 60)
        whole = contents(source)
        with (
            files_limited_to(100),
            pytest.raises(StoreError, match=r"it is kept in .*/unpublished/a+, and the next run"),
        ):
            store.publish_or_keep(KEY, folder, {})
    assert not store.has(KEY)
    assert store.publish_kept(KEY, {"stage": "train"})
    assert contents(store.fetch(KEY)) == whole
    assert not store.publish_kept(KEY, {})


def test_a_store_that_does_not_answer_costs_time_once(tmp_path):
    class Silent(LocalStorage):
        asked = 0

        def read(self, name):
            Silent.asked += 1
            raise TimeoutError("no answer within 10 s\nand more that nobody reads")

    guarded = GuardedStorage(Silent(tmp_path))
    for _ in range(5):
        with pytest.raises(StoreError, match=r"^cannot read x in .*: TimeoutError: no answer within 10 s$"):
            guarded.read("x")
    assert Silent.asked == 1


def test_a_bucket_that_is_not_there_is_not_made(tmp_path):
    made = []

    class Bucket(MemoryFileSystem):
        protocol = ("s3", "s3a")

        def makedirs(self, path, exist_ok=False):
            made.append(path)

    ObjectStorage(Bucket(), "/bucket/prefix", url="s3://bucket/prefix", cache=tmp_path).write("x", b"1")
    assert made == []


def test_memo_calls_once(store):
    calls = []

    def produce():
        calls.append(1)
        return {"answer": ("a", 1.5, None)}

    request = {"model": "judge", "prompt": "é"}
    assert store.memo(request, produce) == {"answer": ["a", 1.5, None]}
    assert store.memo(dict(reversed(request.items())), produce) == {"answer": ["a", 1.5, None]}
    assert len(calls) == 1
    name = f"memo/{key_of(request)}.json"
    inside(store).write(name, stored_bytes(store, name).replace(b"1.5", b"2.5"))
    assert store.memo(request, produce) == {"answer": ["a", 1.5, None]}
    assert len(calls) == 2
    with pytest.raises(TypeError, match=r"the value\.x is a object"):
        store.memo({"other": 1}, lambda: {"x": object()})


def test_run_records(store):
    ids = [new_run_id("clip shapes/ä"), new_run_id("b")]
    for run_id in ids:
        record = store.run(run_id)
        record.write("run.json", "{}")
        record.event("stage", stage="train", state="done")
        record.event("note", text="two\nlines")
    assert store.runs() == sorted(ids)
    record = store.run(ids[0])
    assert [event["event"] for event in record.events()] == ["stage", "note"]
    assert record.events()[1]["text"] == "two\nlines"
    assert record.read("run.json") == b"{}"
    assert record.read("report.html") is None
    assert record.files() == ["events.jsonl", "run.json"]


def test_key_of_is_canonical_and_exact():
    assert key_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert key_of({"a": 1, "b": [1.5, None, "é"]}) == key_of({"b": (1.5, None, "é"), "a": 1})
    different = [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": {}}]
    assert len({key_of(value) for value in different}) == len(different)
    for bad, why in [
        ({1: 2}, "not a string"),
        ({"a": {"b": float("nan")}}, r"a\.b is nan"),
        ({"a": [1, {2}]}, r"a\[1\] is a set"),
    ]:
        with pytest.raises(TypeError, match=why):
            key_of(bad)


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StoreError, match="cannot store"):
        RunStore(tmp_path / "file").publish(KEY, tree(tmp_path / "src", a="1"), {})
    assert os.listdir(tmp_path / "src") == ["a"]
