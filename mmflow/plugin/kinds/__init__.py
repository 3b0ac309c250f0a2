"""The kinds of component. Subclass one with `name=` and write the method that its docstring describes.

Arguments are named like the fields: a parameter named like a field receives that field (references as
tensors, sub-components built, moving numbers as numbers or tensors); the others receive `of`, in order;
`generator`, `clock` and the like come on request, as `mmflow.plugin.binding.RULES` says for each kind.
"""

from mmflow.plugin.kinds.context import (
    Origin,
    Reporter,
    StageContext,
    StageScope,
    StageSpec,
    StageStopped,
    Structure,
)
from mmflow.plugin.kinds.data import (
    Draw,
    LeftOut,
    Reader,
    Sampler,
    ShardReader,
    Source,
    Streamed,
    Streaming,
    Tokenizer,
    Transform,
    View,
)
from mmflow.plugin.kinds.model import (
    Active,
    Application,
    Constraint,
    Encoder,
    Freeze,
    Lora,
    Loss,
    Memory,
    Optimizer,
    Scope,
    Score,
)
from mmflow.plugin.kinds.services import Answering, RemoteService, Service, ServiceBusy
from mmflow.plugin.kinds.stages import BatchSizes, Evaluator, Fault, Stage
from mmflow.plugin.kinds.trackers import TrackedRun, Tracker, Tracking

__all__ = [
    "Active",
    "Answering",
    "Application",
    "BatchSizes",
    "Constraint",
    "Draw",
    "Encoder",
    "Evaluator",
    "Fault",
    "Freeze",
    "LeftOut",
    "Lora",
    "Loss",
    "Memory",
    "Optimizer",
    "Origin",
    "Reader",
    "RemoteService",
    "Reporter",
    "Sampler",
    "Scope",
    "Score",
    "Service",
    "ServiceBusy",
    "ShardReader",
    "Source",
    "Stage",
    "StageContext",
    "StageScope",
    "StageSpec",
    "StageStopped",
    "Streamed",
    "Streaming",
    "Structure",
    "Tokenizer",
    "TrackedRun",
    "Tracker",
    "Tracking",
    "Transform",
    "View",
]
