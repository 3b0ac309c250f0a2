"""Contrastive losses: InfoNCE, the pairwise sigmoid loss, the supervised loss.

All of them stand on `mmflow.kernels.contrast`: no matrix of all pairs is kept, whatever the score is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mmflow.plugin import Bank, Bounds, ComponentError, Encoded, Labels, Loss, Pooled, Ref, Refs, Score, Value, default

if TYPE_CHECKING:
    from torch import Tensor

    from mmflow.plugin import Encoding

Temperature = Annotated[Value, Bounds(gt=0)]


class InfoNCE(Loss, name="infonce"):
    """Cross-entropy of each row's match among all candidates (van den Oord et al., 2018; CLIP, Radford et al., 2021).

    With scores s_ij of row i of the first input and row j of the second, divided by the temperature:

        forward_i = log sum_j exp(s_ij) - s_ii      backward_i = log sum_j exp(s_ji) - s_ii

    and the value of row i is the mean of the chosen directions, [N]. Where a score has two directions (`maxsim`),
    each is taken in its own. `negatives`, a memory or an encoding, are further columns of the forward direction that
    match nothing; a memory that is not ready adds none. `in_batch: false` leaves the own match and the negatives
    alone (MoCo; He et al., 2020).
    """

    example: ClassVar[str] = "{use: infonce, of: [image, text], temperature: {use: learned, init: 0.07, min: 0.01}}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="how two rows are compared")
    temperature: Temperature = default(0.07, description="what scores are divided by")
    directions: tuple[Literal["forward", "backward"], ...] = Field(
        ("forward", "backward"), min_length=1, max_length=2, description="which side picks its match among the other"
    )
    in_batch: bool = Field(True, description="whether the other rows of the batch are candidates")
    negatives: Ref[Bank | Encoded] | None = Field(None, description="further candidates: a memory or an encoder")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all candidates")

    @model_validator(mode="after")
    def _forward_alone(self) -> InfoNCE:
        chosen = set(self.directions)
        if not self.in_batch and chosen != {"forward"}:
            raise ValueError("in_batch: false leaves candidates to the forward direction only: directions: [forward]")
        if self.negatives is not None and "forward" not in chosen:
            raise ValueError("negatives are candidates of the forward direction, which directions does not name")
        return self

    def compute(
        self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor, negatives: Encoding | None
    ) -> Tensor:
        from mmflow.kernels.contrast import contrast_blocks, info_nce

        sides = set(self.directions)
        options: dict[str, Any] = {
            "temperature": temperature,
            "in_batch": self.in_batch,
            "directions": "both" if len(sides) == 2 else sides.pop(),
            "label_smoothing": self.smoothing,
            "reduction": "none",
        }
        return _contrast(self.use, info_nce, contrast_blocks, a, b, negatives, score, options)


class SigLIP(Loss, name="siglip"):
    """Each pair is a binary decision of its own (Zhai et al., 2023).

    With s_ij the score over the temperature plus the bias, the value of row i is the sum over all j of
    log(1 + exp(-z_ij s_ij)), z_ii = 1 and z_ij = -1 otherwise, [N]; the mean over rows is the published loss. The
    defaults are the published start: a learned scale of 10 and a learned bias of -10. `negatives`, a memory or an
    encoding, are further columns that match nothing.
    """

    example: ClassVar[str] = "{use: siglip, of: [image, text]}"

    of: Refs[Encoded] = Field(min_length=2, max_length=2)  # pyright: ignore[reportIncompatibleVariableOverride]
    score: Score = default("cosine", description="how two rows are compared")
    temperature: Temperature = default(
        {"use": "learned", "init": 0.1, "min": 0.001}, description="what scores are divided by"
    )
    bias: Value = default({"use": "learned", "init": -10.0, "exp": False}, description="added to every scaled score")
    negatives: Ref[Bank | Encoded] | None = Field(None, description="further candidates: a memory or an encoder")

    def compute(
        self, a: Encoding, b: Encoding, score: Score, temperature: float | Tensor, bias: float | Tensor,
        negatives: Encoding | None,
    ) -> Tensor:  # fmt: skip
        from functools import partial

        from mmflow.kernels.contrast import contrast_blocks, sigmoid_contrast

        options: dict[str, Any] = {"temperature": temperature, "bias": bias, "reduction": "none"}
        return _contrast(
            self.use, sigmoid_contrast, partial(contrast_blocks, form="sigmoid"), a, b, negatives, score, options
        )


class SupCon(Loss, name="supcon"):
    """Rows of one label attract each other among all other rows (Khosla et al., 2020).

    Takes one or several inputs, each [N, D] or with a group axis [N, G, D]: all their vectors form one set. For a
    vector with scores s over the temperature and positives P (the other vectors of its label; without `labels`, those
    of its own sample, which is the loss of SimCLR; Chen et al., 2020):

        outside:  mean_{p in P} ( log sum_{j other} exp(s_j) - s_p )
        inside:   log sum_{j other} exp(s_j) - log mean_{p in P} exp(s_p)

    The value of a row is the mean over its vectors, [N]. A vector without positives has loss 0 and counts.
    """

    axes: ClassVar[tuple[str, ...]] = ("*",)
    example: ClassVar[str] = "{use: supcon, of: [two.0, two.1], labels: label, temperature: 0.1}"

    of: Refs[Pooled] = Field(min_length=1)
    labels: Ref[Labels] | None = Field(None, description="rows of one label match; own copies alone where unset")
    temperature: Temperature = default(0.1, description="what scores are divided by")
    normalize: bool = Field(True, description="compare by cosine; otherwise by dot product")
    positives: Literal["outside", "inside"] = Field("outside", description="mean over positives outside or inside log")

    def compute(self, *views: Tensor, labels: Tensor | None, temperature: float | Tensor) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        from mmflow.kernels.contrast import sup_con

        parts = [view.flatten(1, -2) if view.ndim > 2 else view.unsqueeze(1) for view in views]
        vectors = torch.cat(parts, dim=1)
        rows, copies, _ = vectors.shape
        if labels is None:
            labels = torch.arange(rows, device=vectors.device)
        elif labels.ndim != 1:
            raise ComponentError("supcon takes one label a row", found=f"labels of shape {list(labels.shape)}")
        x = normalize(vectors.float() if vectors.element_size() < 4 else vectors, dim=-1) if self.normalize else vectors
        ids = labels.repeat_interleave(copies)
        values = sup_con(
            x.flatten(0, 1), ids, temperature=temperature, positives=self.positives, reduction="none"
        )  # fmt: skip
        if self.positives == "inside":
            # The kernel sums over positives inside the logarithm; the published form takes their mean.
            count = (ids[:, None] == labels[None, :]).sum(1) * copies - 1
            values = values + torch.where(count > 0, count.clamp_min(1).to(values.dtype).log(), 0.0)
        return values.view(rows, copies).mean(1)


def _contrast(
    name: str,
    over_vectors: Callable[..., Tensor],
    over_blocks: Callable[..., Tensor],
    a: Encoding,
    b: Encoding,
    negatives: Encoding | None,
    score: Score,
    options: Mapping[str, Any],
) -> Tensor:
    """Run the streamed kernel: on vectors where the score has them, else block by block through the score."""
    for side in (a, b):
        if len(side.axes) > 1:
            raise ComponentError(
                f"{name} compares one vector a row with one", found=f"an input with the axis {side.axes[1]!r}",
                hint="write image.0 for the first of a group, or use supcon, which takes groups",
            )  # fmt: skip
    negatives = None if negatives is None else _ungrouped(negatives)
    present = None if negatives is None else negatives.present
    x, y = score.vectors(a), score.vectors(b)
    if x is not None and y is not None:
        further = None if negatives is None else score.vectors(negatives)
        return over_vectors(x, y, negatives=further, negatives_present=present, **options)
    kind = type(a)

    def blocks(rows: dict[str, Tensor], columns: dict[str, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        scored = score.blocks(_packed(kind, rows), _packed(kind, columns))
        return (scored[0], scored[1].T) if isinstance(scored, tuple) else scored

    further = None if negatives is None else _unpacked(negatives)
    mine = _unpacked(a)
    if further is not None and further.keys() != mine.keys():
        raise ComponentError(
            f"{name}: the score {score.use!r} needs {', '.join(score.needs)}, which the negatives do not have",
            hint="a memory holds pooled vectors; use cosine or dot, or take an encoder as negatives",
        )
    parameters = getattr(score, "parameters", tuple)()
    return over_blocks(blocks, mine, _unpacked(b), parameters, negatives=further, negatives_present=present, **options)


def _ungrouped(encoding: Encoding) -> Encoding:
    """Group axes become rows: several negatives a row are candidates of every row."""
    groups = len(encoding.axes) - 1
    return encoding.map(lambda tensor: tensor.flatten(0, groups)) if groups else encoding


def _unpacked(encoding: Encoding) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, value in encoding.outputs.items():
        if isinstance(value, tuple):
            tensors[f"{name}.values"], tensors[f"{name}.mask"] = value
        else:
            tensors[name] = value
    return tensors


def _packed(kind: type[Encoding], tensors: Mapping[str, Tensor]) -> Encoding:
    from mmflow.plugin import Tokens

    outputs: dict[str, Any] = {}
    for name, tensor in tensors.items():
        output, _, part = name.rpartition(".")
        if part == "values":
            outputs[output] = Tokens(tensor, tensors[f"{output}.mask"])
        elif part != "mask":
            outputs[name] = tensor
    return kind(outputs)
