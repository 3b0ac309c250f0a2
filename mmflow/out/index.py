"""A faiss index beside a file of vectors: `vectors.image.faiss` for the encoder `image` of `vectors.parquet`.

It holds the vectors of a score that is a dot product (`Score.vectors`), under the numbers of their rows.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmflow.compat.fsspec import filesystem_of, opened
from mmflow.out.vectors import replacing
from mmflow.plugin.component import ComponentError

if TYPE_CHECKING:
    import numpy as np

INSTALL = "pip install 'mmflow-kit[faiss]'"


def index_url(vectors: str, encoder: str) -> str:
    """Where the index of an encoder's vectors lies."""
    return f"{vectors.rpartition('.')[0]}.{encoder}.faiss"


class IndexWriter:
    """An index that is filled batch by batch."""

    def __init__(self) -> None:
        if find_spec("faiss") is None:
            raise ComponentError("an index needs faiss, which is not installed", hint=INSTALL)
        self._index: Any = None

    def add(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        """Vectors float32 [n, D] of the rows of these numbers."""
        import faiss
        import numpy as np

        if self._index is None:
            self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), rows.astype(np.int64))

    def write(self, url: str) -> bool:
        """Write the index; nothing where it is empty."""
        if self._index is None:
            return False
        import faiss

        with replacing(url) as file:
            file.write(faiss.serialize_index(self._index).tobytes())
        return True


def drop_index(vectors: str, encoder: str) -> None:
    """Remove the index of vectors that are written again."""
    filesystem, path = filesystem_of(index_url(vectors, encoder))
    if filesystem.exists(path):
        filesystem.rm(path)


def read_index(url: str) -> Any:
    """The index at a path or an fsspec URL; None where there is none, or no faiss. Raises `ComponentError`."""
    filesystem, path = filesystem_of(url)
    if find_spec("faiss") is None or not filesystem.exists(path):
        return None
    import faiss
    import numpy as np

    try:
        with opened(url) as file:
            return faiss.deserialize_index(np.frombuffer(file.read(), np.uint8))
    except Exception as error:  # faiss raises anything over a broken file
        said = str(error).partition("\n")[0][:200]
        raise ComponentError(f"{url} is no index that faiss can read: {said}", hint="embed the data again") from error
