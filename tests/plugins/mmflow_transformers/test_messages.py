"""Vision-language models give for messages what transformers gives for them, by its own processor and template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmflow_objectives.prediction.caption_nll import CaptionNLL
from mmflow_transformers.message import WriteMessage, message
from PIL import Image

import mmflow
from mmflow.flow.run import RunOptions, run_spec
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
        texts = [
            "\n".join(["find the picture", *(p if isinstance(p, str) else "<image>" for p in row)]) for row in rows
        ]
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


def test_messages_with_and_without_images_share_a_batch(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    image, other = (Image.new("RGB", size, color) for size, color in (((20, 36), "red"), ((40, 24), "blue")))
    rows = [[image, "a red circle"], ["the small square"], [other], [other, "and", image, "to"]]
    for name in ("qwen2_vl", "llava"):
        run = library_encoder(f"{{use: transformers_message, of: caption, hub: {folders[name]}}}")
        encoder: Any = run.spec.encoders["x"]
        instruction = INSTRUCTION if name == "llava" else ""
        parts = [[p if isinstance(p, str) else np.asarray(p) for p in row] for row in rows]
        messages = [encoder.preprocess(0, message(instruction, row), {}) for row in parts]
        with torch.no_grad():
            found = run.module(messages)["pooled"]
        for row, vector in zip(rows, found, strict=True):
            theirs = library(folders[name], torch.float64, given(folders[name], [row]))
            torch.testing.assert_close(vector, theirs.last_hidden_state[0, -1], rtol=1e-6, atol=1e-6)


def test_an_image_or_a_text_alone_is_a_message(folders: dict[str, Path], library_encoder: Callable[..., Any]) -> None:
    folder = folders["qwen2_5_vl"]
    for field, make in (("image", Image.fromarray), ("caption", str)):
        run = library_encoder(
            f"{{use: transformers_message, of: {field}, hub: {folder}, generation_prompt: true}}", rows=4
        )
        batch = given(folder, [[make(value)] for value in run.raw(field)], add_generation_prompt=True)
        theirs = library(folder, torch.float64, batch)
        last = theirs.last_hidden_state[torch.arange(6), batch["attention_mask"].sum(1) - 1]
        torch.testing.assert_close(run.encode(["pooled"])["pooled"], last, rtol=1e-6, atol=1e-6)


def test_training_is_the_librarys_own_at_the_address_of_the_node(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    folder = folders["llava"]
    run = library_encoder(f"{{use: transformers_message, of: asked.message, hub: {folder}}}", views=VIEWS)
    assert run.spec.encoders["x"].draws()
    model = T.AutoModel.from_pretrained(folder).double().train()
    batch = given(folder, asked(run))
    batch["pixel_values"] = batch["pixel_values"].double()
    torch.manual_seed(address(0, "model", 3, "encoders.x", -1))
    states = model(**batch).last_hidden_state
    expected = states[torch.arange(6), batch["attention_mask"].sum(1) - 1]
    torch.testing.assert_close(run.train()["pooled"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["qwen2_vl", "llava"])
def test_logits_and_loss_are_the_librarys(
    folders: dict[str, Path], library_encoder: Callable[..., Any], declared_as_made: Callable[..., None], name: str
) -> None:
    text = f"{{use: transformers_message, of: asked.message, hub: {folders[name]}, lm_head: true}}"
    run = library_encoder(text, views=VIEWS)
    batch = given(folders[name], asked(run), INSTRUCTION)
    real = batch["attention_mask"].bool()
    model = T.AutoModelForImageTextToText.from_pretrained(folders[name]).eval().double()
    batch["pixel_values"] = batch["pixel_values"].double()
    with torch.no_grad():
        theirs = model(**batch, labels=batch["input_ids"].masked_fill(~real, -100))
    found = run.encode(["logits", "ids", "pooled"])
    torch.testing.assert_close(found["logits"].values[real], theirs.logits[real], rtol=1e-6, atol=1e-6)
    loss, weight = CaptionNLL(of="x.logits", targets="x.ids").compute(found["logits"], found["ids"])  # type: ignore[arg-type]
    torch.testing.assert_close(((loss * weight).sum() / weight.sum()).float(), theirs.loss, rtol=1e-6, atol=1e-6)
    declared_as_made(run, found)
    plain = library_encoder(text.replace(", lm_head: true", ""), views=VIEWS).encode(["pooled"])
    torch.testing.assert_close(found["pooled"], plain["pooled"], rtol=1e-9, atol=1e-9)


LEARNS = """
mmflow: 1
name: query-to-image
data:
  train: {{use: shapes, split: train, size: 192, {kind}}}
  test: {{use: shapes, split: test, size: 64, {kind}}}
views:
  asked: {{of: caption, apply: [{{use: message, instruction: find the picture}}]}}
  shown: {{of: image, apply: [{{use: message, instruction: describe the picture}}]}}
encoders:
  query: {{use: transformers_message, of: asked.message, hub: {hub}, lora: {{rank: 8}}}}
  image: {{use: same, weights: query, of: shown.message}}
losses: {{align: {{use: infonce, of: [query, image], temperature: 0.05}}}}
train: {{data: train, steps: 60, batch_size: 24, optimizer: {{use: adamw, lr: 3e-3}}}}
eval:
  before: {{use: retrieval, data: test, of: [query, image], at: [1], match: color, model: init}}
  after: {{use: retrieval, data: test, of: [query, image], at: [1], match: color}}
"""
KIND = "pixels: 16, objects: 1, shapes: [circle, square], colors: [red, green, blue]"


def test_a_tiny_model_with_adapters_learns_to_find_images(folders: dict[str, Path], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    spec, store = load_text(LEARNS.format(hub=folders["qwen2_vl"], kind=KIND)), str(tmp_path / "store")
    outcome = run_spec(spec, RunOptions(store=store, engine="local", device="cpu", workers=0))
    assert outcome.exit_code == 0, outcome.outcome.notes
    found = {
        stage: {m["name"]: m for m in outcome.metrics[stage]}["query_to_image_r1"] for stage in ("before", "after")
    }
    assert found["before"]["value"] < 0.5
    assert found["after"]["value"] > 0.75
    assert found["after"]["value"] > 2 * found["after"]["chance"]
    loaded = mmflow.load("latest", store=store, device="cpu")
    reader = spec.data["test"].open()
    Image.fromarray(reader[0]["image"]).save(tmp_path / "0.png")
    vectors = loaded.encode(image=[tmp_path / "0.png"], query=[reader[0]["caption"]])
    assert vectors["image"].shape == vectors["query"].shape == (1, 32)
    again = loaded.encode(image=[reader[0]["image"], reader[1]["image"]])
    torch.testing.assert_close(again["image"][:1], vectors["image"], rtol=1e-5, atol=1e-5)


def test_a_written_out_model_needs_the_folder_of_a_processor(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    config = (folders["llava"] / "config.json").read_text()
    run = library_encoder(
        f"{{use: transformers_message, of: image, config: {config}, processor: {folders['llava']}, pool: mean}}"
    )
    assert run.encode(["pooled"])["pooled"].shape == (6, 32)
    with pytest.raises(SpecError, match="needs `processor`, the folder of one"):
        library_encoder(f"{{use: transformers_message, of: image, config: {config}}}")


def test_a_message_is_written_in_the_order_of_its_places() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    write = WriteMessage(text="{image} is {image} a {caption}", instruction="say")
    _, added = write.apply({"image": image, "caption": "square"}, None)
    assert added["message"]["instruction"] == "say"
    first, middle, second, last = added["message"]["parts"]
    assert first is second is image
    assert (middle, last) == (" is ", " a square")
    _, without = write.apply({"caption": "square"}, None)
    assert without["message"]["parts"] == [" is  a square"]
    _, alone = WriteMessage().apply("square", None)
    assert alone["message"] == {"instruction": "", "parts": ["square"]}


@pytest.mark.parametrize(
    ("encoder", "views", "says"),
    [
        ("hub: {llava}, of: label", "{}", "cannot read `label`"),
        ("hub: {llava}, of: m.message", "{m: {of: label, apply: [message]}}", "message takes single images and texts"),
        ("config: {model_type: bert}, processor: {llava}, of: image", "{}", "bert is no model of images and texts"),
        ("hub: {llava}, of: m.message", "{m: {of: image, apply: [{use: message, text: '{}'}]}}", "name of a field"),
    ],
)
def test_what_cannot_be_a_message_is_told(
    folders: dict[str, Path], library_encoder: Callable[..., Any], encoder: str, views: str, says: str
) -> None:
    written = encoder.replace("{llava}", str(folders["llava"]))
    with pytest.raises(SpecError, match=says) as caught:
        library_encoder(f"{{use: transformers_message, {written}}}", views=views)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match=r"`text` has no place for image: \{image\}"):
        WriteMessage(text="{imgae} {caption}").apply({"image": None, "caption": ""}, None)


def test_members_of_a_group_are_messages_too(folders: dict[str, Path], library_encoder: Callable[..., Any]) -> None:
    """Each copy as if it stood alone."""
    text, write = f"of: m.message, hub: {folders['llava']}}}", "{use: message, instruction: find}"
    one = library_encoder(f"{{use: transformers_message, {text}", views=f"{{m: {{of: image, apply: [{write}]}}}}")
    views = f"{{m: {{of: image, apply: [{write}], copies: 2}}}}"
    two = library_encoder(f"{{use: transformers_message, {text}", views=views, overrides=["losses.l.of=x.1"], rows=4)
    found = two.encode(["pooled"])["pooled"]
    assert found.shape == (6, 2, 32)
    alone = one.encode(["pooled"])["pooled"]
    torch.testing.assert_close(found, alone[:, None].expand(6, 2, 32))


def test_a_text_with_the_mark_of_an_image_is_refused(
    folders: dict[str, Path], library_encoder: Callable[..., Any]
) -> None:
    encoder: Any = library_encoder(
        f"{{use: transformers_message, of: caption, hub: {folders['llava']}}}"
    ).spec.encoders["x"]
    with pytest.raises(ValueError, match="the text holds <image>, which stands for an image"):
        encoder.preprocess(0, "a <image> circle", {})
    with pytest.raises(ValueError, match="a message of 130 ids, and the model reads 128"):
        encoder.preprocess(0, "a " * 130, {})
