"""Facts about every encoder: shapes as declared on the CPU, on meta and on fake tensors; rows that do not depend on
padding, on other rows or on their order; micro-batches that equal the whole; bounds on every number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from torch import Tensor

from mmflow.plugin import Encoder, TensorType
from mmflow.plugin.registry import registry
from mmflow.testing.checks.encoders import CHECKS, ROWS, EncoderCase
from mmflow.testing.samples import inputs_of

pytestmark = pytest.mark.slow

IMAGE, TEXT = TensorType("image", size=(40, 50, 3)), TensorType("text")
SERIES = TensorType("series", size=(21, 6))
RAGGED = TensorType("series", size=(None, 6))
VECTOR = TensorType("vector", size=(8,))
WORDS = TensorType("tokens", size=(None, 8), vocabulary=20)
PATCHES = TensorType("tokens", size=(6, 12))
GRID = TensorType("grid", size=(2, 3, 12))
CLASSES = VECTOR.with_(axes=("class",))
NAMES = WORDS.with_(axes=("class",))
LABEL = TensorType("label", dtype="int64", names=("a", "b", "c", "d"))
VIDEO = TensorType("video", ("sample", "frame"), (40, 50, 3), "uint8", groups=(3,))
NODES = TensorType("vector", ("node",), (8,))
EDGES = NODES.with_(size=(4,))
FRAMES = {"size": 16, "width": 8, "depth": 2, "heads": 2}

CASES: list[tuple[str, dict[str, Any], tuple[TensorType, ...]]] = [
    ("vit", {"size": 32, "width": 16, "depth": 2}, (IMAGE,)),
    ("vit", {"size": 32, "patch": 16, "width": 16, "depth": 1, "pool": "cls", "channels": 1}, (IMAGE,)),
    ("vit", {"size": 32, "width": 16, "depth": 2, "pool": "attention", "registers": 2, "positions": 24}, (IMAGE,)),
    ("vit", {"size": 32, "width": 16, "depth": 2, "patch_dropout": 0.5}, (IMAGE,)),
    ("resnet", {"size": 33, "depth": 18}, (IMAGE,)),
    ("resnet", {"size": 9, "depth": 50, "stem": "small", "norm": "group"}, (IMAGE,)),
    ("convnet4", {"size": 28, "channels": 1, "width": 8}, (IMAGE,)),
    ("convnet4", {"size": 40, "width": 8, "pool": "mean", "norm": "group"}, (IMAGE,)),
    ("series_conv", {"width": 8, "depth": 3}, (SERIES,)),
    ("series_conv", {"width": 8, "depth": 2, "pool": "max", "normalize": False}, (RAGGED,)),
    ("series_conv", {"width": 8, "depth": 3, "stride": 1, "dilation": 2, "residual": True}, (RAGGED,)),
    ("audio_transformer", {"width": 8, "depth": 2, "patch": 4, "bands": 3}, (SERIES,)),
    ("audio_transformer", {"width": 8, "depth": 1, "patch": 2, "bands": None, "pool": "cls"}, (RAGGED,)),
    ("audio_transformer", {"width": 8, "depth": 1, "patch": 2, "bands": 6, "pool": "attention"}, (RAGGED,)),
    *(
        ("text_transformer", {"width": 8, "depth": 2, "pool": pool, "causal": causal, "tokenizer": "byte"}, (TEXT,))
        for pool in ("mean", "last", "eos", "cls", "attention")
        for causal in (False, True)
    ),
    ("text_transformer", {"width": 8, "depth": 1, "pool": "eos", "tokenizer": "byte"}, (WORDS,)),
    ("sparse", {"dim": 9}, (WORDS,)),
    ("sparse", {"project": False, "pool": "sum"}, (PATCHES,)),
    ("caption_decoder", {"depth": 1}, (WORDS, PATCHES)),
    ("caption_decoder", {"depth": 1, "tokenizer": "byte", "width": 16}, (TEXT, GRID, PATCHES)),
    ("caption_decoder", {"depth": 1, "attend": "prefix"}, (WORDS, PATCHES)),
    (
        "caption_decoder",
        {"depth": 1, "tokenizer": "byte", "width": 8, "length": 64, "attend": "prefix", "decoding": "beam", "beams": 2},
        (TEXT, WORDS),
    ),
    (
        "caption_decoder",
        {"depth": 1, "tokenizer": "byte", "width": 8, "length": 64, "decoding": "nucleus"},
        (TEXT, VECTOR),
    ),
    ("reconstruction_decoder", {"size": 16, "patch": 8, "width": 8, "depth": 1}, (PATCHES.with_(size=(4, 12)),)),
    (
        "reconstruction_decoder",
        {"size": 16, "patch": 8, "width": 8, "depth": 1, "normalize": False},
        (GRID.with_(size=(2, 2, 12)), IMAGE),
    ),
    ("reconstruction_decoder", {"size": 16, "patch": 8, "width": 8, "depth": 1, "channels": 1}, (VECTOR, IMAGE)),
    ("masked_autoencoder", {"size": 32, "width": 16, "depth": 2, "decoder_width": 8}, (IMAGE,)),
    ("masked_autoencoder", {"size": 32, "width": 16, "depth": 1, "pool": "cls", "ratio": 0.0}, (IMAGE,)),
    ("masked_autoencoder", {"size": 32, "width": 16, "depth": 1, "pool": "cls", "mask": "hidden"}, (IMAGE,)),
    ("video_transformer", FRAMES, (VIDEO,)),
    ("video_transformer", {**FRAMES, "aggregate": "transformer", "aggregate_depth": 2, "cross_frame": True}, (VIDEO,)),
    ("video_transformer", {**FRAMES, "aggregate": "attention", "pool": "mean", "cross_frame": True}, (VIDEO,)),
    ("video_transformer", {**FRAMES, "aggregate": "gated"}, (VIDEO,)),
    ("set_transformer", {"width": 8, "depth": 2, "heads": 2}, (WORDS,)),
    ("set_transformer", {"width": 8, "depth": 2, "heads": 2, "inducing": 3, "pool": "max"}, (WORDS,)),
    ("set_transformer", {"width": 8, "depth": 1, "heads": 2, "pool": "mean"}, (GRID,)),
    ("slots", {"count": 3, "width": 8}, (GRID,)),
    ("slots", {"count": 3, "width": 8, "start": "drawn", "iterations": 2}, (WORDS,)),
    ("graph", {"width": 8}, (NODES, EDGES)),
    ("graph", {"width": 8, "neighbors": "mean", "paths": "attention", "depth": 1}, (NODES, EDGES, EDGES)),
    ("graph", {"width": 8, "neighbors": "attention", "paths": "attention", "share": True}, (NODES, EDGES, EDGES)),
    ("graph", {"width": 8, "neighbors": "sum", "loops": False, "dropout": 0.2}, (NODES, EDGES, EDGES)),
    ("lookup", {"width": 5}, (LABEL,)),
    ("prototype_vectors", {"count": 6, "dim": 5}, ()),
    ("gated", {"width": 6}, (VECTOR, VECTOR.with_(size=(3,)))),
    ("gated", {"width": 6, "gate": "vector"}, (VECTOR, VECTOR, VECTOR)),
    ("product", {"dim": 6, "activation": "tanh"}, (VECTOR, VECTOR.with_(size=(3,)))),
    ("product", {"scale": 10}, (VECTOR, VECTOR)),
    ("adapter", {}, (VECTOR,)),
    ("adapter", {"reduction": 2, "ratio": 0.5, "bias": True, "last_activation": False}, (WORDS,)),
    ("adapter", {"start": "zero"}, (GRID,)),
    ("prompt_tokens", {"count": 2}, (WORDS,)),
    ("prompt_tokens", {"count": 3, "place": "middle", "classes": 3}, (NAMES,)),
    ("prompt_tokens", {"count": 2, "place": "end"}, (WORDS, VECTOR)),
    ("prompt_tokens", {"count": 2}, (NAMES, VECTOR)),
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
    ("attention_pool", {}, (WORDS,)),
    ("attention_pool", {"queries": 2}, (WORDS, VECTOR)),
    ("attention_pool", {"width": 16}, (GRID, WORDS)),
    ("cross_attention", {"depth": 1}, (WORDS, PATCHES, GRID)),
    ("cross_attention", {"depth": 1, "pool": "mean"}, (WORDS, VECTOR.with_(size=(12,)))),
    ("concat", {}, (VECTOR, VECTOR.with_(size=(3,)))),
    ("concat", {"axis": "length"}, (WORDS, VECTOR, PATCHES.with_(size=(6, 8)))),
    ("stack", {}, (VECTOR, VECTOR.with_(axes=("sample", "copy"), groups=(2,)))),
    ("members", {}, (VECTOR.with_(axes=("sample", "frame"), groups=(3,)),)),
    ("members", {"pool": "max"}, (VECTOR.with_(axes=("sample", "object"), groups=(3,)),)),
    ("scores", {}, (VECTOR, CLASSES)),
    ("scores", {"score": "maxsim"}, (PATCHES, PATCHES.with_(axes=("class",)))),
]


def declared(use: str, fields: dict[str, Any], inputs: tuple[TensorType, ...]) -> Encoder:
    component = registry().get("encoder", use)
    encoder = component.model_validate({"of": [f"in{i}" for i in range(len(inputs))], **fields})
    assert isinstance(encoder, Encoder)
    return encoder


def case_of(number: int) -> EncoderCase:
    use, fields, inputs = CASES[number]
    encoder = declared(use, fields, inputs)
    name = f"encoder/{use} (case {number})"
    if getattr(encoder, "mask", None) is None and EDGES not in inputs:
        return EncoderCase(encoder, inputs, name=name)

    def values(ragged: bool) -> list[Any]:
        found = [
            edges() if kind == EDGES else inputs_of(encoder, (kind,), ROWS, ragged=ragged)[0][0] for kind in inputs
        ]
        return found if getattr(encoder, "mask", None) is None else [*found, hidden(encoder)]

    return EncoderCase(encoder, inputs, values, name)


def edges() -> Tensor:
    return (torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) < 0.5).double()


def hidden(encoder: Encoder) -> Tensor:
    """A mask that hides five patches of every row in places of its own."""
    side = encoder.size // encoder.patch  # type: ignore[attr-defined]
    places = (torch.arange(side * side)[None] + 3 * torch.arange(ROWS)[:, None]) % side**2
    return (places < 5).unflatten(1, (side, side))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{use}-{i}" for i, (use, _, _) in enumerate(CASES)])
def test_every_encoder(number: int, check: Callable[[EncoderCase], None]) -> None:
    check(case_of(number))


MINE = ("mmflow_encoders.", "mmflow_adapters.")
OTHERS = ("views", "objectives", "scores", "memories", "optim", "transformers", "timm", "open_clip")


def registered(*packages: str) -> list[tuple[str, str]]:
    return sorted((r.kind, r.name) for r in registry().registrations() if r.path.startswith(packages))


@pytest.mark.parametrize(("kind", "name"), registered(*MINE))
def test_every_component_has_a_case_an_example_and_bounds_on_every_number(kind: str, name: str) -> None:
    component = registry().get(kind, name)
    # Miners make rows of their own, and have tests of their own.
    assert kind != "encoder" or name in {use for use, _, _ in CASES} | {"hard_pairs"}
    assert name in component.example
    assert component.__doc__
    assert not unbounded(component)


@pytest.mark.parametrize(("kind", "name"), registered(*(f"mmflow_{room}." for room in OTHERS)))
def test_every_number_of_every_component_is_bounded(kind: str, name: str) -> None:
    assert not unbounded(registry().get(kind, name))


def unbounded(component: type[BaseModel]) -> list[str]:
    """Fields that hold a number without a lower or an upper bound."""
    base = set(Encoder.model_fields)
    return [
        name
        for name, info in component.model_fields.items()
        if name not in base and not _bounded(info.annotation, info.metadata)
    ]


def _bounded(annotation: Any, metadata: list[Any]) -> bool:
    parts = get_args(annotation)
    if annotation in (int, float):
        low = any(isinstance(m, (Ge, Gt)) for m in metadata)
        return low and any(isinstance(m, (Le, Lt)) for m in metadata)
    if hasattr(annotation, "__metadata__"):
        inner = [m for info in annotation.__metadata__ for m in getattr(info, "metadata", [info])]
        return _bounded(parts[0], [*metadata, *inner])
    if parts and all(isinstance(part, (str, int)) for part in parts):
        return True
    return all(_bounded(part, metadata) for part in parts if part is not type(None))


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
