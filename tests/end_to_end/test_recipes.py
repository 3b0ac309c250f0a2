"""Every spec on the page of recipes runs, with tiny models and data of that kind which the test writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmflow.flow.run import RunOptions, run_spec
from mmflow.spec import SpecError, load_text

pytest.importorskip("open_clip")
pytest.importorskip("timm")
pytest.importorskip("sentence_transformers")

from tests.plugins.mmflow_transformers import vision_language

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = {
    re.findall(r"^name: (.*)$", block, flags=re.MULTILINE)[0]: block
    for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
}
METRICS = {
    "fine-tuned-clip": {"before": "image_to_text_r1", "after": "text_to_image_r1"},
    "linear-probe": {"probe": "accuracy", "neighbors": "accuracy"},
    "adapted-sentences": {"retrieval": "question_to_answer_r1_d16"},
    "vision-language": {"retrieval": "query_to_image_r1"},
    "reranked": {"both": "r5"},
    "vectors-at-hand": {"retrieval": "image_to_text_r1", "clusters": "nmi"},
}
WORDS = ["a", "red", "green", "blue", "square", "circle", "what", "is", "it"]


def pictures(root: Path, draw: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Noisy images of one color each, with what it is."""
    found = []
    for number in range(count):
        color = number % 3
        image = draw.integers(0, 80, (32, 32, 3), dtype=np.uint8)
        image[..., color] += 150
        name = f"{number:03}.png"
        root.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
        found.append((name, ("red", "green", "blue")[color]))
    return found


def table(path: Path, heads: str, rows: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([heads, *(",".join(row) for row in rows)]) + "\n")


def clip(folder: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 1},
    }
    folder.mkdir()
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))


def backbone(folder: Path) -> None:
    import timm

    model = timm.create_model("test_vit", pretrained=False, img_size=32)
    model.pretrained_cfg["input_size"] = (3, 32, 32)
    timm.models.save_for_hf(model, folder, model_args={"img_size": 32}, safe_serialization=True)


def sentences(folder: Path) -> None:
    import transformers
    from sentence_transformers import SentenceTransformer, models
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as pieces

    inner = folder.parent / "words"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(pieces.WordLevel({w: n for n, w in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(inner)  # fmt: skip
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, vocab_size=20
    )
    transformers.BertModel(config).save_pretrained(inner)
    modules = [models.Transformer(str(inner), max_seq_length=8), models.Pooling(32, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the page names."""
    torch.manual_seed(0)
    root, draw = tmp_path_factory.mktemp("recipes"), np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 24)):
        shown = pictures(root / "photos", draw, count)
        table(root / "photos" / f"{split}.csv", "image,caption", [(name, f"a {color} square") for name, color in shown])
        colors = [("red", "green", "blue")[number % 3] for number in range(count)]
        table(root / "faq" / f"{split}.csv", "question,answer", [(f"what is {c}", f"a {c} circle") for c in colors])
        for color in ("red", "green", "blue"):
            own = root / "flowers" / split / color
            pictures(own, draw, 63)
            for place, file in enumerate(sorted(own.iterdir())):
                if place % 3 != ("red", "green", "blue").index(color):
                    file.unlink()
    make: dict[str, Callable[[Path], None]] = {"clip": clip, "backbone": backbone, "sentences": sentences}
    make["qwen-vl"] = vision_language.qwen
    for name, maker in make.items():
        maker(root / name)
    vectors = draw.normal(size=(30, 8)).astype(np.float32)
    near = vectors + 0.1 * draw.normal(size=vectors.shape).astype(np.float32)
    np.savez(root / "vectors.npz", image_vectors=vectors, text_vectors=near, label=np.arange(30) % 3)
    return root


@pytest.mark.parametrize("name", BLOCKS)
def test_the_recipe_runs(name: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS[name].splitlines()) < 20
    monkeypatch.chdir(here)
    torch.set_num_threads(1)
    sizes: dict[str, Any] = {"fine-tuned-clip": ["train.batch_size=16", "train.micro_batch_size=8"]}
    sizes["adapted-sentences"] = sizes["reranked"] = ["train.batch_size=8"]
    sizes["vision-language"] = ["train.batch_size=8", "train.micro_batch_size=4"]
    options = RunOptions(store=str(tmp_path), engine="local", device="cpu", workers=0)
    outcome = run_spec(load_text(BLOCKS[name], overrides=sizes.get(name, ())), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    for stage, metric in METRICS[name].items():
        assert metric in {found["name"] for found in outcome.metrics[stage]}, outcome.metrics[stage]


def test_every_recipe_is_tried() -> None:
    assert BLOCKS.keys() == METRICS.keys()


def test_a_field_without_vectors_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    with pytest.raises(SpecError, match="`label`, a field of label, expected an encoder, or a field with vectors"):
        load_text(BLOCKS["vectors-at-hand"], overrides=["eval.clusters.of=label"])
