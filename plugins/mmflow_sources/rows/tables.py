"""The rows of a table on any filesystem, by the kind of its file."""

from __future__ import annotations

from mmflow.plugin import ComponentError
from mmflow_sources.access.files import Folder
from mmflow_sources.rows.base import Rows, kind_of
from mmflow_sources.rows.parquet import ParquetRows
from mmflow_sources.rows.text import CsvRows, JsonRows


def read_rows(folder: Folder, name: str, format: str | None, max_bytes: int) -> Rows:
    """Open a table, of at most `max_bytes` where it is held as text; raises `ComponentError` where it is none."""
    kind = kind_of(name, format)
    try:
        if kind == "parquet":
            return ParquetRows(folder, name)
        text = folder.read(name, max_bytes, anywhere=True).decode("utf-8-sig")
    except FileNotFoundError:
        raise ComponentError(f"no file {name!r} in {folder.url}", found=f"{folder.url}/{name}") from None
    except UnicodeDecodeError as error:
        message = f"{name} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise ComponentError(message, found=name, hint="save the file as UTF-8") from None
    except ComponentError:
        raise
    except (OSError, ValueError) as error:
        raise ComponentError(f"{name} in {folder.url} cannot be read: {error}", found=name) from error
    return CsvRows(name, text, kind) if kind in ("csv", "tsv") else JsonRows(name, text)
