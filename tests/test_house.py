"""The house: import contracts, what kernels may import, declarations that load nothing heavy, the make targets."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmflow.spec import load_members, load_spec

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "prefect", "numpy", "pandas", "sklearn", "matplotlib", "torchvision", "PIL", "pyarrow")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_import_contracts_hold():
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "mmflow/kernels").rglob("*.py")), ids=lambda p: p.stem)
def test_kernels_import_torch_triton_and_the_standard_library_only(path: Path):
    allowed = {"torch", "triton", "mmflow", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            assert name.partition(".")[0] in allowed, f"{path.name} imports {name}"
            assert not name.startswith("mmflow") or name.startswith("mmflow.kernels"), f"{path.name} imports {name}"


def test_every_declaration_loads_without_anything_heavy():
    program = (
        "import sys, json\n"
        "from mmflow.plugin.registry import registry\n"
        "found = registry()\n"
        "for r in found.registrations(): found.get(r.kind, f'{r.name}@{r.distribution}').model_rebuild()\n"
        f"print(json.dumps([[str(b) for b in found.broken], sorted(set({HEAVY!r}) & set(sys.modules))]))\n"
    )
    done = run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[], []]"


def test_the_package_itself_imports_nothing():
    done = run(
        sys.executable, "-c",
        "import sys; before = set(sys.modules); import mmflow\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(new - set(sys.stdlib_module_names))",
    )  # fmt: skip
    assert done.stdout.strip() == "{'mmflow'}"


def test_every_dependency_has_a_tested_version():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    extras = project["optional-dependencies"]
    open_ = [*map(Requirement, project["dependencies"]), *map(Requirement, extras["test"])]
    while open_:
        wanted = open_.pop()
        if wanted.name == project["name"]:
            open_ += [Requirement(text) for extra in wanted.extras for text in extras[extra]]
        else:
            assert pins[wanted.name] in wanted.specifier, str(wanted)


def test_make_without_a_target_and_make_help_tell_the_targets():
    for arguments in ([], ["help"]):
        done = run("make", *arguments)
        assert done.returncode == 0
        assert all(target in done.stdout for target in ("make quickstart", "make test", "make lint"))


def test_no_python_is_one_message(tmp_path: Path):
    done = run("make", "install", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "no Python 3.11 or later was found" in done.stderr


def test_links_in_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


RECORDINGS = ROOT.parent / "shared" / "data" / "fsdd" / "recordings"


# Suites measure a user's model or file: tests/end_to_end/test_suites.py has some.
@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda p: p.stem)
def test_specs_that_ship_are_valid(path: Path):
    overrides = []
    if path.stem == "spoken_digits":
        if not RECORDINGS.is_dir():
            pytest.skip("the recordings of spoken digits are not here")
        overrides = [f"vars.recordings={RECORDINGS}"]
    assert load_spec(str(path), overrides).stages


@pytest.mark.parametrize("page", ["README.md", "docs/language.md"])
def test_specs_in_the_documents_are_valid(page: str):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        assert all(member.spec.stages for member in load_members(page, text=block))
