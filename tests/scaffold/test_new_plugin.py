"""`mmflow new plugin` and `mmflow new KIND`: the written files are installed, pass their own tests and train."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmflow.plugin import ComponentError
from mmflow.scaffold.components import kinds
from mmflow.scaffold.plugins import new_component, new_plugin
from tests.installed import installed, run

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new plugin with one more component of each kind."""
    folder = tmp_path_factory.mktemp("new") / "my-parts"
    new_plugin("my-parts", folder)
    for kind in kinds():
        assert new_component(kind, f"own_{kind}", folder)[1] == ""
    return folder


@pytest.fixture(scope="module")
def environment(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return installed(plugin, tmp_path_factory.mktemp("installed"))


def test_its_components_are_listed(environment: dict[str, str], tmp_path: Path) -> None:
    listed = run(environment, "mmflow", "list", at=tmp_path)
    assert "BROKEN" not in listed
    assert all(f"own_{kind}" in listed for kind in kinds())
    assert "my-parts" in run(environment, "mmflow", "plugins", at=tmp_path)


def test_its_own_tests_pass(environment: dict[str, str], plugin: Path, tmp_path: Path) -> None:
    said = run(environment, "pytest", "-q", "-p", "no:cacheprovider", str(plugin / "tests"), at=tmp_path)
    assert " passed" in said
    assert "failed" not in said


def test_its_spec_trains_with_it(environment: dict[str, str], plugin: Path, tmp_path: Path) -> None:
    spec = str(plugin / "spec.yaml")
    run(environment, "mmflow", "check", spec, "--shapes", at=tmp_path)
    printed = run(environment, "mmflow", "run", spec, "--local", "--store", str(tmp_path / "store"), at=tmp_path)
    assert "image length" in printed


def test_all_of_it_stands_in_one_spec(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(
        """
mmflow: 1
name: all-of-it
track: [{use: own_tracker, path: followed.txt}]
data:
  rows: {use: own_source, size: 48}
views:
  shaken: {of: point, apply: [{use: own_transform, by: 0.1}]}
encoders:
  a: {use: own_encoder, of: shaken, dim: 8}
  b: {use: linear, of: point, dim: 8, constrain: own_constraint}
memories:
  mean: {use: own_memory, of: b}
losses:
  near: {use: own_loss, of: [a, b]}
  apart: {use: infonce, of: [a, b], score: own_score, temperature: {use: own_value, start: 2, end: 1}, negatives: mean}
train: {data: rows, steps: 4, batch_size: 12, sampler: own_sampler, optimizer: {use: own_optimizer}}
eval:
  length: {use: own_evaluator, data: rows, of: [a, b]}
  column: {use: own_stage, data: rows, of: a, model: train}
"""
    )
    run(environment, "mmflow", "run", "all.yaml", "--local", "--workers", "0", at=tmp_path)
    assert "length a_length" in (tmp_path / "followed.txt").read_text()


@pytest.mark.parametrize(
    "hook",
    [
        'return {"loss/one": "my_parts.one:One"}',
        'return {\n        "loss/one": "my_parts.one:One"\n    }',
        'return {\n        "loss/one": "my_parts.one:One",  # one\n    }',
        "return {}",
    ],
)
def test_a_component_is_added_to_a_hook_however_it_is_written(tmp_path: Path, hook: str) -> None:
    new_plugin("my-parts", tmp_path / "p")
    init = tmp_path / "p" / "my_parts" / "__init__.py"
    init.write_text(f"def mmflow_components():\n    {hook}\n")
    new_component("loss", "two", tmp_path / "p")
    found: dict[str, object] = {}
    exec(init.read_text(), found)
    named = found["mmflow_components"]()  # type: ignore[operator]
    assert named["loss/two"] == "my_parts.two:Two"
    assert len(named) == (1 if hook == "return {}" else 2)


def test_a_hook_that_is_no_plain_mapping_is_left_alone_and_the_line_is_said(tmp_path: Path) -> None:
    new_plugin("my-parts", tmp_path / "p")
    init = tmp_path / "p" / "my_parts" / "__init__.py"
    init.write_text("def mmflow_components():\n    return dict(named())\n")
    path, line = new_component("score", "two", tmp_path / "p")
    assert path.is_file()
    assert line == '"score/two": "my_parts.two:Two",'
    assert init.read_text() == "def mmflow_components():\n    return dict(named())\n"


def test_names_that_cannot_be_and_places_that_are_taken_are_refused(tmp_path: Path) -> None:
    for name in ("Mine", "my parts", "class", "1st", "-x"):
        with pytest.raises(ComponentError, match="cannot be the name of a plugin"):
            new_plugin(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    new_plugin("mine", tmp_path / "x")
    with pytest.raises(ComponentError, match="is there already"):
        new_plugin("mine", tmp_path / "x")
    new_component("loss", "two", tmp_path / "x")
    with pytest.raises(ComponentError, match="is there already"):
        new_component("loss", "two", tmp_path / "x")
    with pytest.raises(ComponentError, match="cannot be the name of a component"):
        new_component("loss", "Two-x", tmp_path / "x")
    with pytest.raises(ComponentError, match="no plugin"):
        new_component("loss", "two", tmp_path)
