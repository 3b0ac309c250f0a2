"""The kinds of component. Subclass one with `name=` and write the method that its docstring describes.

Arguments are named like the fields: a parameter named like a field receives that field (references as
tensors, sub-components built, moving numbers as numbers or tensors); the others receive `of`, in order;
`generator`, `clock` and the like come on request, as `mmflow.plugin.binding.RULES` says for each kind.
"""

from mmflow.plugin.kinds.context import (
    ColumnValues,
    DataRows,
    InnerStages,
    Reporter,
    StageContext,
    StageModel,
    StageStopped,
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
    Encoder,
    Exported,
    Loss,
    Memory,
    Optimizer,
    Scope,
    Score,
)
from mmflow.plugin.kinds.parameters import Constraint, Freeze, Lora
from mmflow.plugin.kinds.scope import InnerGroup, Origin, StageScope, StageSpec, Structure
from mmflow.plugin.kinds.services import Answering, RemoteService, Service, ServiceBusy
from mmflow.plugin.kinds.stages import (
    BatchSizes,
    DataStage,
    Evaluator,
    Fault,
    Stage,
    StageInputs,
    Stream,
    StreamBatches,
    Tally,
)
from mmflow.plugin.kinds.trackers import TrackedRun, Tracker, Tracking

__all__ = [
    "Active",
    "Answering",
    "Application",
    "BatchSizes",
    "ColumnValues",
    "Constraint",
    "DataRows",
    "DataStage",
    "Draw",
    "Encoder",
    "Evaluator",
    "Exported",
    "Fault",
    "Freeze",
    "InnerGroup",
    "InnerStages",
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
    "StageInputs",
    "StageModel",
    "StageScope",
    "StageSpec",
    "StageStopped",
    "Stream",
    "StreamBatches",
    "Streamed",
    "Streaming",
    "Structure",
    "Tally",
    "Tokenizer",
    "TrackedRun",
    "Tracker",
    "Tracking",
    "Transform",
    "View",
]
