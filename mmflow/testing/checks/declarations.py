"""The checks of every declaration: light, complete, documented, and the same after being written and read."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import get_args, get_origin

from mmflow.plugin import Component
from mmflow.plugin.bounds import LARGEST, LARGEST_FLOAT
from mmflow.plugin.registry import registry
from mmflow.testing.case import example_of
from mmflow.testing.faults import Fault

HEAVY = ("torch", "prefect", "transformers", "timm", "open_clip", "sklearn", "torchvision")


@dataclass(frozen=True)
class DeclarationCase:
    """A registered name."""

    kind: str
    use: str

    @property
    def label(self) -> str:
        return f"{self.kind}/{self.use}"

    @property
    def made(self) -> type[Component]:
        return registry().get(self.kind, self.use)


def check_light(case: DeclarationCase) -> None:
    """Importing the declaration imports nothing heavy: `mmflow check` stays fast."""
    path = registry().find(case.kind, case.use).path
    heavy = _imported(path.partition(":")[0])
    if heavy:
        hint = "import it inside the method, or under `if TYPE_CHECKING`"
        raise Fault(case, f"its declaration imports {', '.join(heavy)}: {hint}")


def check_documented(case: DeclarationCase) -> None:
    """A docstring says what it does; a loss or a score names its source, or is its formula."""
    text = case.made.__dict__.get("__doc__") or ""
    if len(text.split()) < 3:
        raise Fault(case, "no docstring says what it does")
    sourced = any(character.isdigit() for character in text) or "=" in text or "<" in text or "log" in text
    if case.kind in ("loss", "score") and not sourced:
        raise Fault(case, "the docstring names neither a source (with its year) nor a formula")


def check_example(case: DeclarationCase) -> None:
    """`example` is valid; a component without required fields may do without one."""
    required = [name for name, info in case.made.model_fields.items() if info.is_required()]
    if not case.made.example and required:
        raise Fault(case, f"no `example`, though {', '.join(required)} must be given")
    if case.made.example and case.use not in case.made.example:
        raise Fault(case, "its `example` does not use it", found=case.made.example)
    try:
        example_of(case.made)
    except Exception as error:
        raise Fault(case, f"its `example` is not valid: {error}", found=case.made.example) from None


def check_round_trip(case: DeclarationCase) -> None:
    """The declaration that is written out reads back as an equal one, and has a JSON Schema."""
    made = example_of(case.made)
    written = json.loads(json.dumps(made.declared()))
    again = type(made).accept(written) if not isinstance(written, dict) else _read(type(made), written)
    if again != made:
        raise Fault(case, "what is written out reads back as another declaration", found=again, expected=made)
    json.dumps(case.made.model_json_schema(), default=str)


def check_bounded(case: DeclarationCase) -> None:
    """Every number has a bound, or a reason for having none."""
    for name, info in case.made.model_fields.items():
        if not _numbers(info.annotation):
            continue
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("any_number"):
            continue
        huge = (LARGEST * 10**11, LARGEST_FLOAT * 10)
        single = get_origin(info.annotation) not in (tuple, dict)
        values = list(huge) if single else [*([value] for value in huge), *({"a": value} for value in huge)]
        if all(_takes(case.made, info.alias or name, value) for value in values):
            raise Fault(case, f"`{name}` takes any number: give it a bound, or `any_number(because=...)`")


CHECKS = (check_light, check_documented, check_example, check_round_trip, check_bounded)


def _read(made: type[Component], written: dict[str, object]) -> Component:
    return made.model_validate({name: value for name, value in written.items() if name != "use"})


def _takes(made: type[Component], name: str, value: object) -> bool:
    from pydantic import ValidationError

    try:
        made.model_validate({name: value})
    except ValidationError as error:
        return all(raw["loc"][:1] != (name,) for raw in error.errors())
    return True


def _numbers(annotation: object) -> bool:
    return annotation in (int, float) or any(_numbers(part) for part in get_args(annotation))


def _imported(module: str) -> tuple[str, ...]:
    """Heavy modules that importing `module` imports; the modules of a package are tried together, in one process."""
    found = _imported_by(module.split(".")[0])
    return tuple(found.get(module, ()))


@cache
def _imported_by(package: str) -> dict[str, list[str]]:
    paths = {one.path.partition(":")[0] for one in registry().registrations()}
    modules = sorted(path for path in paths if path.split(".")[0] == package)
    code = (
        "import importlib, json, sys\n"
        f"heavy, found, seen = {HEAVY!r}, {{}}, set()\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    found[name] = [h for h in heavy if h in sys.modules and h not in seen]\n"
        "    seen.update(found[name])\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        # Known in this process alone, such as a component of a test.
        return {}
    return json.loads(done.stdout)
