"""Facts about every encoder: declared outputs are the real shapes, on the CPU, on meta and on fake tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmflow.plugin import Encoder, Encoding, TensorType, Tokens
from mmflow.plugin.registry import registry

IMAGE, TEXT = TensorType("image", size=(40, 50, 3)), TensorType("text")
SERIES = TensorType("series", size=(21, 6))
VECTOR = TensorType("vector", size=(8,))
WORDS = TensorType("tokens", size=(None, 8), vocabulary=20)
PATCHES = TensorType("tokens", size=(6, 12))
GRID = TensorType("grid", size=(2, 3, 12))
CLASSES = VECTOR.with_(axes=("class",))

CASES: list[tuple[str, dict[str, Any], tuple[TensorType, ...]]] = [
    ("vit", {"size": 32, "width": 16, "depth": 2}, (IMAGE,)),
    ("vit", {"size": 32, "patch": 16, "width": 16, "depth": 1, "pool": "cls", "channels": 1}, (IMAGE,)),
    ("resnet", {"size": 33, "depth": 18}, (IMAGE,)),
    ("resnet", {"size": 9, "depth": 50, "stem": "small", "norm": "group"}, (IMAGE,)),
    ("convnet4", {"size": 28, "channels": 1, "width": 8}, (IMAGE,)),
    ("convnet4", {"size": 40, "width": 8, "pool": "mean", "norm": "group"}, (IMAGE,)),
    ("convnet1d", {"width": 8, "depth": 3}, (SERIES,)),
    ("convnet1d", {"width": 8, "depth": 2, "pool": "max", "normalize": False}, (SERIES.with_(size=(None,)),)),
    *(
        ("text_transformer", {"width": 8, "depth": 2, "pool": pool, "causal": causal, "tokenizer": "byte"}, (TEXT,))
        for pool in ("mean", "last", "eos", "cls")
        for causal in (False, True)
    ),
    ("caption_decoder", {"depth": 1}, (WORDS, PATCHES)),
    ("caption_decoder", {"depth": 1, "tokenizer": "byte", "width": 16}, (TEXT, GRID, PATCHES)),
    ("linear", {"dim": 5}, (VECTOR,)),
    ("linear", {"dim": 5, "l2norm": True}, (WORDS,)),
    ("linear", {"dim": 5, "bias": False}, (GRID,)),
    ("mlp", {"dims": [16, 5], "norm": "layer", "dropout": 0.1}, (VECTOR,)),
    ("mlp", {"dims": [16, 5], "norm": "batch", "activation": "relu"}, (VECTOR,)),
    ("mlp", {"dims": [16, 5], "norm": "batch"}, (WORDS,)),
    ("mlp", {"dims": [16, 5], "norm": "batch"}, (GRID,)),
    ("l2norm", {}, (VECTOR,)),
    ("l2norm", {}, (PATCHES,)),
    ("l2norm", {}, (GRID,)),
    ("attention_pool", {"queries": 3, "width": 8, "heads": 2}, (PATCHES,)),
    ("attention_pool", {}, (GRID,)),
    ("cross_attention", {"layers": 1}, (WORDS, PATCHES, GRID)),
    ("cross_attention", {"layers": 1, "pool": "mean"}, (WORDS, VECTOR.with_(size=(12,)))),
    ("concat", {}, (VECTOR, VECTOR.with_(size=(3,)))),
    ("stack", {}, (VECTOR, VECTOR.with_(axes=("sample", "copy"), groups=(2,)))),
    ("members", {}, (VECTOR.with_(axes=("sample", "frame"), groups=(3,)),)),
    ("members", {"pool": "max"}, (VECTOR.with_(axes=("sample", "object"), groups=(3,)),)),
    ("scores", {}, (VECTOR, CLASSES)),
    ("scores", {"score": "maxsim"}, (PATCHES, PATCHES.with_(axes=("class",)))),
]
RAW = [case for case in CASES if case[2][0].modality in ("image", "text")]
ROWS, LENGTH, NUMBER_OF_CLASSES = 4, 5, 3
ids = [f"{use}-{i}" for i, (use, _, _) in enumerate(CASES)]


def declared(use: str, fields: dict[str, Any], inputs: tuple[TensorType, ...]) -> Encoder:
    component = registry().get("encoder", use)
    encoder = component.model_validate({"of": [f"in{i}" for i in range(len(inputs))], **fields})
    assert isinstance(encoder, Encoder)
    return encoder


def raw(encoder: Encoder, given: TensorType) -> Any:
    """A value of the declared type, on the device and in the mode that is in force."""
    rows = ROWS if given.axes[0] == "sample" else NUMBER_OF_CLASSES
    if given.modality == "image":
        size, channels = encoder.size, encoder.channels  # type: ignore[attr-defined]
        return torch.rand(rows, channels, size, size)
    mask = torch.ones(rows, LENGTH, dtype=torch.bool)
    if given.modality == "text":
        return Tokens(torch.ones(rows, LENGTH, dtype=torch.int64), mask)
    shape = (rows, *given.groups, *(LENGTH if n is None else n for n in given.size))
    values = torch.randn(*(int(n or 0) for n in shape))
    if given.modality == "tokens":
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))
    return values


def run(encoder: Encoder, module: torch.nn.Module | None, inputs: tuple[TensorType, ...]) -> dict[str, Any]:
    values = [raw(encoder, given) for given in inputs]
    if module is not None:
        taps = {"taps": encoder.taps()} if "taps" in inspect.signature(module.forward).parameters else {}
        result = module(*values, **taps)
    elif encoder.use == "scores":
        wrapped = [Encoding({"tokens" if isinstance(v, Tokens) else "pooled": v}) for v in values]
        result = encoder.apply(*wrapped, encoder.score, 0.5)  # type: ignore[attr-defined]
    elif encoder.use == "members":
        result = encoder.apply(Encoding({"pooled": values[0]}))  # type: ignore[attr-defined]
    else:
        result = encoder.apply(*values)  # type: ignore[attr-defined]
    return result if isinstance(result, dict) else {"pooled": result}


def compare(outputs: dict[str, Any], types: Mapping[str, TensorType]) -> None:
    assert set(outputs) == set(types)
    for name, value in outputs.items():
        tensor = value.values if isinstance(value, Tokens) else value
        kind = types[name]
        own = (ROWS, *kind.groups, *kind.size)
        assert len(tensor.shape) == len(own), name
        for found, size in zip(tensor.shape, own, strict=True):
            assert size is None or found == size, (name, tuple(tensor.shape), own)
        if isinstance(value, Tokens):
            assert tuple(value.mask.shape) == tuple(tensor.shape[:2])
        assert str(tensor.dtype) == f"torch.{kind.dtype}"


def traced(use: str, fields: dict[str, Any]) -> list[str]:
    if use == "scores":
        # No weights to build on meta; and a kernel of tokens chooses its tiles by values.
        return ["cpu"] if "score" in fields else ["cpu", "fake"]
    return ["cpu", "meta", "fake"]


@pytest.mark.parametrize(
    ("case", "where"),
    [
        pytest.param(c, where, id=f"{name}-{where}")
        for c, name in zip(CASES, ids, strict=True)
        for where in traced(*c[:2])
    ],
)
def test_declared_outputs_are_the_real_shapes(case: Any, where: str) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    assert not encoder.untraceable
    types = encoder.outputs(*inputs)
    torch.manual_seed(0)
    with torch.device("meta" if where == "fake" else where):
        module = encoder.build(*inputs, state={}) if encoder.has_weights else None
        if where != "fake":
            compare(run(encoder, module, inputs), types)
            return
    with FakeTensorMode(allow_non_fake_inputs=True):
        compare(run(encoder, module.to_empty(device="cpu") if module is not None else None, inputs), types)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_declaration_can_be_written_out_and_read_again(case: Any) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    again = type(encoder).model_validate({k: v for k, v in encoder.declared().items() if k != "use"})
    assert again == encoder


@pytest.mark.parametrize("case", RAW, ids=[c[0] for c in RAW])
def test_a_row_encoder_sees_one_row(case: Any) -> None:
    """In evaluation no row depends on another, batch norm included."""
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    torch.manual_seed(0)
    module = encoder.build(*inputs, state={}).eval().double()
    values = [raw(encoder, given) for given in inputs]
    values = [v if isinstance(v, Tokens) and v.values.dtype == torch.int64 else _double(v) for v in values]
    whole = module(*values)
    alone = module(*[Tokens(v.values[1:2], v.mask[1:2]) if isinstance(v, Tokens) else v[1:2] for v in values])
    for name, value in whole.items():
        one, other = (v.values if isinstance(v, Tokens) else v for v in (value, alone[name]))
        torch.testing.assert_close(one[1:2], other)


def _double(value: Any) -> Any:
    return Tokens(value.values.double(), value.mask) if isinstance(value, Tokens) else value.double()


def test_no_declaration_imports_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from mmflow.plugin.registry import registry\n"
        "r = registry()\n"
        "mine = ('mmflow_encoders', 'mmflow_objectives', 'mmflow_scores', 'mmflow_memories', 'mmflow_optim')\n"
        "[r.get(x.kind, x.name) for x in r.registrations() if x.path.startswith(mine)]\n"
        "print([m for m in ('torch', 'numpy', 'torchvision', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
