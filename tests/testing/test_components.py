"""Every component that ships keeps the promises of its kind. Encoders have cases of their own beside their tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from mmflow_evaluators.clustering.clustering import Clustering
from mmflow_evaluators.geometry import Geometry
from mmflow_objectives.prediction.caption_nll import CaptionNLL
from mmflow_objectives.prediction.emitted import EmittedValue
from mmflow_samplers.episodes import Episodes
from mmflow_scores.cross_encoder import CrossEncoder

from mmflow.plugin import Encoding, Ref, Tokens
from mmflow.testing import Case, DataCase, ScoreCase, all_components
from mmflow.testing.checks.evaluators import evaluator_case
from tests.testing.given_files import cross_encoders, file_sources

pytestmark = pytest.mark.slow

KINDS = ("loss", "score", "memory", "source", "transform", "sampler", "tokenizer", "optimizer", "value", "modality")


DRAW = torch.Generator().manual_seed(0)
MASK = torch.arange(5)[None] < torch.arange(7)[:, None] % 4 + 2
TEXTS = {
    "logits": Tokens(torch.randn(7, 5, 6, generator=DRAW, dtype=torch.float64), MASK),
    "ids": Tokens(torch.randint(6, (7, 5), generator=DRAW), MASK),
}
EMITTED = {"video": Encoding({"align": torch.randn(7, generator=DRAW, dtype=torch.float64)})}
CASES = [
    Case(EmittedValue(of=("video.align",)), EMITTED),
    *file_sources(),
    Case(CaptionNLL(of=("logits.tokens",), targets=Ref("ids.tokens")), TEXTS),
    ScoreCase(CrossEncoder(width=6, rows=4)),
    *cross_encoders(),
    DataCase(Episodes(by=Ref("label"), way=2, shot=1, query=2)),
]


@pytest.mark.components(all_components("mmflow-kit", kinds=KINDS), cases=CASES)
def test_promises(component_check: Callable[[], None]) -> None:
    component_check()


EVALUATORS = ("knn", "linear_probe", "spectrum", "representation_similarity")
DRAWING = [replace(evaluator_case(made), draws=True) for made in (Clustering, Geometry)]


@pytest.mark.components([f"stage/{name}" for name in EVALUATORS], cases=DRAWING)
def test_promises_of_evaluators(component_check: Callable[[], None]) -> None:
    component_check()
