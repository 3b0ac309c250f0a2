"""Declarations of data cost no heavy library."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from mmflow.plugin.registry import registry
found = registry()
for kind in ("source", "transform", "sampler"):
    for name in found.names(kind):
        assert found.get(kind, name).__doc__, name
made = found.get("source", "shapes").model_validate({"size": 10})
made.fields()
found.get("source", "noisy").model_validate({"of": {"use": "sentences"}, "labels": {"label": 0.1}}).fields()
heavy = {"torch", "numpy", "pandas", "pyarrow", "PIL", "sklearn", "prefect", "matplotlib", "scipy"} & set(sys.modules)
print(sorted(heavy))
"""


def test_declared_and_asked_for_fields_without_numpy() -> None:
    out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
