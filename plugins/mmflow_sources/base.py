"""The base of sources that read files: patience with a network, a policy for bad samples, one open reader."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from mmflow.plugin import ComponentError, LeftOut, Source, TensorType, outside_identity
from mmflow_sources.access.network import NetworkError

if TYPE_CHECKING:
    from mmflow_sources.access.files import Folder

Policy = Literal["error", "skip", "quarantine"]


class FileSource(Source):
    """Base of the sources that read files: write `marks` and `load`, which gives a reader with `types`.

    `bad` says what happens to a sample that cannot be read (a missing or broken file, a wrong cell, an id that was
    there before): `error` stops, `skip` leaves it out and counts it, `quarantine` also lists it in a file. A server
    that does not answer is no bad sample: once `retry_for` is over, it stops the run.
    """

    bad: Policy = "error"
    quarantine: str | None = outside_identity(None, description="file (URL) that lists the samples left out")
    timeout: float = outside_identity(
        20.0, gt=0, description="seconds of silence after which a request over a network is given up"
    )
    retry_for: float = outside_identity(
        60.0, ge=0, description="seconds that a read over a network is tried again, from its first failure on"
    )

    links: bool = Field(False, description="follow links of the folder's files that lead out of it")

    max_ratio: float = Field(
        200.0, ge=1, description="how many times its size a file of over 64 MB may unfold to (zip, npz, Parquet)"
    )

    @model_validator(mode="after")
    def _place_of_quarantine(self) -> FileSource:
        if self.bad == "quarantine" and not self.quarantine:
            raise ValueError("bad: quarantine needs `quarantine:`, the file that lists the samples left out")
        return self

    def marks(self) -> tuple[str, ...]:
        """Marks that change with the content, cheaply found: an opened source is kept while they stay the same."""
        raise NotImplementedError

    def load(self) -> Any:
        """Read the listing, the table or the arrays; raises `ComponentError`, or `NetworkError`."""
        raise NotImplementedError

    def fields(self) -> Mapping[str, TensorType]:
        return self.open().types

    def open(self) -> Any:
        try:
            return _kept(type(self), self.model_dump_json(), self.marks())
        except NetworkError as error:
            raise ComponentError(str(error), found=self.use, expected="a server that answers") from error
        except OSError as error:
            raise ComponentError(f"{self.use} cannot be opened: {error}", found=self.use) from error
        except ComponentError:
            raise
        except Exception as error:
            # Libraries that read files raise anything over broken ones.
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise ComponentError(f"{self.use} cannot be opened: {reason}", found=self.use) from error

    def left_out(self) -> Sequence[LeftOut]:
        return self.open().left_out()

    def files(self) -> Iterable[tuple[Folder, Collection[str]]]:
        """The files whose content `fingerprint` stands for, by folder."""
        return ()

    def caveats(self) -> Sequence[str]:
        unknown = [folder.not_hashed(names) for folder, names in self.files()]
        count, size = (sum(numbers) for numbers in zip((0, 0), *unknown, strict=True))
        if not count:
            return ()
        counted = f"{count:,} file{'s' if count > 1 else ''} of {size / 1e6:,.0f} MB"
        return (f"{counted} known by size and time, not by content: a change that keeps both is not seen",)

    def folder(self, url: str) -> Folder:
        """A folder that is read with this source's patience."""
        from mmflow_sources.access.files import Folder
        from mmflow_sources.access.network import Patience

        return Folder(url, Patience(self.timeout, self.retry_for), links=self.links, max_ratio=self.max_ratio)

    def version_of(self, url: str, expected: str) -> str:
        """A mark that changes with the file at `url`; raises `ComponentError` where it cannot be reached."""
        from mmflow_sources.access.files import split_url, without_query

        parent, name = split_url(url)
        try:
            return self.folder(parent).version(name)
        except FileNotFoundError:
            raise ComponentError(f"no file {without_query(name)!r} in {parent}", found=url, expected=expected) from None
        except ComponentError:
            raise
        except (OSError, ValueError) as error:
            raise ComponentError(f"{url} cannot be read: {error}", found=url, expected=expected) from error

    def refused(self, message: str) -> Exception:
        """The exception for a bad sample, by policy."""
        from mmflow.plugin import SampleError, SkippedSample

        if self.bad == "error":
            return SampleError(message)
        return SkippedSample(message, self.quarantine if self.bad == "quarantine" else None)


def told_apart(ids: Sequence[str], where: Callable[[int], str]) -> tuple[list[str], dict[int, str]]:
    """Ids that differ, and the faults of those that are empty or repeated, by their place."""
    bad: dict[int, str] = {}
    first: dict[str, int] = {}
    for index, id in enumerate(ids):
        if not id:
            bad[index] = f"{where(index)}: no id"
        elif id in first:
            bad[index] = f"{where(index)}: id {id!r} was there before, at {where(first[id])}"
        else:
            first[id] = index
    return [f"{id}#{index}" if index in bad else id for index, id in enumerate(ids)], bad


@lru_cache(maxsize=8)
def _kept(source: type[FileSource], declaration: str, marks: tuple[str, ...]) -> Any:
    fields = json.loads(declaration)
    del fields["use"]
    return source.model_validate(fields).load()
