"""Which modules a closure has: small packages on the import path, never imported."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmflow.identity.closure import code_of
from mmflow.identity.source import read_facts

_numbers = itertools.count()
Reached = Callable[..., set[str]]


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reached:
    """Writes a package `pkg` of the given files and tells which of its modules `root` reaches."""

    def reached(root: str, files: dict[str, str]) -> set[str]:
        # A name of its own each time: what a process has found is kept.
        name = f"pkg{next(_numbers)}"
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("pkg", name))
        monkeypatch.syspath_prepend(tmp_path)
        found = code_of(f"{name}.{root}").sources
        assert name not in sys.modules, "the package has been imported"
        return {module.removeprefix(f"{name}.").removeprefix(f"{name}:") for module in found}

    return reached


LEAVES = {"a.py": "A = 1", "b.py": "B = 2", "c.py": "C = 3"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from pkg.a import A", {"a"}),
        ("from .a import A", {"a"}),
        ("from . import a, b", {"a", "b"}),
        ("import pkg.a", {"a"}),
        ("import pkg.a as other", {"a"}),
        ("def f():\n    from pkg import a", {"a"}),
        ("try:\n    from pkg import a\nexcept ImportError:\n    from pkg import b", {"a", "b"}),
        ("if TYPE_CHECKING:\n    from pkg import a\nelse:\n    from pkg import b", {"b"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    from pkg import a", set()),
        ("from importlib import import_module\nimport_module('pkg.a')", {"a"}),
        ("import importlib\nimportlib.import_module('.a', __package__)", {"a"}),
        ("import importlib\nfor n in ('a', 'b'):\n    importlib.import_module(f'{__package__}.{n}')", {"a", "b"}),
        ("import numpy, torch, json", set()),
        ("from pkg.nowhere import X", set()),
    ],
)  # fmt: skip
def test_every_way_to_import_a_module(reached: Reached, text: str, expected: set[str]):
    assert reached("root", {**LEAVES, "root.py": text}) == {"root", *expected}


def test_a_name_that_packages_pass_on_leads_to_the_module_that_defines_it(reached: Reached):
    files = {
        "inner/__init__.py": "from .deep import X\nfrom .other import Y",
        "inner/deep.py": "X = 1",
        "inner/other.py": "Y = 2",
        "outer/__init__.py": "from pkg.inner import X as Z, Y",
        "root.py": "from pkg.outer import Z",
    }
    assert reached("root", files) == {"root", "inner.deep"}


def test_a_lazy_package_is_read_through_its_imports_for_type_checkers(reached: Reached):
    lazy = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .a import A\n    from .b import B\n"
        "def __getattr__(name):\n    raise AttributeError\n"
    )
    files = {"lazy/__init__.py": lazy, "lazy/a.py": "A = 1", "lazy/b.py": "B = 2"}
    assert reached("root", {**files, "root.py": "from pkg.lazy import A"}) == {"root", "lazy.a"}
    whole = reached("root", {**files, "root.py": "import pkg.lazy as lazy"})
    assert whole == {"root", "lazy", "lazy.a", "lazy.b"}


def test_a_name_that_a_package_defines_itself_brings_the_package(reached: Reached):
    files = {
        "inner/__init__.py": "from .a import A\nX = 1",
        "inner/a.py": "A = 1",
        "root.py": "from pkg.inner import X",
    }
    assert reached("root", files) == {"root", "inner", "inner.a"}
    assert reached("root", {**files, "root.py": "from pkg.inner import *"}) == {"root", "inner", "inner.a"}


def test_a_package_that_acts_when_it_is_imported_is_part_of_what_lies_in_it(reached: Reached):
    files = {"inner/a.py": "A = 1", "root.py": "from pkg.inner.a import A"}
    quiet = '"""Text."""\nfrom x import y\nN = 1\ndef f():\n    g()\nclass C:\n    pass\n'
    assert reached("root", {**files, "inner/__init__.py": quiet}) == {"root", "inner.a"}
    for acting in ("f()", "import x\nx.y = 1", "if True:\n    f()", "@registered\ndef f(): pass"):
        assert reached("root", {**files, "inner/__init__.py": acting}) == {"root", "inner.a", "inner"}, acting


def test_modules_that_import_each_other_end(reached: Reached):
    files = {"root.py": "from pkg.a import A", "a.py": "from pkg.root import R", "inner/__init__.py": "from . import x"}
    assert reached("root", files) == {"root", "a"}
    assert reached("root", {**files, "root.py": "from pkg.inner import x"}) == {"root", "inner"}


def test_files_beside_a_module(reached: Reached):
    files = {
        "data/words.txt": "a b",
        "root.py": "from pathlib import Path\nW = Path(__file__).parent / 'data/words.txt'",
    }
    assert reached("root", files) == {"root", "data/words.txt"}


SAME = [
    ("x = 1", "x = 1  # one\n\n\n"),
    ("x = f(1, 2)", "x = f(\n    1,\n    2,\n)"),
    ("def f():\n    return 1", 'def f():\n    """Text."""\n    return 1'),
    ('class C:\n    x: int = 1\n    """Text."""', "class C:\n    x: int = 1"),
    ("s = 'ab'", 's = "a" "b"'),
    ("x = (1)", "x = 1"),
    ("if TYPE_CHECKING:\n    import a\nx = 1", "x = 1"),
]
OTHER = [
    ("x = 1", "x = 2"),
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = True"),
    ("x = 1", "x = '1'"),
    ("x = 0.1", "x = 0.10000000000000002"),
    ("x = a.b", "x = a.c"),
    ("f(a, b)", "f(b, a)"),
    ("f(a)(b)", "f(a, b)"),
    ("x: int = 1", "x: float = 1"),
    ("if a:\n    b\nelse:\n    c", "if a:\n    c\nelse:\n    b"),
    ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
    ("def f(a, b=1): pass", "def f(a=1, b=1): pass"),
    ("def f(*, a): pass", "def f(a): pass"),
    ("x = f'{a!r}'", "x = f'{a!s}'"),
    ("x = None", "x = ..."),
    ("lambda: 0", "lambda: 1"),
]


def digest(text: str) -> str:
    return read_facts(text.encode()).digest


@pytest.mark.parametrize(("one", "two"), SAME)
def test_what_does_not_run_is_no_part_of_the_hash(one: str, two: str):
    assert digest(one) == digest(two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_what_runs_is_part_of_the_hash(one: str, two: str):
    assert digest(one) != digest(two)


def test_deep_code_and_broken_code_have_a_hash():
    assert digest("x = " + " + ".join(["a"] * 900)) != digest("x = " + " + ".join(["a"] * 901))
    assert digest("x = (") != digest("x = ((")
    assert read_facts(b"\x7fELF\0").imports == ()
