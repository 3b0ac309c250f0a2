"""Private parts of other libraries do what the sources take them to do, in the versions that are stated."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from mmflow_sources import compat
from packaging.specifiers import SpecifierSet

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("library", "versions"), [("datasets", compat.DATASETS), ("s3fs", compat.S3FS)])
def test_the_installed_version_is_one_of_those_stated(library: str, versions: str) -> None:
    pytest.importorskip(library)
    assert version(library) in SpecifierSet(versions)


def test_the_mark_of_a_data_set_changes_with_its_content() -> None:
    datasets = pytest.importorskip("datasets")
    one, same, other = (datasets.Dataset.from_dict({"x": values}) for values in ([1, 2], [1, 2], [1, 3]))
    assert compat.content_mark(one) == compat.content_mark(same) != compat.content_mark(other)
    assert compat.content_mark(one) != compat.content_mark(one.select([0]))


def test_a_request_to_a_bucket_is_tried_once(serve: Callable[..., Any], web_handler: Any, tmp_path: Path) -> None:
    s3fs = pytest.importorskip("s3fs")
    asked: list[str] = []

    class HangsUp(web_handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.close_connection = True

    options = {"endpoint_url": serve(tmp_path, HangsUp).url, "key": "k", "secret": "s", "skip_instance_cache": True}
    options["config_kwargs"] = {"retries": {"total_max_attempts": 1}}
    counts = []
    for once in (False, True):
        asked.clear()
        filesystem = s3fs.S3FileSystem(**options)
        filesystem.retries = 2
        if once:
            compat.try_once(filesystem)
        with pytest.raises(Exception, match="closed"):
            filesystem.ls("bucket")
        counts.append(len(asked))
    # aiohttp may send a request again by itself, as often in both.
    assert counts[0] == 2 * counts[1] > 0


def test_the_headers_of_a_tar_file_do_not_add_up() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for number in range(5):
            tar.addfile(tarfile.TarInfo(f"{number}.txt"))
    data.seek(0)
    names = []
    with tarfile.open(fileobj=data, mode="r:") as tar:
        while (member := tar.next()) is not None:
            compat.forget_members(tar)
            names.append(member.name)
            assert not tar.members  # type: ignore[attr-defined]
    assert names == [f"{number}.txt" for number in range(5)]
