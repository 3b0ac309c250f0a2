"""The language: from YAML text to a checked, resolved spec.

>>> from mmflow.spec import load_spec
>>> spec = load_spec("spec.yaml", overrides=["train.epochs=2"])
>>> spec.scope("train").reach("losses.align")

Nothing here imports torch, numpy or prefect.
"""

from mmflow.spec.load import load_spec, load_text
from mmflow.spec.problems import Problem, SpecError
from mmflow.spec.spec import Scope, Spec
from mmflow.spec.target import Target

__all__ = ["Problem", "Scope", "Spec", "SpecError", "Target", "load_spec", "load_text"]
