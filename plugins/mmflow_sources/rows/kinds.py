"""The columns that files sharing a name make: which extension gives which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_sources.decoding.kinds import looks_like_image, looks_like_sound, looks_like_video

MEDIA = ("image", "audio", "video")
TEXTS = {"txt": "caption", "caption": "caption", "text": "caption", "cls": "label"}
KINDS = (*MEDIA, "caption", "label")
MANY = {"image": "images", "audio": "sounds", "video": "videos", "caption": "captions", "label": "labels"}


def kind_of(extension: str) -> str | None:
    """The column that files with this extension make, told by its last part; None for files that are not read."""
    name = f".{extension}"
    if looks_like_image(name):
        return "image"
    if looks_like_sound(name):
        return "audio"
    if looks_like_video(name):
        return "video"
    last = extension.rpartition(".")[2]
    return "json" if last == "json" else TEXTS.get(last)


@dataclass(frozen=True)
class FileKinds:
    """The extensions that give each column of data whose samples are files of one name.

    `png` makes the column `image`, and so does `left.png` where no file has a plain extension. Any extension is a
    column of its own, too, for those who name it in `columns`.
    """

    extensions: Mapping[str, tuple[str, ...]]
    every: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()
    """Columns that the spec names; empty where it names none."""

    @classmethod
    def told(cls, groups: Iterable[tuple[str, Collection[str]]], chosen: Collection[str] = ()) -> FileKinds:
        """Of samples with an id and extensions each; raises `ComponentError` where a column may be one of several."""
        plain: dict[str, dict[str, None]] = {}
        compound: dict[str, dict[str, None]] = {}
        several: dict[str, tuple[str, list[str]]] = {}
        every: set[str] = set()
        for id, extensions in groups:
            every.update(extensions)
            found: dict[str, list[str]] = {}
            for extension in extensions:
                if (kind := kind_of(extension)) is not None:
                    (compound if "." in extension else plain).setdefault(kind, {})[extension] = None
                    if "." in extension:
                        found.setdefault(kind, []).append(extension)
            for kind, names in found.items():
                if len(names) > 1:
                    several.setdefault(kind, (id, names))
        for kind, (id, names) in several.items():
            if kind in plain or (chosen and kind not in chosen):
                continue
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ComponentError(
                f"names are cut at their first dot, so that sample {id!r} has {len(names)} {MANY.get(kind, kind)} "
                f"({listed})",
                found=listed,
                hint="`extension: last` cuts names at their last dot; "
                f"`columns: {{{kind}: {names[0]}}}` chooses files by their whole extension",
            )
        return cls(
            {kind: tuple(plain.get(kind) or compound[kind]) for kind in (*plain, *compound)},
            frozenset(every),
            frozenset(chosen),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the data has by itself, but for the keys of .json files."""
        return tuple(kind for kind in KINDS if kind in self.extensions)

    def found(self, column: str, files: Mapping[str, Any]) -> str | None:
        """The extension of the file that gives `column` in a sample with these files."""
        if column in self.extensions:
            return next((extension for extension in files if self._gives(extension, column)), None)
        return column if column in files else None

    def _gives(self, extension: str, kind: str) -> bool:
        # Data that is not seen as a whole may hold further plain extensions.
        plain = "." not in extension and kind_of(extension) == kind
        return plain or extension in self.extensions.get(kind, ())

    def clash(self, files: Collection[str]) -> str:
        """The fault of a sample with two files for one column; empty where it has none."""
        for kind in (*KINDS, "json"):
            if self.chosen and kind not in self.chosen and kind != "json":
                continue
            names = [extension for extension in files if self._gives(extension, kind)]
            if len(names) > 1:
                return (
                    f"two files for `{kind}`, .{names[0]} and .{names[1]}: remove one of them, or choose by extension, "
                    f"`columns: {{{kind}: {names[0]}}}`"
                )
        return ""

    def unread(self, files: Collection[str]) -> Iterator[tuple[str, str]]:
        """Extensions among those of a sample that no column reads, each with the reason."""
        for extension in files:
            kind = kind_of(extension)
            if extension in self.chosen:
                continue
            if kind is None:
                yield extension, f"not read (.{extension})"
            elif not self._gives(extension, kind):
                other = self.extensions[kind][0]
                yield (
                    extension,
                    f"a second file for `{kind}` beside .{other}; `columns: {{NAME: {extension}}}` reads it",
                )
