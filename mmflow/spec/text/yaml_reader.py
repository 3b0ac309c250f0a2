"""YAML 1.2 core text to a tree that knows where each of its values is written.

The tree is built from the parser's events with a stack of our own, so that limits hold before anything is built and
no input can exhaust the C stack or Python's. Scalars follow the core schema of YAML 1.2 (section 10.3): `on`, `yes`
and dates are text, `1e-3` is a number, `0o17` is octal and `017` is seventeen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Unpack

import yaml

from mmflow.spec.text.document import Document, Node, Scalar
from mmflow.spec.text.problems import Mark, Parts, Path, Place, Problem, Problems, SpecError, did_you_mean, shown
from mmflow.spec.text.scalars import core_scalar
from mmflow.spec.text.syntax import advice

MAX_BYTES: Final = 2**21
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000

_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN: Final = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def parse_text(text: str | bytes, file: str) -> Document:
    """Read one YAML text whose root is a mapping; raise `SpecError` with all that is wrong with it."""
    problems: list[Problem] = Problems()
    root = read_tree(text, file, problems)
    if root is not None and not isinstance(root.value, Mapping):
        problems.append(
            Problem(
                "a spec is a mapping of sections",
                mark=root.mark,
                found=root.shown(),
                expected="lines such as `name: my-run` and `data: {...}`",
            )
        )
    if problems or root is None:
        raise SpecError(problems)
    return Document(root, file, (file,))


def read_tree(text: str | bytes, file: str, problems: list[Problem]) -> Node | None:
    """Read one YAML text with any root. Mistakes are added to `problems`; None where no tree came of it."""
    if len(text) > MAX_BYTES:
        message = f"the text is longer than {MAX_BYTES} bytes"
        problems.append(Problem(message, mark=Mark(file), hint="keep data out of the spec"))
        return None
    decoded = _decoded(text, file, problems)
    return _Composer(decoded, file, problems).compose() if decoded is not None else None


def _decoded(text: str | bytes, file: str, problems: list[Problem]) -> str | None:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            mark = _mark_at(text[: error.start].decode("utf-8", "replace"), file)
            problems.append(
                Problem(f"byte 0x{text[error.start]:02x} is not UTF-8 text", mark=mark, hint="save the file as UTF-8")
            )
            return None
    text = text.removeprefix("\ufeff")
    bad = _FORBIDDEN.search(text)
    if bad is None:
        return text
    code = f"U+{ord(bad.group()):04X}"
    problems.append(
        Problem(
            f"the character {code} is not allowed in YAML",
            mark=_mark_at(text[: bad.start()], file),
            hint=f'remove it, or write it in double quotes as "\\u{ord(bad.group()):04x}"'
            if ord(bad.group()) < 0xD800
            else "remove it",
        )
    )
    return None


def _mark_at(before: str, file: str) -> Mark:
    lines = _BREAK.split(before)
    return Mark(file, len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen."""

    mark: Mark
    anchor: str | None
    key: Mark | None
    mapping: bool
    entries: dict[str, Node] = field(default_factory=dict)
    merged: list[Node] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    pending: tuple[str | None, Mark] | None = None
    merge_mark: Mark | None = None


class _Stop(Exception):
    """A limit was passed: nothing more of this text is read."""


class _Composer:
    def __init__(self, text: str, file: str, problems: list[Problem]) -> None:
        self.text, self.file, self.problems = text, file, problems
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node | None] = {}
        self.anchor_marks: dict[str, Mark] = {}
        self.root: Node | None = None
        self.documents = 0
        self.count = 0

    def compose(self) -> Node | None:
        found = len(self.problems)
        try:
            for event in yaml.parse(self.text, Loader=_PARSER):
                self.take(event)
        except _Stop:
            return None
        except yaml.MarkedYAMLError as error:
            self.problems.append(self.syntax(error))
            return None
        except (yaml.YAMLError, UnicodeError) as error:
            self.problems.append(Problem(f"not valid YAML: {error}", mark=Mark(self.file)))
            return None
        if self.documents == 0 and len(self.problems) == found:
            self.problems.append(
                Problem("the file is empty", mark=Mark(self.file, 1, 1), hint="a spec begins with `mmflow: 1`")
            )
        return self.root

    def take(self, event: yaml.Event) -> None:
        mark = self.mark(event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                self.start_document(event, mark)
            case yaml.AliasEvent():
                self.alias(event.anchor, mark)
            case yaml.ScalarEvent():
                self.scalar(event, mark)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.open(event, mark, isinstance(event, yaml.MappingStartEvent))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.close()

    def mark(self, mark: yaml.Mark) -> Mark:
        return Mark(self.file, mark.line + 1, mark.column + 1)

    def report(self, message: str, mark: Mark, **parts: Unpack[Parts]) -> None:
        self.problems.append(Problem(message, self.path(), mark, **parts))

    def path(self) -> Path:
        parts: list[str | int] = []
        for level in self.stack:
            if not level.mapping:
                parts.append(len(level.items))
            elif level.pending is not None and level.pending[0] is not None:
                parts.append(level.pending[0])
        return tuple(parts)

    def start_document(self, event: yaml.DocumentStartEvent, mark: Mark) -> None:
        self.documents += 1
        if self.documents > 1:
            self.report("a file holds one spec", mark, found="a second document", hint="remove the line `---`")
            raise _Stop
        if event.version not in (None, (1, 2)):
            version = ".".join(str(part) for part in event.version)
            self.report(f"the language is YAML 1.2, not {version}", mark, hint="remove the line `%YAML`")

    def refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, mark: Mark) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            hint = "put text in quotes and leave the tag out" if tag.startswith("!!") else "leave it out"
            self.report(f"tags such as {shown(tag)[1:-1]} are not part of the language", mark, hint=hint)

    def tally(self, mark: Mark, values: int = 1) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            self.report(f"the file holds more than {MAX_VALUES} values", mark, hint="keep data out of the spec")
            raise _Stop

    def too_deep(self, mark: Mark) -> None:
        self.report(f"nested deeper than {MAX_DEPTH} levels", mark, hint="flatten it; is a closing bracket missing?")
        raise _Stop

    def open(self, event: yaml.CollectionStartEvent, mark: Mark, mapping: bool) -> None:
        self.tally(mark)
        self.refuse_tag(event, mark)
        if len(self.stack) >= MAX_DEPTH:
            self.too_deep(mark)
        if event.anchor is not None:
            self.anchors[event.anchor], self.anchor_marks[event.anchor] = None, mark
        self.stack.append(_Open(mark, event.anchor, None, mapping))

    def close(self) -> None:
        level = self.stack.pop()
        if level.mapping:
            for source in level.merged:
                assert isinstance(source.value, Mapping)
                assert level.merge_mark is not None
                place = Place("merged by << at", level.merge_mark)
                self.tally(level.merge_mark, len(source.value))
                for name, child in source.value.items():
                    level.entries.setdefault(name, child.brought(*source.via, place))
            node = Node(level.entries, level.mark)
        else:
            node = Node(tuple(level.items), level.mark)
        if node.size > MAX_VALUES:
            self.report(
                f"aliases expand this to {node.size if node.size < 10**9 else 'over 1000000000'} values",
                level.mark,
                expected=f"at most {MAX_VALUES}",
                hint="use fewer aliases",
            )
            raise _Stop
        if node.height > MAX_DEPTH:
            self.too_deep(level.mark)
        self.place(node, level.anchor)

    def scalar(self, event: yaml.ScalarEvent, mark: Mark) -> None:
        self.tally(mark)
        self.refuse_tag(event, mark)
        text: str = event.value
        if _SURROGATE.search(text):
            self.report("half of a surrogate pair is not a character", mark, hint="write the whole character")
            text = ""
        plain = event.style in (None, "") and event.tag is None
        if plain and text == "<<" and self.awaits_key():
            self.key(None, mark)
            return
        value: Scalar = text
        if plain:
            value = self.resolved(text, mark)
        self.place(Node(value, mark, text=text if plain and not isinstance(value, str) else None), event.anchor)

    def resolved(self, text: str, mark: Mark) -> Scalar:
        try:
            return core_scalar(text)
        except ValueError as error:
            self.report(str(error), mark, hint="put it in quotes if it is text")
            return text

    def alias(self, name: str, mark: Mark) -> None:
        self.tally(mark)
        target = self.anchors.get(name)
        if name not in self.anchors:
            self.report(f"no anchor &{name} above this alias", mark, hint=did_you_mean(name, self.anchors))
        elif target is None:
            place = Place("the anchor is at", self.anchor_marks[name])
            self.report(f"*{name} is inside what &{name} names: a circle", mark, also=(place,), hint="break the circle")
        self.place((target or Node({}, mark)).brought(Place("by the alias at", mark)), None, mark)

    def awaits_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].mapping and self.stack[-1].pending is None

    def key(self, name: str | None, mark: Mark) -> None:
        """Take a key; None stands for the merge key `<<`."""
        level = self.stack[-1]
        if name is None:
            if level.merge_mark is not None:
                place = Place("the first is at", level.merge_mark)
                self.report("`<<` stands twice in one mapping", mark, also=(place,), hint="write `<<: [*one, *two]`")
            level.merge_mark = mark
        elif name in level.entries:
            first = level.entries[name].key
            place = (Place("the first is at", first),) if first is not None else ()
            self.report(f"the key {shown(name)} stands twice", mark, also=place, hint="keep one of the two")
        level.pending = (name, mark)

    def place(self, node: Node, anchor: str | None, mark: Mark | None = None) -> None:
        """Put a finished value where it belongs: the root, a key, an item, the value of a key."""
        if anchor is not None:
            self.anchors[anchor], self.anchor_marks[anchor] = node, node.mark
        at = mark or node.mark
        if not self.stack:
            self.root = node
            return
        level = self.stack[-1]
        if not level.mapping:
            level.items.append(node)
        elif level.pending is None:
            if not isinstance(node.value, str):
                hint = f'write "{node.text}" in quotes if it is a name' if node.text else None
                self.report("a key is a name", at, found=node.shown(), expected="text", hint=hint)
            self.key(node.value if isinstance(node.value, str) else f"{node.shown()} at {at}", at)
        else:
            name, key_mark = level.pending
            if name is None:
                self.merge(level, node, at)
            else:
                level.entries[name] = replace(node, key=key_mark)
            level.pending = None

    def merge(self, level: _Open, node: Node, at: Mark) -> None:
        """YAML's merge key: the mapping's own keys win, then the sources from left to right."""
        sources = node.value if isinstance(node.value, tuple) else (node,)
        for source in sources:
            if isinstance(source.value, Mapping):
                level.merged.append(source)
            else:
                found = source.shown()
                self.report(
                    "`<<` merges mappings", at, found=found, expected="an alias of a mapping, or a list of them"
                )

    def syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        marks = [mark for mark in (error.problem_mark, error.context_mark) if mark is not None]
        mark = self.mark(marks[0]) if marks else Mark(self.file)
        also = (Place("it begins at", self.mark(marks[1])),) if len(marks) > 1 and error.context else ()
        also = tuple(place for place in also if place.mark != mark)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        lines = _BREAK.split(self.text)
        near = [lines[at.line] for at in marks if at.line < len(lines)]
        return Problem(f"not valid YAML: {what}", (), mark, also, hint=advice(what, near))
