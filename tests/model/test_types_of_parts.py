"""A module that a loss or its score builds learns the sizes of what it reads; a spec does not say them again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmflow.plugin import Encoding, Loss, Pooled, Refs, Score, TensorType, default
from mmflow.testing import compute_on
from mmflow.testing.given import register


class BilinearOfTypes(Score, name="bilinear_of_types"):
    """a W b, W as large as the two inputs need."""

    def build(self, *inputs: TensorType) -> nn.Module:
        rows, columns = (kind.size[0] for kind in inputs)
        assert rows is not None
        assert columns is not None
        return Product(rows, columns)


class Product(nn.Module):
    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(rows, columns))

    def pairs(self, a: Encoding, b: Encoding) -> Tensor:
        return torch.einsum("nd,de,ne->n", a.pooled, self.weight, b.pooled)


class Agreeing(Loss, name="agreeing_of_types"):
    """Minus the score of pairs."""

    of: Refs[Pooled] = ()
    score: Score = default("bilinear_of_types")

    def compute(self, a: Tensor, b: Tensor, score: Score) -> Tensor:
        return -score.pairs(Encoding({"pooled": a}), Encoding({"pooled": b}))


def test_a_score_in_a_loss_is_built_for_its_inputs() -> None:
    register(BilinearOfTypes)
    a, b = torch.ones(4, 3, dtype=torch.float64), torch.ones(4, 5, dtype=torch.float64)
    found = compute_on(Agreeing.model_validate({"of": ["a", "b"]}), a=a, b=b)
    assert float(found.value) == -15
    assert found.gradients["score.weight"].shape == (3, 5)
