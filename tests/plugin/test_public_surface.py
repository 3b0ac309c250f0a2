"""The names that a plugin author may import: a change of this list is a change of the contract with every plugin."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import mmflow.plugin

KINDS = """
Component Constraint DataStage Encoder Evaluator Loss Memory Modality Optimizer RemoteService Sampler Score Service
Source Stage
Tokenizer Tracker Transform Value
"""
FIELDS = """
Active Bounds Constant Field Freeze Learned Lora NonNegativeFloat NonNegativeInt PositiveFloat PositiveInt Scope Shared
View
any_number by_content default in_order outside_identity secret
"""
REFERENCES = """
Array Bank Column Data Encoded Files Grid Ids Index Labels Metrics Model Parameters Pooled RawField Ref RefMap Refs
Sampled Static TokenSequence Weight
"""
GIVEN = """
ABSENT Answering Clock ColumnValues DataRows Draw Encoding EvaluationResult Example Exported ItemScores LeftOut Metric
RawValue Sample Reader Reporter ShardReader Shown StageContext StageInputs StageModel Streamed Streaming Tally
TensorType Tokens TrackedRun Tracking
describe emit in_all read_sample text_of with_random_access
"""
WIRING = "Application BatchSizes BatchValue Fault Origin Owner Place STAGE StageScope StageSpec Structure Target"
RAISED = "ComponentError SampleError ServiceBusy SkippedSample StageStopped"
ADDRESSES = "Address address global_generators numpy_generator"


def test_the_public_names_are_these():
    names = " ".join([KINDS, FIELDS, REFERENCES, GIVEN, WIRING, RAISED, ADDRESSES, "hookimpl"]).split()
    assert sorted(mmflow.plugin.__all__) == sorted(names)
    assert all(
        getattr(mmflow.plugin, name).__doc__ for name in names if name not in ("RawValue", "Scope", "Refs", "RefMap")
    )


def test_importing_them_all_loads_nothing_heavy():
    program = (
        "import sys; from mmflow.plugin import *; "
        "print(sorted({'torch', 'numpy', 'prefect', 'PIL', 'pyarrow', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_type_checkers_find_the_types():
    assert (files("mmflow") / "py.typed").is_file()
