"""The language: from YAML text to a checked, resolved spec.

>>> from mmflow.spec import load_spec
>>> spec = load_spec("spec.yaml", overrides=["train.epochs=2"])
>>> spec.scope("train").reach(Owner("losses", "align"))

Nothing here imports torch, numpy or prefect.
"""

from mmflow.plugin.targets import STAGE, Owner, Target
from mmflow.spec.components.repeat import Repetition
from mmflow.spec.load import load_spec, load_text
from mmflow.spec.matrix import Matrix, Member, load_members
from mmflow.spec.references.scope import Scope
from mmflow.spec.spec import Spec
from mmflow.spec.text.matrix import member_name
from mmflow.spec.text.problems import Problem, SpecError

__all__ = [
    "STAGE",
    "Matrix",
    "Member",
    "Owner",
    "Problem",
    "Repetition",
    "Scope",
    "Spec",
    "SpecError",
    "Target",
    "load_members",
    "load_spec",
    "load_text",
    "member_name",
]
