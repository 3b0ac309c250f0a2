"""An environment of its own with a copy of mmflow and a small plugin, both installed by pip, whose files are edited."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "lab-plugin"
version = "1.0"

[project.entry-points.mmflow]
lab = "lab"

[tool.hatch.build.targets.wheel]
packages = ["lab", "lab_tables"]

[tool.hatch.build]
dev-mode-dirs = ["."]
""",
    "lab/__init__.py": '''
"""A laboratory's components."""
from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components():
    return {
        "loss/lab_gap": "lab.losses.gap:Gap",
        "loss/lab_other": "lab.losses.other:Other",
        "stage/lab_count": "lab.stages.count:Count",
    }
''',
    "lab/scale.py": "FACTOR = 2.0\n\n\ndef scaled(value):\n    return FACTOR * value\n",
    "lab/losses/__init__.py": "",
    "lab/losses/gap.py": '''
from __future__ import annotations

from typing import TYPE_CHECKING

from lab_tables import LIMIT
from mmflow.plugin import Loss

from ..scale import scaled

if TYPE_CHECKING:
    from .other import Other


class Gap(Loss, name="lab_gap"):
    """Squared distance of the means."""

    def compute(self, a, b):
        from lab.shift import SHIFT

        return scaled((a.mean(0) - b.mean(0)).square().sum()).clamp(max=LIMIT) + SHIFT
''',
    "lab/losses/other.py": '''
from mmflow.plugin import Loss

WEIGHT = 1.0


class Other(Loss, name="lab_other"):
    """Mean of a."""

    def compute(self, a):
        return WEIGHT * a.mean()
''',
    "lab/shift.py": "SHIFT = 0.0\n",
    "lab/stages/count.py": '''
from pathlib import Path

from mmflow.plugin import EvaluationResult, Evaluator, Metric


class Count(Evaluator, name="lab_count"):
    """Counts rows."""

    def evaluate(self, a):
        steps = (Path(__file__).parent / "steps.txt").read_text()
        return EvaluationResult([Metric("rows", float(len(a)) * len(steps))])
''',
    "lab/stages/steps.txt": "one",
    "lab_tables/__init__.py": "from .limits import LIMIT\nfrom .unused import NOTHING\n",
    "lab_tables/limits.py": "LIMIT = 9.0\n",
    "lab_tables/unused.py": "NOTHING = 0\n",
}

SPEC = """
mmflow: 1
name: lab
data:
  train: {use: shapes, split: train, size: 64, pixels: 16}
  test: {use: shapes, split: test, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
  gap: {use: lab_gap, of: [image, text], weight: 0.1}
stages:
  plain: {use: train, data: train, losses: [align], epochs: 1, batch_size: 32}
  fit: {use: train, data: train, losses: [align, gap], epochs: 1, batch_size: 32}
  retrieval: {use: retrieval, data: test, model: fit, of: [image, text], at: [1, 5]}
  geometry: {use: geometry, data: test, model: fit, of: [image, text]}
  count: {use: lab_count, data: test, model: plain, of: [image]}
"""


class Laboratory:
    """The environment: `python` runs in it, `keys` are those of `SPEC`, `edited` changes a file for a while."""

    def __init__(self, folder: Path) -> None:
        self.core, self.plugin, self.folder = folder / "core", folder / "plugin", folder
        for name in ("mmflow", "plugins"):
            shutil.copytree(ROOT / name, self.core / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.core / name)
        for name, text in PLUGIN.items():
            (self.plugin / name).parent.mkdir(parents=True, exist_ok=True)
            (self.plugin / name).write_text(text, encoding="utf-8")
        (folder / "spec.yaml").write_text(SPEC)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        self.executable = folder / "venv" / "bin" / "python"
        site = self.python("import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        # Other libraries come from the environment of the tests, after what is installed here.
        (Path(site) / "zz_tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        self.install("-e", str(self.core))
        self.install("-e", str(self.plugin))

    def install(self, *arguments: str) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.executable), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--no-index", "--no-build-isolation", "--force-reinstall", *arguments], check=True)

    def python(self, code: str) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MMFLOW_", "PREFECT_"))}
        environment |= {"MMFLOW_CACHE": str(self.folder / "cache")}
        done = subprocess.run(
            [self.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=self.folder, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keys(self) -> dict[str, str]:
        """The key of each stage."""
        planned = self.python(
            "import sys; sys.argv = 'mmflow plan spec.yaml --json --store none'.split()\n"
            "from mmflow.cli import main\n"
            "main()"
        )
        return {stage["name"]: stage["key"] for stage in json.loads(planned)}

    @contextmanager
    def edited(self, path: Path, change: Callable[[str], str]):
        """`path` with another text inside the block; a file that was not there is removed again."""
        before = path.read_text(encoding="utf-8") if path.exists() else None
        text = change(before or "")
        assert text != before, f"nothing changes in {path}"
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            path.unlink()
            if before is not None:
                path.write_text(before, encoding="utf-8")


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """One environment for all tests of this folder; each test leaves it as it was."""
    return Laboratory(tmp_path_factory.mktemp("laboratory"))
