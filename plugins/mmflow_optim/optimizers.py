"""Declarations of the optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from mmflow.plugin import Optimizer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer


Share = Annotated[float, Field(ge=0, lt=1)]


class Decayed(Optimizer):
    """What all optimizers here share: which parameters decay."""

    weight_decay: float = Field(0.0, ge=0, description="share of a weight that decays a step, times the rate")
    decay_1d: bool = Field(False, description="whether biases, norms and all else of one dimension or none decay too")

    def decayed(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The groups with `weight_decay` set, each cut in two where some of its parameters do not decay."""
        result: list[dict[str, Any]] = []
        for group in groups:
            decay = group.get("weight_decay")
            decay = self.weight_decay if decay is None else decay
            parameters = list(group["params"])
            matrices = [p for p in parameters if self.decay_1d or p.ndim > 1]
            others = [p for p in parameters if not (self.decay_1d or p.ndim > 1)]
            for part, own in ((matrices, decay), (others, 0.0)):
                if part:
                    result.append({**group, "params": part, "weight_decay": own})
        return result


class AdamW(Decayed, name="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), fused into one kernel where torch has one."""

    example: ClassVar[str] = "optimizer: {use: adamw, lr: 1e-3, weight_decay: 0.05}"

    weight_decay: float = Field(0.01, ge=0, description="share of a weight that decays a step, times the rate")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="memory of the mean and of the square of gradients")
    eps: float = Field(1e-8, gt=0, description="added to the root of the mean square")

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        import torch

        groups = self.decayed(groups)
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=fusable(groups))


class Adam(Decayed, name="adam"):
    """Adam (Kingma and Ba, 2015); its weight decay is part of the gradient."""

    example: ClassVar[str] = "optimizer: {use: adam, lr: 1e-3}"

    betas: tuple[Share, Share] = Field((0.9, 0.999), description="memory of the mean and of the square of gradients")
    eps: float = Field(1e-8, gt=0, description="added to the root of the mean square")

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        import torch

        groups = self.decayed(groups)
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps, fused=fusable(groups))


class Sgd(Decayed, name="sgd"):
    """Stochastic gradient descent with momentum: v = momentum v + g, w = w - lr v (Sutskever et al., 2013)."""

    example: ClassVar[str] = "optimizer: {use: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1e-4}"

    momentum: Share = Field(0.9, description="share of the last step that is kept")
    nesterov: bool = Field(False, description="look ahead by the momentum (Nesterov, 1983); needs momentum")

    @model_validator(mode="after")
    def _momentum_to_look_ahead(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        import torch

        groups = self.decayed(groups)
        return torch.optim.SGD(groups, momentum=self.momentum, nesterov=self.nesterov, fused=fusable(groups))


class Lars(Decayed, name="lars"):
    """SGD whose step is scaled for each weight matrix by trust * ||w|| / ||g|| (You et al., 2017).

    g includes the weight decay. Parameters of one dimension or none take plain steps, as is usual for norms and
    biases. v = momentum v + scale g, w = w - lr v.
    """

    example: ClassVar[str] = "optimizer: {use: lars, lr: 0.6, weight_decay: 1e-6}"

    momentum: Share = Field(0.9, description="share of the last step that is kept")
    trust: float = Field(0.001, gt=0, description="length of a step over that of the weight, at rate one")

    def build(self, groups: list[dict[str, Any]]) -> TorchOptimizer:
        from mmflow_optim.lars import LARS

        return LARS(self.decayed(groups), momentum=self.momentum, trust=self.trust)


def fusable(groups: list[dict[str, Any]]) -> bool:
    """Whether torch's fused kernels take all parameters."""
    parameters: list[Tensor] = [p for group in groups for p in group["params"]]
    return bool(parameters) and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
