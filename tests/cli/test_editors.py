"""`mmflow schema --install`: the schema and the settings of VS Code, and the line that shipped specs carry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmflow.cli.app import app
from mmflow.cli.editors import MATCH, install_schema

ROOT = Path(__file__).parents[2]
NAME = "./.vscode/mmflow.schema.json"
SCHEMA = {"type": "object"}


def settings(project: Path) -> Path:
    return project / ".vscode" / "settings.json"


def write(project: Path, text: str) -> str:
    settings(project).parent.mkdir()
    settings(project).write_text(text)
    return text


def test_a_project_without_settings(tmp_path: Path) -> None:
    written = install_schema(SCHEMA, tmp_path)
    assert written == [tmp_path / ".vscode" / "mmflow.schema.json", settings(tmp_path)]
    assert json.loads(written[0].read_text()) == SCHEMA
    assert json.loads(settings(tmp_path).read_text()) == {"yaml.schemas": {NAME: list(MATCH)}}


def test_other_settings_and_their_layout_stay(tmp_path: Path) -> None:
    write(tmp_path, '{\n  "editor.rulers": [120],\n  "yaml.schemas": {"other.json": "a/*.yaml"},\n  "é": null\n}\n')
    install_schema(SCHEMA, tmp_path, ["experiments/*.yaml"])
    assert settings(tmp_path).read_text().startswith('{\n  "editor.rulers": [\n    120\n  ],\n  "yaml.schemas"')
    assert json.loads(settings(tmp_path).read_text()) == {
        "editor.rulers": [120],
        "yaml.schemas": {"other.json": "a/*.yaml", NAME: ["experiments/*.yaml"]},
        "é": None,
    }


def test_files_that_were_chosen_stay(tmp_path: Path) -> None:
    text = write(tmp_path, json.dumps({"yaml.schemas": {NAME: ["mine/*.yaml"]}}))
    assert install_schema(SCHEMA, tmp_path) == [tmp_path / ".vscode" / "mmflow.schema.json"]
    assert settings(tmp_path).read_text() == text


@pytest.mark.parametrize(
    "text", ['{\n  // rulers\n  "editor.rulers": [120],\n}\n', "[]", '{"yaml.schemas": ["a"]}'], ids=str.split
)
def test_settings_that_would_be_harmed_are_left_with_what_to_add(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    done = CliRunner().invoke(app, ["schema", "--install", "--at", str(tmp_path)])
    assert done.exit_code == 2
    assert "it stays as it is" in done.stderr
    assert f'"yaml.schemas": {{"{NAME}": ["spec.yaml", ' in done.stderr
    assert done.stderr.count("\n") == 1
    assert settings(tmp_path).read_text() == text
    assert "$defs" in json.loads((tmp_path / ".vscode" / "mmflow.schema.json").read_text())
    assert {path.name for path in settings(tmp_path).parent.iterdir()} == {"settings.json", "mmflow.schema.json"}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["schema", "--install", "--at", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "is no folder" in done.stderr


SPECS = [*sorted((ROOT / "specs").rglob("*.yaml")), *sorted((ROOT / "examples").rglob("*.yaml"))]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_that_ships_names_its_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    start = "# yaml-language-server: $schema="
    assert first.startswith(start)
    assert (path.parent / first.removeprefix(start)).resolve() == ROOT / ".vscode" / "mmflow.schema.json"
