"""Edits of installed code: what must run again has another key, and nothing else has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.process

EVERY = {"plain", "fit", "retrieval", "geometry", "count"}
AFTER_FIT = {"fit", "retrieval", "geometry"}


def put(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        return text.replace(old, new)

    return change


def added(line: str) -> Callable[[str], str]:
    return lambda text: text + line + "\n"


EDITS = {
    "a helper of the parent package": ("plugin/lab/scale.py", put("2.0", "3.0"), AFTER_FIT),
    "a module that a method imports": ("plugin/lab/shift.py", put("0.0", "1.0"), AFTER_FIT),
    "a constant in another package": ("plugin/lab_tables/limits.py", put("9.0", "8.0"), AFTER_FIT),
    "the component itself": ("plugin/lab/losses/gap.py", put(".square()", ".abs()"), AFTER_FIT),
    "a file that a module reads beside itself": ("plugin/lab/stages/steps.txt", added("two"), {"count"}),
    "another component of the folder, imported for types": (
        "plugin/lab/losses/other.py", put("1.0", "5.0"), set(),
    ),
    "a constant that its package passes on and nobody uses": (
        "plugin/lab_tables/unused.py", put("0", "1"), set(),
    ),
    "a new file in the folder": ("plugin/lab/losses/new.py", added("X = 1"), set()),
    "a new component of the package": (
        "plugin/lab/__init__.py", put('"loss/lab_other"', '"loss/lab_more": "lab.losses.other:More", "loss/lab_other"'),
        set(),
    ),
    "a docstring": ("plugin/lab/losses/gap.py", put("Squared distance", "The distance"), set()),
    "a comment and blank lines": ("plugin/lab/scale.py", put("\n\n\n", "  # twice\n\n\n\n"), set()),
    "an import for type checkers": ("plugin/lab/losses/gap.py", put("import Other", "import Other, WEIGHT"), set()),
    "values of the core's plugin room": (
        "core/mmflow/plugin/values.py", added("_CHANGED = 1"), EVERY,
    ),
    "the step": ("core/mmflow/train/step.py", added("_CHANGED = 1"), EVERY),
    "the harness of evaluators": (
        "core/mmflow/evaluate/harness.py", added("_CHANGED = 1"), {"retrieval", "geometry", "count"},
    ),
    "a kernel that the losses use": ("core/mmflow/kernels/contrast/softmax/chunked.py", added("_CHANGED = 1"), EVERY),
    "a comment in a kernel that nobody uses": ("core/mmflow/kernels/dtw/chunked.py", added("# more"), set()),
    "a kernel that nobody uses": ("core/mmflow/kernels/dtw/chunked.py", added("_CHANGED = 1"), set()),
    "a helper of two evaluators": (
        "core/plugins/mmflow_evaluators/declared.py", added("_CHANGED = 1"), {"retrieval", "geometry"},
    ),
    "how a modality joins rows": ("core/mmflow/plugin/modalities.py", added("_CHANGED = 1"), EVERY),
    "the report": ("core/mmflow/flow/report/page.py", added("_CHANGED = 1"), set()),
    "the language": ("core/mmflow/spec/load.py", added("_CHANGED = 1"), set()),
}  # fmt: skip


@pytest.fixture(scope="module")
def before(laboratory) -> dict[str, str]:
    return laboratory.keys()


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_keys_of_what_it_can_change(laboratory, before: dict[str, str], edit: str):
    path, change, expected = EDITS[edit]
    with laboratory.edited(laboratory.folder / path, change):
        after = laboratory.keys()
    assert {name for name in before if after[name] != before[name]} == expected


def test_keys_come_back_with_the_text(laboratory, before: dict[str, str]):
    assert laboratory.keys() == before


def test_an_installed_plugin_counts_by_its_version(laboratory, before: dict[str, str]):
    try:
        laboratory.install(str(laboratory.plugin))
        installed = laboratory.keys()
        assert {name for name in before if installed[name] != before[name]} == AFTER_FIT | {"count"}
        # What lies in the folder is not what is installed.
        with laboratory.edited(laboratory.plugin / "lab" / "scale.py", put("2.0", "3.0")):
            assert laboratory.keys() == installed
        with laboratory.edited(laboratory.plugin / "pyproject.toml", put('version = "1.0"', 'version = "1.1"')):
            laboratory.install(str(laboratory.plugin))
        newer = laboratory.keys()
        assert {name for name in before if newer[name] != installed[name]} == AFTER_FIT | {"count"}
        # The core that the plugin imports is still under development.
        with laboratory.edited(laboratory.core / "mmflow/plugin/values.py", added("_CHANGED = 1")):
            assert all(key != newer[name] for name, key in laboratory.keys().items())
    finally:
        laboratory.install("-e", str(laboratory.plugin))
    assert laboratory.keys() == before


def test_an_installed_core_counts_by_its_version(laboratory, before: dict[str, str]):
    try:
        laboratory.install(str(laboratory.core))
        installed = laboratory.keys()
        assert all(key != before[name] for name, key in installed.items())
        with laboratory.edited(laboratory.core / "mmflow/plugin/values.py", added("_CHANGED = 1")):
            assert laboratory.keys() == installed
        with laboratory.edited(laboratory.plugin / "lab" / "scale.py", put("2.0", "3.0")):
            after = laboratory.keys()
        assert {name for name in before if after[name] != installed[name]} == AFTER_FIT
    finally:
        laboratory.install("-e", str(laboratory.core))
