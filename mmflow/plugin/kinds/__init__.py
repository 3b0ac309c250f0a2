"""The kinds of component. Subclass one with `name=` and write the method that its docstring describes.

Arguments are named like the fields: a parameter named like a field receives that field (references as
tensors, sub-components built, moving numbers as numbers or tensors); the others receive `of`, in order;
`generator`, `clock` and the like come on request (`component.ON_REQUEST`).
"""

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
    Encoder,
    Freeze,
    Loss,
    Memory,
    Optimizer,
    Scope,
    Score,
)
from mmflow.plugin.kinds.stages import (
    Evaluator,
    Reporter,
    Service,
    Stage,
    StageContext,
    StageStopped,
    Tracker,
)

__all__ = [
    "Active",
    "Draw",
    "Encoder",
    "Evaluator",
    "Freeze",
    "LeftOut",
    "Loss",
    "Memory",
    "Optimizer",
    "Reader",
    "Reporter",
    "Sampler",
    "Scope",
    "Score",
    "Service",
    "ShardReader",
    "Source",
    "Stage",
    "StageContext",
    "StageStopped",
    "Streamed",
    "Streaming",
    "Tokenizer",
    "Tracker",
    "Transform",
    "View",
]
