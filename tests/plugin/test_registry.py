"""The registry finds plugins of installed distributions, imports them late, and survives broken ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmflow.plugin.component import ComponentError
from mmflow.plugin.registry import Registry

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay a distribution with one plugin module beside its metadata, as an installer does."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def write(distribution: str, module: str, code: str, **files: str) -> Path:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mmflow]\n{distribution} = {module}\n")
        for name, text in {module: code, **files}.items():
            (tmp_path / f"{name}.py").write_text(text)
            made.append(name)
        return tmp_path

    yield write
    for name in made:
        sys.modules.pop(name, None)


HOOK = """
from mmflow.plugin import hookimpl

@hookimpl
def mmflow_components():
    return {components}
"""

LOSS = """
from mmflow.plugin import Loss

class Mine(Loss, name="{name}"):
    def compute(self, a, b):
        return (a - b).square().sum(-1)
"""


def test_a_plugin_of_an_installed_distribution_is_found_and_imported_when_used(install: Install) -> None:
    install(
        "one", "one_plugin", HOOK.format(components={"loss/mine": "one_loss:Mine"}), one_loss=LOSS.format(name="mine")
    )
    registry = Registry.load()
    assert "mine" in registry.names("loss")
    assert "one_loss" not in sys.modules
    assert registry.get("loss", "mine").__name__ == "Mine"
    assert registry.get("loss", "loss/mine@one") is registry.get("loss", "mine")


def test_a_plugin_that_fails_at_import_is_listed_and_harms_nobody(install: Install) -> None:
    install("bad", "bad_plugin", "raise RuntimeError('no luck')")
    registry = Registry.load()
    assert [(b.distribution, b.error) for b in registry.broken] == [("bad", "RuntimeError: no luck")]
    assert registry.get("score", "cosine").use == "cosine"


def test_a_declaration_that_cannot_be_imported_names_its_distribution(install: Install) -> None:
    install("half", "half_plugin", HOOK.format(components={"loss/half": "half_gone:Half"}))
    with pytest.raises(ComponentError, match=r"loss 'half' of half cannot be imported: ModuleNotFoundError"):
        Registry.load().get("loss", "half")


def test_one_name_of_two_distributions_is_refused_with_both_named(install: Install) -> None:
    for name in ("one", "two"):
        components = {"loss/mine": f"{name}_loss:Mine"}
        install(
            name, f"{name}_plugin", HOOK.format(components=components), **{f"{name}_loss": LOSS.format(name="mine")}
        )
    registry = Registry.load()
    with pytest.raises(ComponentError, match="one and two") as caught:
        registry.get("loss", "mine")
    assert caught.value.hint == "write `use: mine@one` to decide"
    assert registry.get("loss", "mine@two").__module__ == "two_loss"


def test_an_unknown_name_comes_with_the_nearest_one() -> None:
    with pytest.raises(ComponentError) as caught:
        Registry.load().get("loss", "infonse")
    assert caught.value.hint == "did you mean 'infonce'?"


def test_a_name_of_another_kind_is_told() -> None:
    with pytest.raises(ComponentError) as caught:
        Registry.load().get("loss", "maxsim")
    assert "'maxsim' is a score" in caught.value.hint


def test_a_class_that_declares_itself_otherwise_is_refused(install: Install) -> None:
    install(
        "off", "off_plugin", HOOK.format(components={"loss/off": "off_loss:Mine"}), off_loss=LOSS.format(name="other")
    )
    with pytest.raises(ComponentError, match="declares itself as loss 'other'"):
        Registry.load().get("loss", "off")


def test_the_plugin_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, mmflow.plugin\n"
        "from mmflow.plugin.registry import registry\n"
        "for r in registry().registrations(): registry().get(r.kind, r.name)\n"
        "heavy = ('torch', 'prefect', 'numpy', 'pandas', 'sklearn', 'matplotlib')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
