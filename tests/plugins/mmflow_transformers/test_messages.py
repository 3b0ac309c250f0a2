"""Vision-language models give for messages what transformers gives for them, by its own processor and template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_transformers.message import WriteMessage
from PIL import Image

from mmflow.flow.run import RunOptions, run_spec
from mmflow.plugin import ComponentError
from mmflow.plugin.addresses import address
from mmflow.spec import SpecError, load_text

T = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

from tests.plugins.mmflow_transformers.vision_language import MAKERS, saved  # noqa: E402

INSTRUCTION = "find the picture"
VIEWS = (
    "{asked: {of: [image, caption], apply: [{use: message, instruction: find the picture, text: "
    '"what is {image} a {caption}"}]}}'
)
PRECISIONS = [(torch.float64, 1e-6), (torch.float32, 1e-5)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: saved(name, tmp_path_factory.mktemp(name)) for name in MAKERS}


def asked(run: Any) -> list[list[Any]]:
    """The parts of each message, as a user of the library has them."""
    pairs = zip(run.raw("image"), run.raw("caption"), strict=True)
    return [["what is ", Image.fromarray(image), f" a {caption}"] for image, caption in pairs]


def given(folder: Path, rows: list[list[Any]], instruction: str = "", **options: Any) -> dict[str, Any]:
    """The batch that the library's own processor makes of messages."""
    processor = T.AutoProcessor.from_pretrained(folder)
    images = [[part for part in row if not isinstance(part, str)] for row in rows]
    images = images if any(images) else None
    if processor.chat_template is None:
        texts = ["\n".join(["find the picture", *(p if isinstance(p, str) else "<image>" for p in row)]) for row in rows]
        return dict(processor(text=texts, images=images, padding=True, padding_side="right", return_tensors="pt"))
    system = [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
    chats = [
        [
            *system,
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in row
                ],
            },
        ]
        for row in rows
    ]
    return dict(
        processor.apply_chat_template(
            chats, tokenize=True, return_dict=True, return_tensors="pt", **options,
            processor_kwargs={"padding": True, "padding_side": "right"},
        )
    )  # fmt: skip


def library(folder: Path, dtype: torch.dtype, batch: dict[str, Any]) -> Any:
    model = T.AutoModel.from_pretrained(folder, attn_implementation="eager").eval().to(dtype)
    batch = {name: each.to(dtype) if each.is_floating_point() else each for name, each in batch.items()}
    with torch.no_grad():
        return model(**batch, output_hidden_states=True, output_attentions=True)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("dtype", "near"), PRECISIONS)
def test_images_between_texts(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str,
    dtype: torch.dtype, near: float,
) -> None:  # fmt: skip
    text = f"{{use: transformers_message, of: asked.message, hub: {folders[name]}}}"
    run = library_encoder(text, views=VIEWS, dtype=dtype, rows=4)
    batch = given(folders[name], asked(run), INSTRUCTION)
    real = batch["attention_mask"].bool()
    assert len(set(real.sum(1).tolist())) > 1
    theirs = library(folders[name], dtype, batch)
    states = theirs.last_hidden_state
    names = ["tokens", "layers.1", "layers.2"]
    found = run.encode([*names, "pooled", "ids"])
    for one, value in zip(names, [states, *theirs.hidden_states[1:]], strict=True):
        assert found[one].mask.equal(real), one
        torch.testing.assert_close(found[one].values[real], value[real], rtol=near, atol=near)
    assert found["ids"].values[real].equal(batch["input_ids"][real])
    last = states[torch.arange(6), real.sum(1) - 1]
    torch.testing.assert_close(found["pooled"], last, rtol=near, atol=near)
    declared_as_made(run, found)
    maps = library_encoder(text, views=VIEWS, dtype=dtype).encode(["attention.2"])["attention.2"]
    seen = real[:, None, :, None] & real[:, None, None, :]
    torch.testing.assert_close(maps * seen, theirs.attentions[1] * seen, rtol=near, atol=near)
    mean = library_encoder(text.replace("}", ", pool: mean}"), views=VIEWS, dtype=dtype, rows=3).encode(["pooled"])
    weight = real.to(dtype).unsqueeze(-1)
    torch.testing.assert_close(mean["pooled"], (states * weight).sum(1) / weight.sum(1), rtol=near, atol=near)
    assert float(last.std()) > 1e-2
