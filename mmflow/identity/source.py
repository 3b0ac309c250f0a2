"""One Python file, read without running it: a hash of its code, and the modules that it imports.

Comments, docstrings, blank lines, formatting and imports for type checkers are no part of the hash. Facts are
remembered by the file's stat in the user's cache, because parsing costs more than all other work on a key.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from mmflow.identity.notes import FileNotes

_WORD = re.compile(r"[\w./-]{1,200}")
_HARMLESS = frozenset({"hookimpl", "cache", "lru_cache", "overload", "contextmanager"})
"""Decorators that do nothing to the world outside their function."""
_READERS = frozenset({"files", "get_data", "read_text", "read_binary", "open_text", "open_binary"})
"""Functions of `importlib.resources` and `pkgutil` that read files of a package."""


@dataclass(frozen=True)
class Import:
    """An import as it is written: `from ..a import b` is ("a", 2, "b"), `import a.b` is ("a.b", 0, "")."""

    module: str
    level: int
    name: str


@dataclass(frozen=True)
class Facts:
    """The facts of one file of Python that matter to a closure."""

    digest: str
    imports: tuple[Import, ...]
    """Imports that can run, those inside functions included."""
    typing: tuple[Import, ...]
    """Imports under `if TYPE_CHECKING:`."""
    exports: dict[str, Import]
    """Names that an import at the top level binds, those for type checkers included."""
    effects: bool
    """Whether importing the file does more than bind names."""
    lazy: bool
    """Whether the module has a `__getattr__`."""
    words: tuple[str, ...]
    """Strings that may name modules or files: of a file that imports by a computed name, or reads beside itself."""


class Sources:
    """Facts of files, each read once a process and remembered in the user's cache, package by package."""

    def __init__(self) -> None:
        # Named by this file's own content: facts that an older form of it has found are not taken for its own.
        self._version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
        self._notes: dict[Path, FileNotes] = {}
        self._facts: dict[Path, Facts] = {}

    def facts(self, path: Path, top: Path) -> Facts:
        """The facts of a file of the package (or of the module of one file) at `top`.

        Raises `OSError` where it cannot be read; a file that is no Python has a hash and no imports.
        """
        if path not in self._facts:
            if top not in self._notes:
                name = hashlib.sha256(str(top).encode("utf-8", "surrogateescape")).hexdigest()[:16]
                self._notes[top] = FileNotes(f"sources/{self._version}/{name}")
            note = self._notes[top].of(path, lambda path: _to_plain(read_facts(path.read_bytes())))
            self._facts[path] = _from_plain(note)
        return self._facts[path]

    def save(self) -> None:
        """Write new facts to the user's cache."""
        for notes in self._notes.values():
            notes.save()


def _to_plain(facts: Facts) -> list[Any]:
    imports, typing = ([astuple(i) for i in found] for found in (facts.imports, facts.typing))
    exports = {name: astuple(i) for name, i in facts.exports.items()}
    return [facts.digest, imports, typing, exports, facts.effects, facts.lazy, facts.words]


def _from_plain(note: list[Any]) -> Facts:
    digest, *found, exports, effects, lazy, words = note
    imports, typing = (tuple(Import(*i) for i in written) for written in found)
    return Facts(digest, imports, typing, {k: Import(*i) for k, i in exports.items()}, effects, lazy, tuple(words))


def read_facts(data: bytes) -> Facts:
    """The facts of a file's content."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return Facts(hashlib.sha256(data).hexdigest(), (), (), {}, False, False, ())
    reading = _Reading()
    digest = reading.digest(tree)
    typing = [found for guarded in reading.guarded for found in _imports_below(guarded)]
    return Facts(
        digest=digest,
        imports=tuple(dict.fromkeys(reading.imports)),
        typing=tuple(dict.fromkeys(typing)),
        exports=dict(_exports(tree.body)),
        effects=any(map(_acts, tree.body)),
        lazy=any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body),
        words=tuple(filter(_WORD.fullmatch, dict.fromkeys(reading.words))) if reading.by_word else (),
    )


class _Reading:
    """One walk over a syntax tree: the hash, the imports that can run, and the blocks under `TYPE_CHECKING`."""

    def __init__(self) -> None:
        self.imports: list[Import] = []
        self.guarded: list[ast.stmt] = []
        self.words: list[str] = []
        self.by_word = False

    def digest(self, tree: ast.Module) -> str:
        """Class names, fields and constants in order; independent of places and of the version of Python."""
        said: list[str] = []
        # Not recursive: a sum of a thousand terms is a tree of that depth.
        stack: list[object] = [tree]
        while stack:
            item = stack.pop()
            if isinstance(item, ast.Constant):
                said.append(f"{type(item.value).__name__} {item.value!r}")
                if isinstance(item.value, str):
                    self.words.append(item.value)
            elif isinstance(item, ast.AST):
                self._see(item)
                said.append(type(item).__name__)
                for name in reversed(item._fields):
                    value = getattr(item, name, None)
                    if value is None or name in ("ctx", "type_comment"):
                        continue
                    if isinstance(value, list):
                        value = list(self._counting(value))
                        if not value:
                            continue
                        stack.extend(reversed(value))
                        stack.append(f".{name} {len(value)}")
                    else:
                        stack.append(value if isinstance(value, ast.AST) else repr(value))
                        stack.append(f".{name}")
            else:
                said.append(str(item))
        return hashlib.sha256("\n".join(said).encode("utf-8", "surrogatepass")).hexdigest()

    def _counting(self, nodes: list) -> Iterator[object]:
        """Without docstrings and other strings that stand alone, and without blocks for type checkers."""
        for node in nodes:
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                continue
            if isinstance(node, ast.If) and _named(node.test) == "TYPE_CHECKING":
                self.guarded += node.body
                yield from self._counting(node.orelse)
                continue
            yield node

    def _see(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports += _imports_of(node)
        elif isinstance(node, ast.Name):
            self.by_word = self.by_word or node.id == "__file__"
        elif isinstance(node, ast.Call) and _named(node.func) in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                level = len(first.value) - len(first.value.lstrip("."))
                self.imports.append(Import(first.value[level:], level, ""))
            else:
                self.by_word = True
        elif isinstance(node, ast.Call) and _named(node.func) in _READERS:
            self.by_word = True


def _named(node: ast.AST) -> str:
    """The last word of a name: `lru_cache` for `functools.lru_cache(maxsize=1)`."""
    if isinstance(node, ast.Call):
        return _named(node.func)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _imports_of(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield Import(alias.name, 0, "")
        else:
            yield Import(node.module or "", node.level, alias.name)


def _imports_below(node: ast.AST) -> Iterator[Import]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            yield from _imports_of(inner)


def _exports(body: list[ast.stmt]) -> Iterator[tuple[str, Import]]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias, found in zip(node.names, _imports_of(node), strict=True):
                if isinstance(node, ast.ImportFrom) or alias.asname:
                    yield alias.asname or alias.name, found
        elif isinstance(node, ast.If):
            yield from _exports(node.body)
            yield from _exports(node.orelse)
        elif isinstance(node, ast.Try):
            yield from _exports(node.body)
            for handler in node.handlers:
                yield from _exports(handler.body)


def _acts(node: ast.stmt) -> bool:
    """Whether a statement at the top level does more than bind a name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return any(_named(decorator) not in _HARMLESS for decorator in node.decorator_list)
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return not all(isinstance(target, ast.Name) for target in node.targets)
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return not isinstance(node.target, ast.Name)
    if isinstance(node, ast.If):
        body = [] if _named(node.test) == "TYPE_CHECKING" else node.body
        return any(map(_acts, [*body, *node.orelse]))
    if isinstance(node, ast.Try):
        inside = [*node.body, *node.orelse, *node.finalbody, *(s for h in node.handlers for s in h.body)]
        return any(map(_acts, inside))
    return not isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.Pass | ast.Raise)
