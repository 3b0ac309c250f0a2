"""Random specs with one mistake each: `mmflow check` says it with file, line and exit code 2, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mmflow.cli.app import app
from mmflow.spec import SpecError, load_text
from mmflow.spec.text.yaml_writer import write_yaml
from tests.random_specs.composition import compose
from tests.random_specs.files import Files, write
from tests.random_specs.mistakes import MISTAKES, Nowhere, Plant, planted

pytestmark = pytest.mark.slow

SPECS = 24
"""Specs that carry each mistake."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Random specs that `check` accepts."""
    files: Files = write(tmp_path_factory.mktemp("mistakes") / "files")
    found: list[dict[str, Any]] = []
    number = 0
    while len(found) < SPECS:
        text = compose(number, files).text
        number += 1
        try:
            load_text(text)
        except SpecError:
            continue
        found.append(yaml.safe_load(text))
    return found


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_told_with_its_line(mistake: Plant, sound: list[dict[str, Any]], tmp_path: Path) -> None:
    random, tried, path = Random(mistake.__name__), Counter[str](), tmp_path / "spec.yaml"
    for spec in sound:
        try:
            changed = planted(spec, mistake, random)
        except Nowhere:
            continue
        path.write_text(write_yaml(changed))
        result = CliRunner().invoke(app, ["check", str(path)])
        said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert result.exit_code == 2, f"{path.read_text()}\n{result.output}"
        assert said, result.stderr
        for line in said:
            assert re.match(rf"error: {re.escape(str(path))}:[1-9]\d*:", line), f"{path.read_text()}\n{line}"
        assert "Traceback" not in result.output
        tried["one message" if len(said) == 1 else f"{len(said)} messages"] += 1
    assert tried.total() >= 3, "hardly any spec has a place for it"
    assert tried["one message"] >= 0.8 * tried.total(), tried
