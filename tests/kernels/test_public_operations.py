"""Every operation is a function that `from mmflow.kernels import ...` gives, and importing them costs only torch."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap
from types import FunctionType

import pytest

import mmflow.kernels as kernels

pytestmark = pytest.mark.slow

FOLDERS = [m.name for m in pkgutil.iter_modules(kernels.__path__) if m.ispkg]


@pytest.mark.parametrize("name", kernels.__all__)
def test_every_name_is_a_documented_function(name):
    operation = getattr(kernels, name)
    assert isinstance(operation, FunctionType)
    assert operation.__name__ == name
    assert "Returns:" in inspect.getdoc(operation) or "[" in inspect.getdoc(operation)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_operation_with_several_forms_is_listed(folder):
    module = importlib.import_module(f"mmflow.kernels.{folder}")
    operations = {
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and not name.startswith("_")
        and value.__module__.startswith(module.__name__)
        and "backend" in inspect.signature(value).parameters
    }
    assert operations
    assert operations <= set(kernels.__all__)
    assert folder not in kernels.__all__, "a function would hide the folder of its name"


def test_importing_brings_neither_triton_nor_the_rest_of_mmflow():
    program = textwrap.dedent("""
        import sys
        import mmflow.kernels
        names = {name for name in sys.modules if name.startswith("mmflow.")}
        assert all(name.startswith("mmflow.kernels") for name in names), names
        assert not {"triton", "numpy.testing", "torch._dynamo"} & set(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", program], check=True)
