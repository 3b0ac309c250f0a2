"""The private parts of fsspec that mmflow touches are there in this version."""

from __future__ import annotations

from importlib.metadata import version

import fsspec
import pytest
from packaging.specifiers import SpecifierSet

from mmflow.compat.fsspec import VERSIONS, parent_of

pytestmark = pytest.mark.skipif(
    version("fsspec") not in SpecifierSet(VERSIONS), reason=f"mmflow.compat.fsspec is written for {VERSIONS}"
)


@pytest.mark.parametrize(
    ("protocol", "path", "expected"),
    [("file", "/a/b/c.txt", "/a/b"), ("memory", "/a/b.txt", "/a"), ("s3", "bucket/a/b.txt", "bucket/a")],
)
def test_the_folder_of_a_path(protocol: str, path: str, expected: str):
    assert parent_of(fsspec.filesystem(protocol), path) == expected
