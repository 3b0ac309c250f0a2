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
    Encoder,
    Freeze,
    Loss,
    Memory,
    Optimizer,
    Scope,
    Score,
)
from mmflow.plugin.kinds.stages import (
    BatchSizes,
    Evaluator,
    Fault,
    Service,
    Stage,
    Tally,
    Tracker,
)

__all__ = [
    "Active",
    "Application",
    "BatchSizes",
    "Draw",
    "Encoder",
    "Evaluator",
    "Fault",
    "Freeze",
    "LeftOut",
    "Loss",
    "Memory",
    "Optimizer",
    "Origin",
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
    "StageScope",
    "StageSpec",
    "StageStopped",
    "Streamed",
    "Streaming",
    "Structure",
    "Tally",
    "Tokenizer",
    "Tracker",
    "Transform",
    "View",
]
