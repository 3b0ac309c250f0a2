"""A fresh process for each command, and plugin packages built and installed with pip away from this environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SICK = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "sick-plugin"
version = "0.2.0"

[project.entry-points.mmflow]
sick = "sick_plugin"

[tool.hatch.build.targets.wheel]
include = ["sick_plugin.py"]
""",
    "sick_plugin.py": "import a_module_that_nobody_has\n",
}

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def block(page: str, title: str) -> str:
    """The code block of a page that begins with the comment `# title`."""
    blocks = re.findall(r"```\w+\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [text for text in blocks if text.startswith(f"# {title}\n")]
    assert found, f"{page} has no block that begins with `# {title}`"
    return found[0]


def write_package(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH with the plugins of the documents and one that fails at import, installed by pip."""
    root = tmp_path_factory.mktemp("packages")
    gap = {name: block("README.md", name) for name in ("pyproject.toml", "my_plugin.py")}
    spread = {name: block("docs/plugins.md", name) for name in ("my_measures/__init__.py", "my_measures/spread.py")}
    spread["pyproject.toml"] = block("docs/plugins.md", "pyproject.toml of my-measures")
    packages = [
        write_package(root / "my-plugin", gap),
        write_package(root / "my-measures", spread),
        write_package(root / "sick-plugin", SICK),
    ]
    target = root / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, packages)], check=True)
    return target


@pytest.fixture
def mmflow(tmp_path: Path) -> Command:
    """Run `mmflow ARGUMENTS` in a fresh process in an empty directory; `path` is put before the import path."""

    def command(*arguments: str, path: Path | None = None, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MMFLOW_", "PREFECT_"))}
        environment |= {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(path)} if path else {})
        return subprocess.run(
            [sys.executable, "-m", "mmflow", *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )

    return command
