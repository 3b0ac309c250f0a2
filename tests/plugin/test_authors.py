"""Mistakes of plugin authors: one message that names class, file and line, and the likely fix."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmflow.data import Loader
from mmflow.plugin import ComponentError, Source, TensorType
from mmflow.plugin.registry import Registry, registry
from mmflow.plugin.samples import SampleError

Install = Callable[[str, str], Registry]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A registry with one plugin: the module that carries its hooks, and the module `parts` with its components."""
    monkeypatch.syspath_prepend(tmp_path)
    made = ["faulty_plugin", "faulty_parts"]

    def write(hooks: str, parts: str = "") -> Registry:
        for name, text in zip(made, (hooks, parts), strict=True):
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        found = Registry()
        found.add("faulty", lambda: __import__("faulty_plugin"), "faulty-kit", "1.0")
        return found

    yield write
    for name in made:
        sys.modules.pop(name, None)


HOOKS = [
    ("def mmflow_components():\n    return {}\n",
     ["mmflow_components", "faulty_plugin.py:1", "is not marked", "@hookimpl"]),
    ("def mmflow_stage_started(run):\n    pass\n", ["mmflow_stage_started", "faulty_plugin.py:1", "is not marked"]),
    ("from mmflow.plugin import hookimpl\n\n\n@hookimpl\ndef mmflow_component():\n    return {}\n",
     ["no hook mmflow_component ", "faulty_plugin.py:4", "did you mean mmflow_components?"]),
    ("from mmflow.plugin import hookimpl\n\n\n@hookimpl\ndef mmflow_stage_start(run):\n    pass\n",
     ["no hook mmflow_stage_start ", "did you mean mmflow_stage_started?"]),
    ("COMPONENTS = {}\n", ["faulty_plugin.py:1", "has no hook", "@hookimpl"]),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words"), HOOKS)
def test_a_plugin_whose_hooks_are_wrong_is_listed_with_file_line_and_fix(
    code: str, words: list[str], install: Install
) -> None:
    (broken,) = install(code, "").broken
    assert broken.distribution == "faulty-kit"
    assert all(word in broken.error for word in words), broken.error


@pytest.mark.parametrize(
    ("key", "fix"),
    [("evaluator/spread", "stage/spread"), ("dataset/mine", "source/mine"), ("losses/gap", "loss/gap")],
)
def test_a_kind_that_does_not_exist_is_listed_and_the_rest_of_the_plugin_works(
    key: str, fix: str, install: Install
) -> None:
    hook = (
        "from mmflow.plugin import hookimpl\n\n\n@hookimpl\ndef mmflow_components():\n"
        f"    return {{'{key}': 'faulty_parts:X', 'loss/good': 'faulty_parts:Good'}}\n"
    )
    found = install(hook, "from mmflow.plugin import Loss\n\n\nclass Good(Loss, name='good'):\n    pass\n")
    (broken,) = found.broken
    assert f"write {fix}" in broken.error
    assert "faulty_plugin.py:4" in broken.error
    assert found.get("loss", "good").use == "good"


def test_a_plugin_may_open_a_kind_of_its_own(install: Install) -> None:
    hook = (
        "from mmflow.plugin import hookimpl\n\n\n@hookimpl\ndef mmflow_components():\n"
        "    return {'assignment/own': 'faulty_parts:Own'}\n"
    )
    assert install(hook, "").broken == []


HOOK = """from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components():
    return {{'{key}': 'faulty_parts:X'}}
"""


def _code(kind: str, method: str, result: str) -> str:
    opened = f"from mmflow.plugin import {kind}\n\n\nclass X({kind}, name='x'):\n"
    return f"{opened}    def {method}:\n        return {result}\n"


DICT = ["evaluate() of X", "faulty_parts.py:5", "a dict", "EvaluationResult"]
FLOAT = ["compute() of X", "faulty_parts.py:5", "a float", "a tensor"]
CODE = [
    ("stage/x", _code("Evaluator", "evaluate(self, a)", "{'score': 1.0}"), DICT),
    ("stage/x", _code("Evaluator", "evaluate(self, a)", "{name: 1.0 for name in a}"), DICT),
    ("stage/x", _code("Evaluator", "evaluate(self, a) -> dict[str, float]", "self.made(a)"), DICT),
    ("loss/x", _code("Loss", "compute(self, a)", "float(a.mean())"), FLOAT),
    ("loss/x", _code("Loss", "compute(self, a)", "a.mean().item()"), FLOAT),
    ("loss/x", _code("Loss", "compute(self, a, model)", "a.mean()"), ["`model`", "reserved", "a loss may ask for"]),
    ("encoder/x", _code("Encoder", "apply(self, a, *, ids)", "a"), ["`ids`", "reserved for list of str"]),
    ("encoder/x", _code("Encoder", "build(self, image)", "None"),
     ["build() of X", "faulty_parts.py:5", "lacks the argument `state`"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "code", "words"), CODE)
def test_code_that_cannot_work_is_told_when_the_component_is_loaded(
    key: str, code: str, words: list[str], install: Install
) -> None:
    found = install(HOOK.format(key=key), code)
    with pytest.raises(ComponentError) as refused:
        found.get(*key.split("/"))
    said = " ".join((str(refused.value), refused.value.expected, refused.value.hint))
    assert all(word in said for word in words), said


class OpenFile:
    """A reader that holds an open file."""

    def __init__(self) -> None:
        self.file = Path(__file__).open()  # noqa: SIM115

    def __len__(self) -> int:
        return 4

    def id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"label": index}


class Holding(OpenFile):
    """A reader that holds a function made on the spot."""

    def __init__(self) -> None:
        self.read_one = lambda index: index


class Kept(Source, name="kept_open"):
    how: str = "file"

    def fields(self) -> dict[str, TensorType]:
        return {"label": TensorType("label", dtype="int64")}

    def open(self) -> OpenFile:
        return OpenFile() if self.how == "file" else Holding()


@pytest.mark.parametrize(("how", "name"), [("file", "OpenFile"), ("function", "Holding")])
def test_a_reader_that_cannot_travel_is_refused_before_a_worker_starts(how: str, name: str) -> None:
    loader = Loader(Kept(how=how), {}, [], sampler=_sequential(), batch_size=2, seed=0, workers=1)
    with pytest.raises(SampleError) as refused, loader:
        next(loader.epoch(0))
    assert name in str(refused.value)
    assert f"{__file__}:" in str(refused.value)
    assert loader.worker_pids() == []


def _sequential() -> Any:
    return registry().get("sampler", "sequential")()
