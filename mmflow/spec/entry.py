"""A named part of a spec with the place where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmflow.plugin.component import Component
from mmflow.plugin.kinds import View
from mmflow.spec.document import Node
from mmflow.spec.problems import Path, Problem


@dataclass(frozen=True)
class Entry:
    """A named part of a spec: where it stands, what is written there, and its component once that is valid."""

    section: str
    name: str
    path: Path
    node: Node
    component: Component | View | None = None

    @property
    def owner(self) -> str:
        return f"{self.section}.{self.name}"

    def problem(self, message: str, path: Path = (), *, key: bool = False, **parts: Any) -> Problem:
        return self.node.problem(message, self.path, path, key=key, **parts)
