"""`mmflow show KIND`, `show NAME --source` and `mmflow plugins`."""

from __future__ import annotations

import json

import pytest

from mmflow.cli.contracts import contract, is_kind
from mmflow.plugin.binding import RULES
from mmflow.plugin.registry import registry
from mmflow.scaffold.components import kinds


@pytest.mark.parametrize("kind", [*registry().kinds(), "evaluator"])
def test_every_kind_tells_what_to_write(kind: str) -> None:
    assert is_kind(kind)
    made = contract(kind)
    assert made.doc
    assert made.methods
    text = made.text()
    assert f'"{made.registered}/my_{kind}"' in text
    if kind in kinds():
        assert f"mmflow new {kind}" in text
        assert f'name="my_{kind}"' in made.smallest
    if kind in RULES and made.method:
        assert set(made.requests) == set(RULES[kind].requests)


def test_what_a_component_must_write_is_told_apart() -> None:
    methods = {method.name: method.required for method in contract("memory").methods}
    assert methods["initial"]
    assert methods["read"]
    assert not methods["entries"]


def test_the_commands(mmflow) -> None:
    said = mmflow("show", "loss").stdout
    assert "arguments that compute may ask for by name" in said
    assert "class MyLoss(Loss" in said
    code = mmflow("show", "loss/alignment", "--source").stdout
    assert 'class Alignment(Loss, name="alignment")' in code
    assert "def compute" in code
    listed = mmflow("list").stdout
    assert "Distance of matched vectors to a power" in listed
    found = json.loads(mmflow("plugins", "--json").stdout)
    assert found["broken"] == []
    assert {"objectives", "scores"} <= {plugin["plugin"] for plugin in found["plugins"]}
    assert all(plugin["components"] > 0 for plugin in found["plugins"] if plugin["plugin"] != "testing")
