"""Commands that run nothing import nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SPEC = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
HEAVY = ("torch", "prefect", "numpy", "pandas", "sklearn", "matplotlib", "torchvision", "PIL", "pyarrow")

PROGRAM = """
import contextlib, io, json, sys
from mmflow.cli import main
sys.argv = ["mmflow", *json.loads(sys.argv[1])]
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
print(json.dumps({"code": code, "modules": sorted(sys.modules), "out": out.getvalue()}))
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["list"], ["list", "encoder"], ["show", "vit"], ["check", str(SPEC)], ["schema"]],
    ids=lambda arguments: " ".join(a for a in arguments if "/" not in a),
)
def test_a_command_that_runs_nothing_imports_nothing_heavy(arguments: list[str]):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    result = json.loads(done.stdout)
    assert result["code"] == 0, done.stderr
    assert result["out"]
    assert not set(HEAVY) & set(result["modules"])
