"""`list` and `show` tell what is installed, and of broken plugins why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from mmflow.cli.components import type_in_words
from mmflow.plugin import PositiveFloat, Ref
from mmflow.plugin.kinds import Score
from mmflow.plugin.references import Pooled, RawField, Refs

pytestmark = pytest.mark.process


def test_list_names_every_component_with_its_distribution(mmflow):
    listed = json.loads(mmflow("list", "--json").stdout)
    names = {(c["kind"], c["name"]): c["distribution"] for c in listed["components"]}
    assert names["stage", "train"] == "mmflow-kit"
    assert {("loss", "infonce"), ("encoder", "vit"), ("source", "shapes"), ("stage", "retrieval")} <= set(names)
    assert listed["broken"] == []


def test_list_of_a_kind_tells_the_first_sentence(mmflow):
    done = mmflow("list", "stage")
    assert done.returncode == 0
    assert "Train the encoders that the selected losses reach." in done.stdout


def test_an_unknown_kind_is_one_message(mmflow):
    done = mmflow("list", "encoders")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown kind 'encoders'; expected one of: constraint, encoder,")
    assert len(done.stderr.splitlines()) == 1


def test_plugins_from_outside_are_listed_and_a_broken_one_is_reported(mmflow, plugins: Path):
    done = mmflow("list", path=plugins)
    assert done.returncode == 0, done.stderr
    assert any(line.split()[:3] == ["loss", "gap", "my-plugin"] for line in done.stdout.splitlines())
    assert "sick-plugin (sick): ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in done.stdout
    about = mmflow("show", "sick-plugin", path=plugins)
    assert about.returncode == 0
    assert "a_module_that_nobody_has" in about.stdout


def test_show_tells_fields_defaults_bounds_source_and_example(mmflow):
    text = mmflow("show", "train").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "batch_size integer, at least 1, default 256" in lines
    assert any(line.startswith("data reference to an entry of data or mapping") for line in lines)
    assert "workers integer or null, at least 0 and at most 64, default null, no part of the key" in lines
    assert any(line.startswith("source") and "stage.py:" in line for line in lines)
    assert any(line.startswith("{use: train, data: train") for line in lines)


def test_show_of_a_plugin_component_tells_its_distribution(mmflow, plugins: Path):
    text = mmflow("show", "loss/gap", path=plugins).stdout
    assert "my-plugin 0.1.0" in text
    assert "Distance between the centers of two modalities (Liang et al., 2022), to a power." in text
    assert "power        number, above 0, default 2" in text


def test_an_unknown_name_gets_the_nearest(mmflow):
    done = mmflow("show", "infonec")
    assert done.returncode == 2
    assert "did you mean 'infonce'" in done.stderr


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (PositiveFloat | None, "number above 0 or null"),
        (Literal["a", "b"], "one of: a, b"),
        (tuple[str, ...], "list of text"),
        (tuple[int, float], "[integer, number]"),
        (dict[str, Score], "mapping of score"),
        (Ref[Pooled], "reference to an encoder (its pooled vector)"),
        (Refs[Pooled | RawField], "list of reference to an encoder (its pooled vector) or a field or a view"),
    ],
)
def test_types_are_told_in_words(annotation: object, words: str):
    assert type_in_words(annotation) == words
