"""A small diffusion model: noise, a denoiser, and the stage that samples with guidance by its maps of attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmflow.plugin import (
    STAGE,
    Component,
    DataStage,
    Encoded,
    Encoder,
    EvaluationResult,
    Evaluator,
    Grid,
    Loss,
    Metric,
    Model,
    Pooled,
    RawField,
    Ref,
    Refs,
    StageContext,
    StageInputs,
    TensorType,
    TokenSequence,
    address,
    default,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class NoiseSchedule(Component, kind="noise_schedule"):
    """How noise grows."""

    steps: int = 1000

    def left(self, t: Tensor) -> Tensor:
        raise NotImplementedError


class LinearBetas(NoiseSchedule, name="linear_betas"):
    """How much of an image is left at each step."""

    def left(self, t: Tensor) -> Tensor:
        return 1 - t / self.steps


class AddNoise(Encoder, name="add_noise"):
    """An image at a step that is drawn, with noise that is drawn: `x`, `t`, `eps`."""

    accepts = (("image",),)
    schedule: NoiseSchedule = default("linear_betas")

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image = TensorType("grid", size=(16, 16, 3))
        return {"x": image, "t": TensorType("number"), "eps": image}

    def apply(self, image: Tensor, generator: Any) -> dict[str, Tensor]:
        import torch

        x = image.permute(0, 2, 3, 1) * 2 - 1
        t = torch.rand(len(x), generator=generator).to(x) * self.schedule.steps
        eps = torch.randn(x.shape, generator=generator).to(x)
        left = self.schedule.left(t).view(-1, 1, 1, 1)
        return {"x": left.sqrt() * x + (1 - left).clamp_min(0).sqrt() * eps, "t": t, "eps": eps}


class PureNoise(Encoder, name="pure_noise"):
    """Noise alone at the last step, for as many rows as there are: what sampling begins with, where no image is."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        image = TensorType("grid", size=(16, 16, 3))
        return {"x": image, "t": TensorType("number"), "eps": image}

    def apply(self, words: Tensor, generator: Any) -> dict[str, Tensor]:
        import torch

        noise = torch.randn(len(words), 16, 16, 3, generator=generator).to(words)
        return {"x": noise, "t": words.new_full((len(words),), 999.0), "eps": noise}


class Unet(Encoder, name="unet"):
    """Predicts the noise of x at step t under words; the tap `attention.cross` has its map from places to words."""

    of: Refs[Grid | Pooled | RawField | TokenSequence]  # pyright: ignore[reportIncompatibleVariableOverride]
    size: int = 16
    provides = ("denoise",)

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        found = {"pooled": TensorType("vector", size=(16 * 16 * 3,))}
        return {**found, "attention.cross": TensorType("attention", size=(256, None))}

    def taps(self) -> tuple[str, ...]:
        return ("attention.cross",)

    def build(self, *inputs: TensorType, state: Mapping[str, Any]) -> nn.Module:
        from stand_ins.modules import Denoiser

        return Denoiser(int(inputs[2].size[-1] or 16))


class FlatNoise(Loss, name="noise_mse"):
    """The mean squared error of the predicted noise."""

    of: Refs[Pooled | Grid]  # pyright: ignore[reportIncompatibleVariableOverride]

    def compute(self, guess: Tensor, eps: Tensor) -> Tensor:
        return (guess - eps.flatten(1)).square().mean(1)


class Solver(Component, kind="solver"):
    """The way from noise to an image."""

    steps: int = 4
    guidance: float = 1.0


class Ddim(Solver, name="ddim"):
    """Equal steps."""


class Guide(Component, kind="guide"):
    """What moves the image between two steps."""

    read: str = "attention.cross"
    groups: Ref[RawField]
    loss: Loss
    size: float = 0.1
    until: int = 2


class LatentDescent(Guide, name="latent_descent"):
    """Moves the image down the gradient of a loss of a map of attention."""


class Sample(DataStage, name="sample"):
    """An image for each prompt: column `image`."""

    gives = {"image": "Column"}
    of: Ref[Encoded]
    words: Ref[TokenSequence]
    solver: Solver
    guide: Guide | None = None
    model: Ref[Model] | None = None

    def outputs(self, given: StageInputs) -> Mapping[str, TensorType]:
        return {"image": TensorType("vector", size=(16 * 16 * 3,))}

    def run(self, context: StageContext) -> None:
        import torch

        rows = context.rows("words")
        words = rows["words"]
        words = words.outputs["tokens"] if hasattr(words, "outputs") else words
        owner = context.scope.targets(STAGE)["of",].owner
        types = [context.scope.type_of(target) for target in context.scope.inputs(owner).values()]
        denoiser = context.scope.structure(owner).encoder.build(*types, state={})
        stored = context.model().weights()
        prefix = f"{owner}."
        denoiser.load_state_dict({n.removeprefix(prefix): v for n, v in stored.items() if n.startswith(prefix)})
        generator = torch.Generator().manual_seed(address(context.scope.seed, "sample"))
        x = torch.randn(len(rows.ids), 16, 16, 3, generator=generator)
        for step in range(self.solver.steps):
            t = torch.full((len(x),), 1000.0 * (1 - step / self.solver.steps))
            if self.guide is not None and step < self.guide.until:
                x = self._guided(denoiser, x, t, words, self.guide)
            with torch.no_grad():
                eps = denoiser(x, t, words)["pooled"].view_as(x)
                x = x - eps / self.solver.steps
        context.write_column("image", rows.ids, x.flatten(1))

    def _guided(self, denoiser: Any, x: Tensor, t: Tensor, words: Any, guide: Guide) -> Tensor:
        import torch

        x = x.detach().requires_grad_()
        maps = denoiser(x, t, words, taps=(guide.read,))[guide.read]
        vectors = maps.transpose(1, 2)[:, :2]
        loss = guide.loss.compute(vectors.flatten(0, 1), labels=torch.arange(2).repeat(len(x)), temperature=0.5)
        (gradient,) = torch.autograd.grad(loss.mean(), x)
        return (x - guide.size * gradient).detach()


class TokenMapOverlap(Evaluator, name="token_map_overlap"):
    """How bright the images of a stage are: the overlap of maps stands for more than this test needs."""

    images: Ref[RawField]

    def evaluate(self, images: Any) -> EvaluationResult:
        import torch

        return EvaluationResult([Metric("brightness", float(torch.as_tensor(images).float().mean()), better="")])
