"""Stored results: one class a type of stage output, which names its files, writes them and reads them.

Each is made with the output directory of a stage (a `Path` that the flow gives) and, where a stage may have several of
its type, a name. Nothing is read before a method asks for it, and torch, numpy and pyarrow are imported by the methods.
"""

from mmflow.artifacts.checkpoint import CheckpointArtifact
from mmflow.artifacts.columns import ColumnArtifact
from mmflow.artifacts.data import DataArtifact, StaticArtifact
from mmflow.artifacts.encodings import EncodingsArtifact
from mmflow.artifacts.files import AboutStage, Environment, FilesArtifact, HistoryArtifact, StageRecord, TrainingSummary
from mmflow.artifacts.metrics import EmbeddingMap, Measured, MetricsArtifact, StoredItems
from mmflow.artifacts.model import ModelArtifact

__all__ = [
    "AboutStage",
    "CheckpointArtifact",
    "ColumnArtifact",
    "DataArtifact",
    "EmbeddingMap",
    "EncodingsArtifact",
    "Environment",
    "FilesArtifact",
    "HistoryArtifact",
    "Measured",
    "MetricsArtifact",
    "ModelArtifact",
    "StageRecord",
    "StaticArtifact",
    "StoredItems",
    "TrainingSummary",
]
