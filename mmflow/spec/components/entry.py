"""A named part of a spec with the place where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import View
from mmflow.plugin.targets import Owner
from mmflow.spec.text.document import Node
from mmflow.spec.text.problems import Parts, Path, Problem


@dataclass(frozen=True)
class Entry:
    """A named part of a spec: where it stands, what is written there, and its component once that is valid."""

    section: str
    name: str
    path: Path
    node: Node
    component: Component | View | None = None
    own: tuple[str, ...] = ()
    """Of an entry that a stage carries: the fields that are written there."""

    @property
    def owner(self) -> Owner:
        return Owner(self.section, self.name)

    def problem(self, message: str, path: Path = (), *, key: bool = False, **parts: Unpack[Parts]) -> Problem:
        return self.node.problem(message, self.path, path, key=key, **parts)
