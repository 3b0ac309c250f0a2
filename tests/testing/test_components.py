"""Every component that ships keeps the promises of its kind. Encoders have cases of their own beside their tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from mmflow_objectives.contrastive.local_contrast import LocalContrast
from mmflow_objectives.contrastive.soft_infonce import SoftInfoNCE
from mmflow_objectives.contrastive.swapped_codes import SwappedCodes
from mmflow_objectives.distance.cosine_distance import CosineDistance
from mmflow_objectives.prediction.caption_nll import CaptionNLL
from mmflow_objectives.prediction.emitted import EmittedValue
from mmflow_objectives.prediction.nearest_class_mean import NearestClassMean
from mmflow_samplers.episodes import Episodes
from mmflow_scores.cross_encoder import CrossEncoder

from mmflow.plugin import Encoding, Ref, Tokens
from mmflow.testing import Case, DataCase, ScoreCase, all_components
from tests.testing.given_files import cross_encoders, file_sources

pytestmark = pytest.mark.slow

KINDS = ("loss", "score", "memory", "source", "transform", "sampler", "tokenizer", "optimizer", "value", "modality")


DRAW = torch.Generator().manual_seed(0)
MASK = torch.arange(5)[None] < torch.arange(7)[:, None] % 4 + 2
TEXTS = {
    "logits": Tokens(torch.randn(7, 5, 6, generator=DRAW, dtype=torch.float64), MASK),
    "ids": Tokens(torch.randint(6, (7, 5), generator=DRAW), MASK),
}
PROTOTYPES = torch.randn(5, 6, generator=DRAW, dtype=torch.float64)


def swapped_prediction(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SwAV with its codes by the scaling form of Sinkhorn's iteration."""
    a, b, centers = (torch.nn.functional.normalize(v, dim=-1) for v in (a, b, PROTOTYPES))
    values = []
    for own, other in ((a, b), (b, a)):
        plan = (own @ centers.T / 0.05).exp().detach()
        for _ in range(3):
            plan = plan / plan.sum(0) / plan.shape[1]
            plan = plan / plan.sum(1, keepdim=True) / len(plan)
        values.append(-(len(plan) * plan * torch.log_softmax(other @ centers.T / 0.1, dim=1)).sum(1).mean())
    return (values[0] + values[1]) / 2


EMITTED = {"video": Encoding({"align": torch.randn(7, generator=DRAW, dtype=torch.float64)})}
CASES = [
    Case(EmittedValue(of=("video.align",)), EMITTED),
    *file_sources(),
    Case(CaptionNLL(of=("logits.tokens",), targets=Ref("ids.tokens")), TEXTS),
    ScoreCase(CrossEncoder(width=6, rows=4)),
    Case(
        SoftInfoNCE.model_validate({"of": ["a", "b"], "teacher": ["c"], "form": "linear", "directions": ["forward"]}),
        {name: torch.randn(7, 6, generator=DRAW, dtype=torch.float64) for name in "abc"},
        detached=("c",),
    ),
    Case(
        CosineDistance(of=("a", "b")),
        {name: torch.randn(7, 6, generator=DRAW, dtype=torch.float64) for name in "ab"},
        detached=("b",),
    ),
    Case(
        SwappedCodes.model_validate(
            {"of": ["a", "b"], "prototypes": {"use": "encoder/prototype_vectors", "count": 5, "dim": 6}}
        ),
        {name: torch.randn(7, 6, generator=DRAW, dtype=torch.float64) for name in "ab"},
        stopped=True,
        weights={"prototypes.vectors": PROTOTYPES},
        reference=swapped_prediction,
    ),
    Case(
        LocalContrast.model_validate({"of": ["a"], "parts": "t.tokens"}),
        {"a": torch.randn(7, 6, generator=DRAW, dtype=torch.float64), "t": TEXTS["logits"]},
    ),
    Case(
        NearestClassMean.model_validate({"of": ["a"], "labels": "labels", "support": "support"}),
        {
            "a": torch.randn(9, 6, generator=DRAW, dtype=torch.float64),
            "labels": torch.arange(9) % 2,
            "support": (torch.arange(9) < 5).long(),
        },
    ),
    *cross_encoders(),
    DataCase(Episodes(by=Ref("label"), way=2, shot=1, query=2)),
]


@pytest.mark.components(all_components("mmflow-kit", kinds=KINDS), cases=CASES)
def test_promises(component_check: Callable[[], None]) -> None:
    component_check()
