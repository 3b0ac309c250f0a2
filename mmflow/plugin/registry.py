"""The registry: component names of every installed plugin, each imported when it is used.

Plugins are found through the entry-point group `mmflow`. A plugin that fails at import, or names something
that is not there, harms only those who use it: it is listed in `broken`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pluggy

from mmflow.plugin.authors import check_code, hook_fault, kind_fault, place_of
from mmflow.plugin.binding import binding
from mmflow.plugin.component import Component, ComponentError, look_up_in, with_article

if TYPE_CHECKING:
    pass

GROUP = "mmflow"


@dataclass(frozen=True)
class Registration:
    """One name of one distribution: `kind/name` stands for the class at `path` (`package.module:Class`)."""

    kind: str
    name: str
    path: str
    distribution: str
    version: str


@dataclass(frozen=True)
class InstalledPlugin:
    """A plugin that could be asked for its components."""

    distribution: str
    version: str
    entry_point: str
    place: str
    """The file of its hooks."""
    components: int


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that could not be asked for its components, and why."""

    distribution: str
    entry_point: str
    error: str


class Registry:
    """Names to component classes. Read-only once built; `load` looks at the installed distributions."""

    def __init__(self) -> None:
        from mmflow.plugin.hooks import Specifications

        self.plugins = pluggy.PluginManager("mmflow")
        self.plugins.add_hookspecs(Specifications)
        self.broken: list[BrokenPlugin] = []
        self.installed: list[InstalledPlugin] = []
        self._names: dict[tuple[str, str], list[Registration]] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self._loaded: dict[str, type[Component]] = {}

    @classmethod
    def load(cls) -> Registry:
        registry = cls()
        for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: (p.dist.name if p.dist else "", p.name)):
            dist = point.dist
            registry.add(point.name, point.load, dist.name if dist else "", dist.version if dist else "")
        return registry

    def add(self, name: str, load: Callable[[], object], distribution: str, version: str) -> None:
        """Register one plugin; `load()` gives the object that carries its hook implementations."""
        try:
            plugin = load()
            # The same module may stand behind two entry points of a namespace: pluggy refuses it twice.
            if self.plugins.is_registered(plugin):
                return
            if fault := hook_fault(plugin):
                self.broken.append(BrokenPlugin(distribution, name, fault))
                return
            self.plugins.register(plugin, name=f"{distribution}:{name}")
            named = 0
            for implementation in self.plugins.hook.mmflow_components.get_hookimpls():
                if implementation.plugin is plugin:
                    components: dict[str, str] = dict(implementation.function())  # type: ignore[arg-type]
                    for key, path in components.items():
                        if fault := kind_fault(*key.split("/", 1)) if "/" in key else "":
                            place = place_of(implementation.function)
                            self.broken.append(BrokenPlugin(distribution, name, f"{fault} ({place})"))
                            continue
                        self._register(key, path, distribution, version)
                        named += 1
            place = str(getattr(plugin, "__file__", None) or type(plugin).__name__)
            self.installed.append(InstalledPlugin(distribution, version, name, place, named))
        except Exception as error:
            self.broken.append(BrokenPlugin(distribution, name, f"{type(error).__name__}: {error}"))

    def _register(self, key: str, path: str, distribution: str, version: str) -> None:
        kind, _, name = key.partition("/")
        module, colon, attribute = path.partition(":")
        if not colon and path.startswith(f"{kind}/") and name:
            self._aliases[kind, name] = path.removeprefix(f"{kind}/")
            return
        if not (kind and name and module and attribute):
            raise ValueError(f"component {key!r} -> {path!r}: expected 'kind/name' -> 'package.module:Class'")
        self._names.setdefault((kind, name), []).append(Registration(kind, name, path, distribution, version))

    def kinds(self) -> list[str]:
        return sorted({kind for kind, _ in self._names})

    def names(self, kind: str) -> list[str]:
        return sorted(name for k, name in self._names if k == kind)

    def registrations(self) -> list[Registration]:
        return [r for key in sorted(self._names) for r in self._names[key]]

    def find(self, kind: str, use: str) -> Registration:
        """The registration behind `use: [kind/]name[@distribution]`; raises `ComponentError`."""
        given_kind, slash, rest = use.partition("/")
        if slash:
            if given_kind != kind:
                one = with_article(kind)
                message = f"{use!r} is {with_article(given_kind)}, not {one}"
                raise ComponentError(message, found=use, expected=f"the name of {one}")
        else:
            rest = use
        name, _, distribution = rest.partition("@")
        candidates = self._names.get((kind, name)) or self._names.get((kind, self._aliases.get((kind, name), "")), [])
        if distribution:
            candidates = [r for r in candidates if r.distribution == distribution]
        if not candidates:
            raise self._unknown(kind, name, distribution)
        if len(candidates) > 1:
            owners = " and ".join(r.distribution for r in candidates)
            raise ComponentError(
                f"two distributions register {kind} {name!r}: {owners}",
                found=name,
                hint=f"write `use: {name}@{candidates[0].distribution}` to decide",
            )
        return candidates[0]

    def get(self, kind: str, use: str) -> type[Component]:
        """The class behind a name, imported now and compared with its declaration; raises `ComponentError`."""
        found = self.find(kind, use)
        if found.path in self._loaded:
            return self._loaded[found.path]
        module, _, attribute = found.path.partition(":")
        try:
            component = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise ComponentError(
                f"{kind} {found.name!r} of {found.distribution} cannot be imported: {type(error).__name__}: {error}",
                found=found.name,
                hint=f"reinstall or fix {found.distribution}; nothing else of it is affected",
            ) from error
        self._loaded[found.path] = check_declaration(component, found)
        return component

    def registration(self, component: Component) -> Registration:
        """The registration of a component's class; raises `ComponentError` where there is none."""
        candidates = self._names.get((component.kind, component.use), [])
        # Two distributions may register one name: the class says which of them is meant.
        found = next((r for r in candidates if self._loaded.get(r.path) is type(component)), None)
        return found or self.find(component.kind, component.use)

    def _unknown(self, kind: str, name: str, distribution: str) -> ComponentError:
        names, name = self.names(kind), name[:80]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        elsewhere = [k for k, n in self._names if n == name and k != kind]
        hint = f"did you mean {close[0]!r}?" if close else ""
        if elsewhere and not close:
            hint = f"{name!r} is {with_article(elsewhere[0])}"
        if self.broken:
            faults = "; ".join(f"{b.distribution or b.entry_point}: {b.error}" for b in self.broken[:3])
            hint = f"{hint} (broken plugins: {faults})".strip()
        where = f" in {distribution}" if distribution else ""
        known = ", ".join(names) or "none installed"
        return ComponentError(f"unknown {kind} {name!r}{where}", found=name, expected=f"one of: {known}", hint=hint)


def check_declaration(component: Any, found: Registration) -> type[Component]:
    """Compare a loaded class with its registration and its method's arguments with its fields."""
    label = f"{found.kind} {found.name!r} of {found.distribution}"
    if not (isinstance(component, type) and issubclass(component, Component)):
        raise ComponentError(f"{label}: {found.path} is not a Component class", found=found.path)
    if component.kind != found.kind or component.use != found.name:
        raise ComponentError(
            f"{label}: {found.path} declares itself as {component.kind} {component.use!r}",
            hint=f'declare it `class {component.__name__}(..., name="{found.name}")`',
        )
    try:
        if component.method and getattr(component, component.method, None) is not None:
            binding(component)
        check_code(component)
    except ComponentError as error:
        raise ComponentError(
            f"{error} (of {found.distribution})", found=error.found, expected=error.expected, hint=error.hint
        ) from None
    return component


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The registry of this environment, built once a process."""
    return Registry.load()


look_up_in(lambda: registry())
