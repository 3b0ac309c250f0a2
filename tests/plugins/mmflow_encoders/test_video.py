"""Videos: a frame tower equal to `vit`, missing frames, each way of joining, messages between frames."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmflow_encoders.images.video_transformer import VideoTransformer
from mmflow_encoders.images.vit import Vit
from torch import Tensor, nn

from mmflow.plugin import ComponentError, Encoding, TensorType

VIDEO = TensorType("video", ("sample", "frame"), (16, 16, 3), "uint8", groups=(4,))
SMALL: dict[str, Any] = {"of": "video", "size": 16, "patch": 8, "width": 8, "depth": 2, "heads": 2}


def encoder(**fields: Any) -> VideoTransformer:
    return VideoTransformer.model_validate({**SMALL, **fields})


def built(**fields: Any) -> Any:
    torch.manual_seed(0)
    module = encoder(**fields).build(VIDEO, state={})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def video(rows: int = 3, frames: int = 4) -> Tensor:
    return torch.rand(rows, frames, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def some(x: Tensor, *counts: int) -> Encoding:
    """The video with the first frames of each row present; the others hold garbage."""
    present = torch.arange(x.shape[1])[None] < torch.tensor(counts)[:, None]
    return Encoding({"value": torch.where(present[:, :, None, None, None], x, 9.0)}, ("sample", "frame"), present)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_the_mean_of_frames_is_that_of_a_vision_transformer(pool: str) -> None:
    module = built(pool=pool)
    image = TensorType("image", size=(16, 16, 3))
    vit: Any = Vit.model_validate({**SMALL, "pool": pool}).build(image, state={}).double().eval()
    vit.load_state_dict({name: value for name, value in module.state_dict().items() if "joining" not in name})
    x = video()
    expected = vit(x.flatten(0, 1))["pooled"].unflatten(0, (3, 4))
    found = module(x)
    torch.testing.assert_close(found["tokens"].values, expected)
    torch.testing.assert_close(found["pooled"], expected.mean(1))


@pytest.mark.parametrize("aggregate", ["mean", "transformer", "attention", "gated"])
@pytest.mark.parametrize("cross_frame", [False, True])
def test_missing_frames_change_nothing(aggregate: str, cross_frame: bool) -> None:
    module, x = built(aggregate=aggregate, cross_frame=cross_frame), video()
    together = module(some(x, 2, 4, 1))
    for row, count in enumerate((2, 4, 1)):
        alone = module(x[row : row + 1, :count])
        torch.testing.assert_close(together["pooled"][row], alone["pooled"][0])
        torch.testing.assert_close(together["tokens"].values[row, :count], alone["tokens"].values[0])
    assert together["tokens"].mask.sum(1).tolist() == [2, 4, 1]
    empty = module(some(x, 0, 4, 1))["pooled"]
    assert empty.isfinite().all()


def test_a_transformer_over_frames_is_added_to_them() -> None:
    module, x = built(aggregate="transformer", aggregate_depth=2), video()
    joining = module.joining
    frames = built(aggregate="mean")
    frames.load_state_dict({n: v for n, v in module.state_dict().items() if "joining" not in n})
    vectors = frames(x)["tokens"].values
    mixed = vectors + joining.positions[:, :4]
    for block in joining.blocks:
        mixed = block(mixed, None)
    found = module(x, taps=("frames.1", "frames.2"))
    torch.testing.assert_close(found["pooled"], (mixed + vectors).mean(1))
    assert found["frames.2"].shape == (3, 2, 4, 4)
    torch.testing.assert_close(found["frames.1"].sum(-1), torch.ones(3, 2, 4, dtype=torch.float64))


def test_gates_weigh_the_frames() -> None:
    module, x = built(aggregate="gated"), video()
    found = module(x, taps=("frames.1",))
    vectors, gate = found["tokens"].values, module.joining.gate
    scores = gate.score(gate.content(vectors).tanh() * gate.gate(vectors).sigmoid())
    weights = scores.softmax(1)
    torch.testing.assert_close(found["pooled"], (weights * vectors).sum(1))
    torch.testing.assert_close(found["frames.1"][:, 0, 0], weights[..., 0])


@pytest.mark.parametrize(("aggregate", "ordered"), [("mean", False), ("gated", False), ("transformer", True),
                                                    ("attention", True)])  # fmt: skip
def test_the_order_of_frames_counts_through_positions_alone(aggregate: str, ordered: bool) -> None:
    module, x = built(aggregate=aggregate, cross_frame=True), video()
    turned = x.flip(1)
    same = torch.allclose(module(x)["pooled"], module(turned)["pooled"])
    assert same is not ordered
    if ordered:
        nn.init.zeros_(module.joining.positions)
        torch.testing.assert_close(module(x)["pooled"], module(turned)["pooled"])


def test_messages_carry_one_frame_to_another_and_no_token_stays() -> None:
    silent, module, x = built(), built(cross_frame=True), video()
    other = x.clone()
    other[:, 3] = 1 - other[:, 3]
    before, after = silent(x)["tokens"].values, silent(other)["tokens"].values
    assert torch.equal(before[:, :3], after[:, :3])
    before, after = module(x)["tokens"].values, module(other)["tokens"].values
    assert (before[:, :3] - after[:, :3]).abs().amax(-1).min() > 1e-6
    assert module(x)["tokens"].values.shape == (3, 4, 8)


def test_more_frames_than_declared_and_single_images_are_refused() -> None:
    with pytest.raises(ValueError, match="`frames` is 2"):
        built(aggregate="attention", frames=2)(video())
    with pytest.raises(ComponentError, match="takes a video"):
        encoder().outputs(TensorType("image", size=(16, 16, 3)))


def test_axes_beside_frames_stay() -> None:
    copies = VIDEO.with_(axes=("sample", "copy", "frame"), groups=(2, 4))
    outputs = encoder(aggregate="attention").outputs(copies)
    assert (outputs["pooled"].axes, outputs["pooled"].groups) == (("sample", "copy"), (2,))
    assert outputs["tokens"].size == (4, 8)
    assert outputs["frames.1"].size == (2, 1, 4)
