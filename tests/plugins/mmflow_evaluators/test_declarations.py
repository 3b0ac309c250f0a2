from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from mmflow.plugin.registry import registry
for name in ("retrieval", "zero_shot", "linear_probe", "knn", "geometry", "embed"):
    component = registry().get("stage", name)
    assert component.__doc__ and component.example, name
heavy = {"torch", "numpy", "sklearn", "scipy", "pandas", "pyarrow", "prefect", "matplotlib"} & set(sys.modules)
print(sorted(heavy))
"""


def test_declarations_import_nothing_heavy():
    assert subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout == "[]\n"
