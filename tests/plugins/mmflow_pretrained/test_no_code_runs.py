"""No code of a model folder runs, nothing is asked on the terminal, and no pickle is loaded, whatever the files say."""

from __future__ import annotations

import ast
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from mmflow_open_clip.encoder import OpenClipEncoder
from mmflow_open_clip.image import OpenClipImage
from mmflow_open_clip.tokenizer import OpenClipTokenizer
from mmflow_pretrained.reading import reading
from mmflow_sentence_transformers.encoder import SentenceEncoder
from mmflow_timm.encoder import TimmEncoder
from mmflow_timm.image import TimmImage
from mmflow_transformers.audio import HfAudio
from mmflow_transformers.encoder import TransformersEncoder, TransformersVideo
from mmflow_transformers.image import HfImage
from mmflow_transformers.tokenizer import HfTokenizer

from mmflow.plugin import ComponentError, Encoder, TensorType

pytestmark = pytest.mark.process

MMFLOW = Path(__file__).parents[3] / "mmflow"
PLUGINS = Path(__file__).parents[3] / "plugins"
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

CODE = """
from pathlib import Path
Path({marker!r}).write_text("code of the folder ran")
from transformers import PreTrainedTokenizer, BaseImageProcessor, FeatureExtractionMixin
class Own(PreTrainedTokenizer): ...
class OwnImage(BaseImageProcessor): ...
class OwnSound(FeatureExtractionMixin): ...
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists where code of the folder has run."""
    return tmp_path / "ran"


@pytest.fixture
def evil(tmp_path: Path, marker: Path) -> Path:
    """A folder whose every configuration asks for classes of its own and for trust in them."""
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    asked = {"trust_remote_code": True, "auto_map": {
        "AutoTokenizer": ["own.Own", None], "AutoImageProcessor": "own.OwnImage", "AutoConfig": "own.Own",
        "AutoFeatureExtractor": "own.OwnSound", "AutoProcessor": "own.Own",
    }}  # fmt: skip
    configurations = {
        "config.json": {"model_type": "own"},
        "tokenizer_config.json": {"tokenizer_class": "Own"},
        "preprocessor_config.json": {"image_processor_type": "OwnImage", "feature_extractor_type": "OwnSound"},
        "processor_config.json": {"processor_class": "Own"},
    }
    for name, configuration in configurations.items():
        (folder / name).write_text(json.dumps({**configuration, **asked}))
    text = {"hf_tokenizer_name": "x", "context_length": 8, "tokenizer_kwargs": {"trust_remote_code": True}}
    clip = {"embed_dim": 8, "vision_cfg": {"image_size": 16}, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": clip, "preprocess_cfg": {}, **asked}))
    return folder


LOADERS: list[tuple[str, Callable[[str], Any]]] = [
    ("tokenizer", lambda hub: HfTokenizer(hub=hub).size(None)),
    ("tokenizer", lambda hub: OpenClipTokenizer(hub=hub).size(None)),
    ("image processor", lambda hub: HfImage(hub=hub).size()),
    ("feature extractor", lambda hub: HfAudio(hub=hub).result(TensorType("audio"))),
]


@pytest.mark.parametrize(("wanted", "load"), LOADERS)
def test_classes_of_a_folder_are_refused(
    evil: Path, marker: Path, wanted: str, load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*prompt: object) -> str:
        raise AssertionError(f"asked {prompt}")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(ComponentError, match=f"the {wanted} of .* mmflow never runs") as caught:
        load(str(evil))
    assert wanted in caught.value.hint
    assert not marker.exists()


ENCODERS: list[tuple[type[Encoder], dict[str, Any], str]] = [
    (TransformersEncoder, {}, "text"),
    (TransformersVideo, {}, "video"),
    (TimmEncoder, {}, "image"),
    (OpenClipEncoder, {"tower": "text"}, "text"),
    (OpenClipEncoder, {"tower": "image"}, "image"),
    (SentenceEncoder, {}, "text"),
]


@pytest.mark.parametrize(("kind", "fields", "reads"), ENCODERS)
def test_encoders_run_no_code_of_a_folder(
    evil: Path, marker: Path, kind: type[Encoder], fields: dict[str, Any], reads: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def asked(*prompt: object) -> str:
        raise AssertionError(f"asked {prompt}")

    monkeypatch.setattr("builtins.input", asked)
    # Modules of the folder, and code beside a configuration that names classes of the folder.
    stages = [{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]
    (evil / "modules.json").write_text(json.dumps(stages))
    (evil / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {}, "trust_remote_code": True}))
    made = kind(of="one", hub=str(evil), **fields)  # type: ignore[arg-type]
    given = TensorType(reads, ("sample", "frame") if reads == "video" else ("sample",))
    # What open_clip has itself is described; the tokenizer that the folder asks for is refused.
    with suppress(ComponentError):
        made.outputs(given)
    if reads == "text":
        with pytest.raises(ComponentError):
            made.preprocess(0, "a", {})
    with pytest.raises(ComponentError):
        made.build(given, state={})
    assert not marker.exists()


@pytest.mark.parametrize("load", [lambda hub: TimmImage(hub=hub).size(), lambda hub: OpenClipImage(hub=hub).size()])
def test_image_settings_are_read_beside_code(evil: Path, marker: Path, load: Callable[[str], Any]) -> None:
    assert len(load(str(evil))) == 2
    assert not marker.exists()


SPEC = """
mmflow: 1
name: e
data: {{test: {{use: shapes, split: test, size: 8, pixels: 16}}}}
encoders:
  text: {{use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, tokenizer: {{use: {use}, hub: {hub}}}}}
eval: {{geometry: {{use: geometry, data: test, of: [text, text]}}}}
"""


@pytest.mark.parametrize(("command", "use"), [("check", "hf_tokenizer"), ("run", "open_clip_tokenizer")])
def test_the_command_line_neither_asks_nor_runs_code(
    tmp_path: Path, evil: Path, marker: Path, command: str, use: str
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.format(use=use, hub=evil))
    done = subprocess.run(
        [sys.executable, "-m", "mmflow", command, "spec.yaml"], cwd=tmp_path, input="y\n" * 20, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    words = " ".join((done.stdout + done.stderr).split())
    assert "mmflow never runs" in words
    assert "[y/N]" not in words
    assert "Traceback" not in words
    assert not marker.exists()


def words(folder: Path) -> Path:
    """A tokenizer of a class that transformers itself has."""
    pieces = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "red": 2}, unk_token="[UNK]"))
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_a_class_of_the_library_is_used_beside_code(tmp_path: Path, evil: Path, marker: Path) -> None:
    folder = words(tmp_path / "words")
    stored = json.loads((folder / "tokenizer_config.json").read_text())
    asked = {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}, "trust_remote_code": True}
    (folder / "tokenizer_config.json").write_text(json.dumps({**stored, **asked}))
    (folder / "own.py").write_text((evil / "own.py").read_text())
    (folder / "open_clip_config.json").write_text((evil / "open_clip_config.json").read_text())
    assert HfTokenizer(hub=str(folder)).encode("a red", {}, length=4) == [1, 2]
    assert OpenClipTokenizer(hub=str(folder)).size(None) == 3
    assert not marker.exists()


def test_a_chat_template_is_data(tmp_path: Path, marker: Path) -> None:
    folder = words(tmp_path)
    template = "{% for c in ''.__class__.__mro__ %}{{ c.__subclasses__() }}{% endfor %}{{ undefined_name() }}"
    (folder / "chat_template.jinja").write_text(template)
    assert HfTokenizer(hub=str(folder)).encode("a red", {}, length=4) == [1, 2]


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_pickled_checkpoint_is_refused(tmp_path: Path, marker: Path) -> None:
    torch.save({"weight": torch.ones(2), "other": Attack(marker)}, tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(marker), protocol=2))
    for name in ("model.pt", "plain.pt"):
        with pytest.raises(ComponentError, match=r"finds no model"), reading("some_library", "model", name):
            torch.load(tmp_path / name, weights_only=False)
    assert not marker.exists()
    torch.save({"weight": torch.ones(2)}, tmp_path / "tensors.pt")
    with reading("some_library", "model", "tensors.pt"):
        assert torch.load(tmp_path / "tensors.pt", weights_only=False)["weight"].tolist() == [1, 1]


def test_the_process_is_unchanged_after_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    before = (input, sys.stdin, dynamic_module_utils.get_class_in_module, dict(os.environ))
    with reading("a", "b", "outer"), reading("a", "b", "inner"):
        assert sys.stdin.read() == ""
    with pytest.raises(ComponentError, match="never runs"), reading("a", "b", "c"):
        input("may I?")
    assert (input, sys.stdin, dynamic_module_utils.get_class_in_module, dict(os.environ)) == before


GUARDED = {"from_pretrained", "create_model", "create_model_and_transforms", "create_model_from_pretrained",
           "get_tokenizer", "get_model_config", "hf_hub_download", "snapshot_download", "SentenceTransformer",
           "load_model_config_from_hf", "load_checkpoint", "load_state_dict_from_url"}  # fmt: skip
UNSAFE = {("torch", "load"), ("pickle", "load"), ("pickle", "loads"), ("joblib", "load"), ("marshal", "loads")}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: str(p.relative_to(PLUGINS)))
def test_every_loader_is_called_inside_reading(path: Path) -> None:
    """Calls that read model files are written inside `with reading(...)`, or in a helper that is called there."""
    tree = ast.parse(path.read_text())
    inside: set[ast.AST] = set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(_called(item.context_expr) == "reading" for item in node.items):
            inside |= set(ast.walk(node))
            names |= {name for call in ast.walk(node) if isinstance(call, ast.Call) and (name := _called(call))}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            inside |= set(ast.walk(node))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _called(node)
        if name == "SentenceTransformer" and any(keyword.arg == "modules" for keyword in node.keywords):
            # Of modules at hand, which reads no file.
            continue
        assert name not in GUARDED or node in inside, f"line {node.lineno}: {name} outside of `reading`"
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            assert (node.func.value.id, name) not in UNSAFE, f"line {node.lineno}: {name} may run code of a file"
        for keyword in node.keywords:
            if keyword.arg in ("trust_remote_code", "allow_pickle"):
                constant = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                assert constant, f"line {node.lineno}: {keyword.arg} must be False"
            if keyword.arg == "weights_only":
                assert isinstance(keyword.value, ast.Constant), f"line {node.lineno}: weights_only must be True"
                assert keyword.value.value is True


@pytest.mark.parametrize("path", sorted(MMFLOW.rglob("*.py")), ids=lambda p: str(p.relative_to(MMFLOW)))
def test_nothing_that_was_stored_is_a_pickle(path: Path) -> None:
    """Stored results, exported models and vectors are arrays, tables and JSON. What passes between the processes of one
    run, and the checks of authors, may be pickled: it is no file of anybody's."""
    if path.relative_to(MMFLOW).parts[0] == "testing":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            assert (owner, _called(node)) not in UNSAFE, f"line {node.lineno}: {_called(node)} may run code of a file"
            if (owner, _called(node)) == ("np", "load"):
                allowed = [one.value for one in node.keywords if one.arg == "allow_pickle"]
                assert [isinstance(one, ast.Constant) and one.value is False for one in allowed] == [True]


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
