"""Encoders in the form of another library: loaded by that library alone, in a process of its own, they give the vectors
of the evaluation; ONNX graphs give them in onnxruntime; merged adapters those of adapters beside the weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmflow
from mmflow.artifacts import ColumnArtifact
from mmflow.flow.run import RunOptions, run_spec
from mmflow.model.lora import merged
from mmflow.out.finding import FoundRun
from mmflow.out.model import LoadedModel
from mmflow.plugin import ComponentError
from mmflow.spec import load_text

pytest.importorskip("transformers")
pytest.importorskip("open_clip")
pytest.importorskip("sentence_transformers")
pytest.importorskip("onnxruntime")
DATA = """
mmflow: 1
name: out
data:
  train: {use: shapes, split: train, size: 24, pixels: 32}
  test: {use: shapes, split: test, size: 7, pixels: 32}
"""
TRAIN = """
train: {{data: train, steps: 3, batch_size: 8, optimizer: {{use: adamw, lr: 1e-2}}}}
stages: {{vectors: {{use: embed, data: test, of: [{of}], model: train}}}}
"""
pytestmark = [pytest.mark.slow, pytest.mark.process]

ALONE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("mmflow"):
            raise ImportError("mmflow is not here")
sys.meta_path.insert(0, Nothing())
import json, numpy as np
from PIL import Image
rows = json.load(open("rows.json"))
raw_texts = [row["caption"] for row in rows]
raw_images = [Image.open(row["image"]) for row in rows]
kept = {}
"""


ENTRIES = """
encoders:
  clip_image: {{use: transformers, tower: image, of: image, hub: {clip}}}
  clip_text: {{use: transformers, tower: text, of: caption, hub: {clip}, lora: {{rank: 2}}}}
  siglip_image: {{use: transformers, tower: image, of: image, hub: {siglip}}}
  siglip_text: {{use: transformers, tower: text, of: caption, hub: {siglip}}}
  bert: {{use: transformers, of: caption, hub: {bert}, length: 6}}
  bert_mean: {{use: transformers, of: caption, hub: {bert}, pool: mean}}
  bert_cls: {{use: transformers, of: caption, hub: {bert}, pool: cls, head: l2norm}}
  bert_head: {{use: transformers, of: caption, hub: {bert}, pool: mean, head: {{use: linear, dim: 6, activation: tanh,
    l2norm: true}}}}
  qwen2: {{use: transformers, of: caption, hub: {qwen2}, head: {{use: linear, dim: 6, bias: false}}, lora: {{rank: 2}}}}
  vit: {{use: transformers, of: image, hub: {vit}, pool: mean}}
  sentence: {{use: sentence_transformers, of: caption, hub: {sentences}, lora: {{rank: 2}}}}
  asked: {{use: sentence_transformers, of: caption, hub: {sentences}, prompt: query, head: {{use: linear, dim: 6}}}}
  open_image: {{use: open_clip, tower: image, of: image, hub: {open_clip}}}
  open_text: {{use: open_clip, tower: text, of: caption, hub: {open_clip}, lora: {{rank: 2}}}}
  onnx_image: {{use: timm, of: image, config: {{architecture: test_vit}}, size: 32, head: {{use: linear, dim: 8}},
    lora: {{rank: 2}}}}
  onnx_text: {{use: transformers, of: caption, hub: {bert}, pool: mean, head: {{use: linear, dim: 8}},
    lora: {{rank: 2}}}}
  onnx_both: {{use: product, of: [onnx_image, onnx_text], dim: 8}}
losses:
  clip: {{use: infonce, of: [clip_image, clip_text]}}
  siglip: {{use: infonce, of: [siglip_image, siglip_text]}}
  open: {{use: infonce, of: [open_image, open_text]}}
  onnx: {{use: infonce, of: [onnx_image, onnx_text]}}
  other: {{use: infonce, of: [onnx_both, onnx_text]}}
"""
APART = ("bert", "bert_mean", "bert_cls", "bert_head", "qwen2", "vit", "sentence", "asked")
FORMS = {
    "transformers": (("clip_image", "clip_text"), ("siglip_image", "siglip_text"), ("bert",), ("bert_mean",), ("vit",)),
    "sentence_transformers": (("bert_mean",), ("bert_cls",), ("bert_head",), ("qwen2",), ("sentence",), ("asked",)),
    "open_clip": (("open_image", "open_text"), ("open_image",)),
}
Found = tuple[LoadedModel, dict[str, torch.Tensor], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def trained(models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One run of all of them for three steps: the model, the vectors of an evaluation, and the rows behind these."""
    torch.set_num_threads(1)
    names = ("clip", "siglip", "bert", "qwen2", "vit", "sentences", "open_clip")
    text = DATA + ENTRIES.format(**{name: models(name) for name in names})
    text += "".join(f"  {name}: {{use: uniformity, of: {name}}}\n" for name in APART)
    encoders = [
        *APART,
        *(f"{name}_{side}" for name in ("clip", "siglip", "open", "onnx") for side in ("image", "text")),
    ]
    spec, store = load_text(text + TRAIN.format(of=", ".join(encoders))), str(tmp_path_factory.mktemp("store"))
    outcome = run_spec(spec, RunOptions(store=store, engine="local", device="cpu", workers=0))
    assert outcome.exit_code == 0, outcome.outcome.notes
    loaded = mmflow.load("latest", store=store, device="cpu", stage="train")
    assert isinstance(loaded.origin, FoundRun)
    evaluated = loaded.origin.result("vectors")
    columns = {name: ColumnArtifact(evaluated, name).read() for name in encoders}
    reader = spec.data["test"].open()
    rows = [dict(reader[place]) for place in range(len(reader))]
    stored = {n: torch.tensor(np.stack([of[row["id"]] for row in rows])) for n, of in columns.items()}
    return loaded, stored, rows


def usage(folder: Path) -> str:
    """The code that the card of a folder shows, for the rows of `ALONE`."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    images = "torch.stack([prepare(image) for image in images])"
    code = code.replace('prepare(Image.open("image.jpg")).unsqueeze(0)', images).replace('["a text"]', "texts")
    return code.replace("PATH OF THIS FOLDER", str(folder))


def test_each_library_alone_gives_the_vectors_of_the_evaluation(trained: Found, tmp_path: Path) -> None:
    """The code of the cards, in one new process where mmflow cannot be imported."""
    loaded, vectors, rows = trained
    written = []
    for number, row in enumerate(rows):
        Image.fromarray(row["image"]).save(tmp_path / f"{number}.png")
        written.append({"caption": row["caption"], "image": f"{number}.png"})
    (tmp_path / "rows.json").write_text(json.dumps(written))
    code, expected = ALONE, {}
    for form, groups in FORMS.items():
        for names in groups:
            label = f"{form}/{'+'.join(names)}"
            folder = mmflow.export(loaded, tmp_path / label.replace("/", "-"), names, form=form)
            code += "\nimages, texts = raw_images, raw_texts\n"
            parts = re.split(r"(?=^from transformers import Auto(?!Model))", usage(folder), flags=re.M)
            if form == "transformers":
                code += parts[0]
                for name, part in zip(names, parts[1:], strict=True):
                    code += f"{part}\nkept['{label}/{name}'] = vectors\n"
            elif form == "open_clip":
                code += f"{parts[0]}\nkept['{label}/open_image'], kept['{label}/open_text'] = images, texts\n"
            else:
                code += f"{parts[0]}\nkept['{label}/{names[0]}'] = vectors\n"
            expected |= {f"{label}/{name}": vectors[name] for name in names}
    (tmp_path / "run.py").write_text(
        f"{code}\nnp.savez('found.npz', **{{n: np.asarray(v) for n, v in kept.items()}})\n"
    )
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, check=True, timeout=600)
    found = np.load(tmp_path / "found.npz")
    for name, value in expected.items():
        same(found[name], value, 1e-5, name)


def same(found: np.ndarray, expected: torch.Tensor, near: float, name: str) -> None:
    torch.testing.assert_close(
        torch.from_numpy(found), expected, rtol=near, atol=near, msg=lambda said: f"{name}: {said}"
    )
    assert float(expected.std()) > 1e-3, name


def test_a_loaded_model_gives_the_very_vectors_of_the_evaluation(trained: Found, tmp_path: Path) -> None:
    """From raw values, also after mmflow's own export."""
    loaded, vectors, rows = trained
    fields = {name: loaded.inputs(name).fields[0] for name in vectors}
    again = mmflow.load(mmflow.export(loaded, tmp_path / "own", ["bert", "vit"]), device="cpu")
    for model, names in ((loaded, list(vectors)), (again, ["bert", "vit"])):
        found = model.encode(**{name: [row[fields[name]] for row in rows] for name in names})
        for name, value in found.items():
            assert torch.equal(value, vectors[name]), name


def test_graphs_in_onnxruntime(trained: Found, tmp_path: Path) -> None:
    """For any number of rows and any length of a text, also of an encoder that reads others."""
    import onnxruntime

    loaded, vectors, rows = trained
    folder = mmflow.export(loaded, tmp_path / "model", ["onnx_image", "onnx_text", "onnx_both"], form="onnx")
    for some in (rows, rows[:1]):
        images, texts = [row["image"] for row in some], [row["caption"] for row in some]
        both = {"image": images, "caption": texts}
        given = loaded.prepare(onnx_image=images, onnx_text=texts, onnx_both=both)
        expected = {**vectors, "onnx_both": loaded.encode(onnx_both=both)["onnx_both"]}
        for name, inputs in given.items():
            session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
            about = json.loads((folder / f"{name}.json").read_text())
            assert {each.name for each in session.get_inputs()} == set(inputs) == set(about["inputs"])
            (found,) = session.run(None, {called: value.numpy() for called, value in inputs.items()})
            same(found, expected[name][: len(some)], 1e-4, name)


def test_what_a_form_cannot_hold_is_told(trained: Found, tmp_path: Path) -> None:
    loaded, _, _ = trained
    for names, form, said in [
        (["onnx_image"], "open_clip", r"onnx_image \(timm\) cannot be written for open_clip"),
        (["onnx_text"], "transformers", "no place for the head of transformers"),
        (["clip_image", "siglip_text"], "transformers", "is one model"),
        (["bert_mean", "qwen2"], "sentence_transformers", "has one encoder"),
        ([], "keras", "no encoder of the model has the form 'keras'"),
        (["txt"], "onnx", "no encoder 'txt'"),
    ]:
        with pytest.raises(ComponentError, match=said):
            mmflow.export(loaded, tmp_path / "model", names, form=form)
        assert not (tmp_path / "model").exists()


def test_merged_adapters_are_those_beside(trained: Found) -> None:
    loaded, _, rows = trained
    loaded.modules.to("cpu", torch.float64)
    for name, field in (("onnx_image", "image"), ("qwen2", "caption"), ("open_text", "caption")):
        module = loaded.modules.modules.at(f"encoders.{name}")
        assert module is not None
        (column,) = loaded.columns_of(name, [row[field] for row in rows]).values()
        with torch.no_grad():
            beside, within = module(column["value"]), merged(module)(column["value"])
        torch.testing.assert_close(within["pooled"], beside["pooled"], rtol=1e-6, atol=1e-6)
        assert any("lora_B" in n and bool(p.any()) for n, p in module.named_parameters())
