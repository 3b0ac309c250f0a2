"""The one way in which components read model files of other libraries: as data, never as code.

Libraries can run Python that a model folder brings (transformers: `auto_map` and `trust_remote_code`; pickled
checkpoints) and ask on the terminal whether they may. Inside `reading` they can do neither, whatever the files say.
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from mmflow.plugin import ComponentError
from mmflow_pretrained.folders import first_line

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""With this variable `torch.load` reads tensors only, even where its caller asks for whole pickles."""

_reading = threading.RLock()


class CodeRefused(ValueError):
    """Raised in place of running Python code that came with model files."""


@contextmanager
def reading(library: str, wanted: str, name: str) -> Iterator[None]:
    """Files of the model `name` are read inside, by `library`, to find a `wanted` (an image processor, a tokenizer).

    No Python code of the files runs, no pickle is loaded beyond plain tensors, and the standard input is not read.
    Raises `ComponentError` where the model needs code of its own, and for errors of the library.
    """
    try:
        with _reading, ExitStack() as stack:
            stack.enter_context(_changed_variable(WEIGHTS_ONLY, "1"))
            stack.enter_context(_replaced(builtins, "input", _no_answer))
            stack.enter_context(_replaced(sys, "stdin", stack.enter_context(open(os.devnull))))
            if find_spec("transformers") is not None:
                from transformers import dynamic_module_utils

                stack.enter_context(_replaced(dynamic_module_utils, "get_class_in_module", _no_code))
            yield
    except ComponentError:
        raise
    except Exception as error:
        if isinstance(error, CodeRefused) or "trust_remote_code" in str(error):
            raise ComponentError(
                f"the {wanted} of {name} is Python code that comes with the model, which mmflow never runs",
                hint=f"use a model whose {wanted} is part of {library}, or write a plugin that holds the code",
            ) from error
        raise ComponentError(f"{library} finds no {wanted} in {name}: {first_line(error)}") from error


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _changed_variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _no_answer(*prompt: object) -> str:
    raise CodeRefused("a question on the terminal while model files are read")


def _no_code(*arguments: object, **options: object) -> type:
    raise CodeRefused("code of a model folder")
