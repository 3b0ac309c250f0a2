"""From files to one tree: `extends`, `--set` overrides, then variables. Types and names are checked later.

    read_spec("spec.yaml", overrides=["train.epochs=2"]).data

`extends` merges mappings deeply, the extending file last; null removes what it extends, and a component with another
`use` replaces it. Overrides act on the merged
text, before variables. `$vars.a.b` alone keeps the type of what it names, inside a longer text it is written out;
`${vars.a.b}` ends the name where a dot follows; `$$` is a dollar sign. `$env.NAME` is text, and its node says so.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Unpack

from mmflow.plugin.files import local_path, refuse_devices
from mmflow.spec.text.document import Document, Node
from mmflow.spec.text.matrix import Choice, Variant, read_choices, variants
from mmflow.spec.text.overrides import apply_override, member_of, parse_override
from mmflow.spec.text.problems import Mark, Parts, Path, Place, Problem, Problems, SpecError, did_you_mean
from mmflow.spec.text.variables import Variables
from mmflow.spec.text.yaml_reader import MAX_BYTES, read_tree

MAX_FILES: Final = 64


def read_spec(source: str, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Document:
    """Read the spec at a path or an fsspec URL, with all that it extends, overrides applied and variables filled in.

    `overrides` are texts `a.b.c=value`; `env` stands in for the process environment. Raises `SpecError` with
    everything that is wrong. The sections `vars` and `matrix` stay in the tree, `matrix` as it was written.
    """
    return _expanded(_address(source), None, overrides, env)


def read_text(
    text: str | bytes, file: str = "<text>", overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Document:
    """`read_spec` for a text at hand; `file` names it in messages, and `extends` in it is relative to `file`."""
    return _expanded(file, text, overrides, env)


def read_members(
    source: str, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None, text: str | bytes | None = None
) -> list[tuple[Variant, Document | SpecError]]:
    """The members of a spec's `matrix`, each as a document or with what is wrong with it alone; one without a matrix.

    An override `a.b.c=value` is for all members, `MEMBER:a.b.c=value` for one. Raises `SpecError` for what is wrong
    with all of them. `text` is the content of `source`, where it is at hand.
    """
    problems: list[Problem] = Problems()
    address = _address(source)
    files = _Files(problems)
    root = files.load(address, None, text)
    if root is None:
        raise SpecError(problems)
    of_matrix = [one for one in overrides if one.partition("=")[0].split(".")[0].strip() == "matrix"]
    root = _overridden(root, of_matrix, (), problems)
    choices = read_choices(root, problems)
    names = [variant.name for variant in variants(root, choices, []) if variant.name]
    others = [one for one in overrides if one not in of_matrix]
    root = _overridden(root, [one for one in others if not member_of(one, names)], names, problems, choices)
    found: list[tuple[Variant, Document | SpecError]] = []
    for variant in variants(root, choices, problems):
        own_overrides = [one for one in others if variant.name and member_of(one, names) == variant.name]
        tree = _overridden(variant.root, own_overrides, names, problems)
        own: list[Problem] = Problems()
        try:
            expanded = Variables(tree, os.environ if env is None else env, own).expanded() if not problems else tree
        except SpecError as error:
            own, expanded = [*error.problems], tree
        found.append((variant, SpecError(own) if own else Document(expanded, address, tuple(files.trees))))
    if problems:
        raise SpecError(problems)
    return found


def _overridden(
    root: Node,
    overrides: Sequence[str],
    members: Sequence[str],
    problems: list[Problem],
    choices: Sequence[Sequence[Choice]] = (),
) -> Node:
    """The tree with overrides applied; what an axis of the matrix says cannot be overridden for all members."""
    axes = {choice.overrides[0].path: choice.axis for axis in choices for choice in axis if choice.axis}
    for written in overrides:
        override = parse_override(written, problems, members)
        if override is None:
            continue
        axis = next((name for path, name in axes.items() if path[: len(override.path)] == override.path), None)
        if axis is not None:
            hint = f"write --set 'matrix.{axis}=[...]', or --set 'MEMBER:{'.'.join(override.path)}=...' for one member"
            problems.append(Problem(f"{axis} is an axis of the matrix", override.path, override.mark, hint=hint))
            continue
        root = apply_override(root, override, problems)
    return root


def _address(source: str) -> str:
    address = os.fspath(source)
    return address if "://" in address else os.path.normpath(address)


def _expanded(
    address: str, text: str | bytes | None, overrides: Sequence[str], env: Mapping[str, str] | None
) -> Document:
    problems: list[Problem] = Problems()
    files = _Files(problems)
    root = files.load(address, None, text)
    parsed = [override for written in overrides if (override := parse_override(written, problems)) is not None]
    if root is None:
        raise SpecError(problems)
    for override in parsed:
        root = apply_override(root, override, problems)
    if not problems:
        root = Variables(root, os.environ if env is None else env, problems).expanded()
    if problems:
        raise SpecError(problems)
    return Document(root, address, tuple(files.trees))


class _Files:
    """Reads spec files, each once, and merges what they extend."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.trees: dict[str, Node | None] = {}
        self.reading: list[tuple[str, Mark | None]] = []

    def load(self, address: str, asked: Mark | None, text: str | bytes | None = None) -> Node | None:
        """The merged tree of one file (or of `text`, where given); None after a problem.

        `asked` is the `extends` entry that names the file.
        """
        if address in self.trees:
            return self.trees[address]
        if len(self.trees) >= MAX_FILES:
            self._report(f"`extends` leads to more than {MAX_FILES} files", asked, hint="merge some of them")
            return None
        self.reading.append((address, asked))
        self.trees[address] = None
        tree = self._read(address, asked, text)
        if tree is not None:
            tree = self._extended(tree, address)
        self.trees[address] = tree
        self.reading.pop()
        return tree

    def _report(self, message: str, asked: Mark | None, **parts: Unpack[Parts]) -> None:
        path: Path = ("extends",) if asked is not None else ()
        self.problems.append(Problem(message, path, asked, **parts))

    def _read(self, address: str, asked: Mark | None, text: str | bytes | None) -> Node | None:
        try:
            content = _content(address, pipes=asked is None) if text is None else text
        except FileNotFoundError:
            self._report(f"there is no file {address}", asked, hint=_nearest_file(address))
            return None
        except IsADirectoryError:
            self._report(f"{address} is a directory", asked, expected="a YAML file")
            return None
        except Exception as error:  # a file system from a plugin may raise anything
            self._report(f"{address} cannot be read: {type(error).__name__}: {error}", asked)
            return None
        before = len(self.problems)
        tree = read_tree(content, address, self.problems)
        if asked is not None:
            place = Place("extended at", asked)
            for index in range(before, len(self.problems)):
                self.problems[index] = replace(self.problems[index], also=(*self.problems[index].also, place))
        if tree is not None and not isinstance(tree.value, Mapping):
            self.problems.append(
                Problem(
                    "a spec is a mapping of sections",
                    mark=tree.mark,
                    also=(Place("extended at", asked),) if asked is not None else (),
                    found=tree.shown(),
                    expected="lines such as `name: my-run` and `data: {...}`",
                )
            )
            return None
        return tree

    def _extended(self, tree: Node, address: str) -> Node | None:
        assert isinstance(tree.value, Mapping)
        entry = tree.value.get("extends")
        if entry is None:
            return tree
        own = replace(tree, value={name: child for name, child in tree.value.items() if name != "extends"})
        targets = entry.value if isinstance(entry.value, tuple) else (entry,)
        if len(targets) > MAX_FILES:
            self._report(f"`extends` names more than {MAX_FILES} files", entry.mark, hint="merge some of them")
            return None
        merged: Node | None = None
        complete = True
        for target in targets:
            if not isinstance(target.value, str) or not target.value:
                self._report("", target.mark, found=target.shown(), expected="the path of a spec, or a list of paths")
                complete = False
                continue
            other = _resolve(target.value, address)
            cycle = [name for name, _ in self.reading]
            if other in cycle:
                steps = [*self.reading[cycle.index(other) + 1 :], (other, target.mark)]
                also = tuple(Place("extended at", mark) for _, mark in steps[:-1] if mark is not None)
                names = " -> ".join([other, *(name for name, _ in steps)])
                self._report(f"`extends` runs in a circle: {names}", target.mark, also=also, hint="remove one of them")
                complete = False
                continue
            base = self.load(other, target.mark)
            if base is None:
                complete = False
                continue
            base = _through(base, Place("extended at", target.mark))
            merged = base if merged is None else merge(merged, base)
        if not complete:
            return None
        return own if merged is None else merge(merged, own)


def _through(tree: Node, place: Place) -> Node:
    """The tree with a place noted on each of its sections, where merging keeps it."""
    assert isinstance(tree.value, Mapping)
    return replace(tree, value={name: child.brought(place) for name, child in tree.value.items()})


def merge(base: Node, over: Node) -> Node:
    """`over` laid on `base`: mappings are merged deeply, null removes what is there, all else replaces.

    A component with another `use` replaces the one below it whole: its fields mean other things.
    """
    if not (isinstance(base.value, Mapping) and isinstance(over.value, Mapping)):
        return over
    below, above = base.child("use"), over.child("use")
    if below is not None and above is not None and below.value != above.value:
        return over
    value = {name: child.brought(*base.via) for name, child in base.value.items()}
    for name, child in over.value.items():
        if name in value and child.value is None:
            del value[name]
            continue
        child = child.brought(*over.via)
        value[name] = merge(value[name], child) if name in value else child
    return replace(over, value=value, via=())


def _content(address: str, *, pipes: bool) -> bytes:
    """The bytes of a file. `pipes`: it may be one that the shell made of a command, or a device; else none is read."""
    if not pipes:
        refuse_devices(address)
    path = local_path(address)
    if path is None:
        import fsspec  # takes longer to import than the rest of the language together

        with fsspec.open(address, "rb") as stream:
            return stream.read(MAX_BYTES + 1)  # type: ignore[union-attr]
    with open(path, "rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _resolve(target: str, origin: str) -> str:
    """The address that an `extends` entry means: as it stands, or relative to the file that says it."""
    if "://" in target or "::" in target or os.path.isabs(target):
        return target
    if "://" in origin:
        scheme, _, rest = origin.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(posixpath.dirname(rest), target))}"
    return os.path.normpath(os.path.join(os.path.dirname(origin), target))


def _nearest_file(address: str) -> str | None:
    directory = os.path.dirname(address) or "."
    try:
        names = [name for name in os.listdir(directory) if name.endswith((".yaml", ".yml"))]
    except (OSError, ValueError):
        return None if "://" in address else f"there is no directory {directory}"
    return did_you_mean(os.path.basename(address), names)
