"""Which code stands behind a component: the source of all modules that it imports, found without importing them.

Source under development (an editable install, a folder on the import path) counts by the hash of the modules that are
really reached; an installed distribution of components counts by its version; other libraries do not count. A name
that a package re-exports counts as the module that defines it, so that a file beside it, or another component of the
package, changes nothing.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from mmflow.identity.source import Facts, Import, Sources
from mmflow.plugin.component import Component
from mmflow.plugin.registry import GROUP, registry

CORE = "mmflow-kit"
"""The distribution of mmflow itself."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class Code:
    """The code that some modules reach."""

    sources: dict[str, str]
    """Modules (and files beside them) under development, with the hash of each."""
    versions: dict[str, str]
    """Installed distributions of components."""

    def __str__(self) -> str:
        """`my-plugin==0.2+mmflow-kit==0.1` or `source:5f3a...`, or both."""
        parts = [f"{name}=={version}" for name, version in sorted(self.versions.items())]
        if self.sources:
            text = "\n".join(f"{name} {digest}" for name, digest in sorted(self.sources.items()))
            parts.append(f"source:{hashlib.sha256(text.encode()).hexdigest()[:32]}")
        return "+".join(parts)


def component_code(component: Component) -> str:
    """The code behind a component; raises `ComponentError` for one that no plugin registers."""
    found = registry().registration(component)
    code = code_of(found.path.partition(":")[0])
    # Of code that is neither found as source nor installed, only the registration is known.
    return str(code) or f"{found.distribution}=={found.version}"


def code_of(*modules: str) -> Code:
    """The code that is reached from `modules`, they included."""
    closure = _closure()
    sources: dict[str, str] = {}
    versions: dict[str, str] = {}
    open_, seen = list(modules), set(modules)
    while open_:
        reached = closure.reached(open_.pop())
        sources |= reached.sources
        versions |= reached.versions
        open_ += [name for name in reached.imports if name not in seen]
        seen.update(reached.imports)
    return Code(sources, versions)


@dataclass(frozen=True)
class _Reached:
    """The share of one module in a closure, and the modules to go on with."""

    sources: dict[str, str]
    versions: dict[str, str]
    imports: tuple[str, ...]


@dataclass(frozen=True)
class _Module:
    """Where a module lies."""

    name: str
    file: Path | None
    """None for a folder without `__init__.py`."""
    places: tuple[str, ...]
    """Where its submodules are looked for; none for a module that is no package."""

    @property
    def package(self) -> str:
        return self.name if self.places else self.name.rpartition(".")[0]


class _Closure:
    def __init__(self) -> None:
        self.sources = Sources()
        self._modules: dict[str, _Module | None] = {}
        self._reached: dict[str, _Reached] = {}

    def reached(self, name: str) -> _Reached:
        """The hash or version of `name` itself, and the modules that it takes names from."""
        if name not in self._reached:
            self._reached[name] = self._read(name)
        return self._reached[name]

    def _read(self, name: str) -> _Reached:
        owner = _installed().get(name.partition(".")[0])
        versions = {} if owner is None else {owner[0]: owner[1]}
        module = self.module(name)
        # The core imports no plugin, so an installed one needs no reading.
        if module is None or (owner is not None and owner[0] == CORE):
            return _Reached({}, versions, ())
        facts = self.facts(module)
        if facts is None:
            return _Reached({}, versions, ())
        found = [*facts.imports, *(facts.typing if facts.lazy else ())]
        imports = [target for written in found for target in self._targets(module, written)]
        imports += self._named_by_words(module, facts)
        imports += self._acting_parents(name)
        if owner is not None:
            return _Reached({}, versions, tuple(dict.fromkeys(imports)))
        return _Reached({name: facts.digest, **self._files_beside(module, facts)}, {}, tuple(dict.fromkeys(imports)))

    def _targets(self, module: _Module, written: Import) -> Iterator[str]:
        """The modules that an import leads to, through packages that only pass a name on."""
        base = _absolute(module, written)
        if base is None:
            return
        if written.name in ("", "*"):
            yield base
            yield from self._acting_parents(base)
            return
        target = self._home(base, written.name, set())
        yield target
        yield from self._acting_parents(target)

    def _home(self, base: str, name: str, seen: set[tuple[str, str]]) -> str:
        """The module that defines `name` of the module `base`."""
        module, inside = self.module(base), f"{base}.{name}"
        if module is None or not module.places:
            return base
        if (base, name) not in seen:
            seen.add((base, name))
            facts = self.facts(module)
            written = facts.exports.get(name) if facts is not None else None
            if written is not None and (home := _absolute(module, written)) is not None:
                return home if written.name in ("", "*") else self._home(home, written.name, seen)
        return inside if self.module(inside) is not None else base

    def _acting_parents(self, name: str) -> Iterator[str]:
        """Packages around a module whose import does more than bind names."""
        while name := name.rpartition(".")[0]:
            module = self.module(name)
            if module is not None and (facts := self.facts(module)) is not None and facts.effects:
                yield name

    def _named_by_words(self, module: _Module, facts: Facts) -> Iterator[str]:
        """Modules that a string names, in a file that imports by computed names."""
        for word in facts.words:
            if word.replace(".", "").isidentifier():
                for name in (word, f"{module.package}.{word}"):
                    if "." in name and self.module(name) is not None:
                        yield name

    def _files_beside(self, module: _Module, facts: Facts) -> dict[str, str]:
        """Files other than Python's that a string names, in a file that reads beside itself."""
        assert module.file is not None
        found: dict[str, str] = {}
        for word in facts.words:
            path = module.file.parent / word
            if not word.startswith("/") and ".." not in word and not word.endswith(".py") and path.is_file():
                found[f"{module.package}:{word}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def facts(self, module: _Module) -> Facts | None:
        """None for a folder without `__init__.py`, and for a file that cannot be read."""
        try:
            return self.sources.facts(module.file, self._top(module)) if module.file is not None else None
        except OSError:
            return None

    def _top(self, module: _Module) -> Path:
        """The folder or file of the top-level module around `module`."""
        top = self.module(module.name.partition(".")[0])
        return Path(top.places[0]) if top is not None and top.places else module.file or Path()

    def module(self, name: str) -> _Module | None:
        """Where `name` lies; None for modules that do not count, and for those that are not found."""
        if name not in self._modules:
            self._modules[name] = self._find(name)
        return self._modules[name]

    def _find(self, name: str) -> _Module | None:
        parent, _, _ = name.rpartition(".")
        if parent:
            around = self.module(parent)
            # The machinery of imports, but for running the package: only its folders are looked through.
            spec = PathFinder.find_spec(name, list(around.places)) if around is not None and around.places else None
        else:
            spec = _top_level(name)
        if spec is None:
            return None
        file = Path(spec.origin) if spec.origin and spec.has_location else None
        places = tuple(spec.submodule_search_locations or ())
        return _Module(name, file, places) if file is not None or places else None


def _absolute(module: _Module, written: Import) -> str | None:
    """The full name of the module in an import statement; None where it leads out of the package."""
    if not written.level:
        return written.module
    package = module.package
    for _ in range(written.level - 1):
        package = package.rpartition(".")[0]
    return ".".join(filter(None, (package, written.module))) if package else None


def _top_level(name: str) -> ModuleSpec | None:
    """The spec of a top-level module of components or under development; None for any other."""
    if name in sys.stdlib_module_names or name == "__main__":
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or name in _installed():
        return spec
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return None if any(_INSTALLED & set(Path(place).parts) for place in places) else spec


@cache
def _closure() -> _Closure:
    closure = _Closure()
    atexit.register(closure.sources.save)
    return closure


@cache
def _installed() -> dict[str, tuple[str, str]]:
    """Top-level modules of distributions that have components and are not editable, with name and version."""
    found: dict[str, tuple[str, str]] = {}
    points: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=GROUP):
        if point.dist is not None:
            points.setdefault(point.dist.name, []).append(point)
    for name, own in points.items():
        distribution = own[0].dist
        if distribution is None or _editable(distribution):
            continue
        tops = {point.module.partition(".")[0] for point in own}
        tops |= {file.parts[0].removesuffix(".py") for file in distribution.files or () if file.suffix == ".py"}
        found |= dict.fromkeys(tops, (name, distribution.version))
    return found


def _editable(distribution: metadata.Distribution) -> bool:
    try:
        about = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(about.get("dir_info", {}).get("editable"))


__all__ = ["CORE", "Code", "code_of", "component_code"]
