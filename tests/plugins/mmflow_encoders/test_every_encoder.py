"""Facts about every encoder: shapes as declared on the CPU, on meta and on fake tensors; rows that do not depend on
padding, on other rows or on their order; micro-batches that equal the whole; bounds on every number."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mmflow.plugin import Encoded, Encoder, Encoding, TensorType, Tokens, Value
from mmflow.plugin.references import reference_fields
from mmflow.plugin.registry import registry

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
    ("caption_decoder", {"depth": 1}, (WORDS, PATCHES)),
    ("caption_decoder", {"depth": 1, "tokenizer": "byte", "width": 16}, (TEXT, GRID, PATCHES)),
    ("caption_decoder", {"depth": 1, "attend": "prefix"}, (WORDS, PATCHES)),
    (
        "caption_decoder",
        {"depth": 1, "tokenizer": "byte", "width": 8, "length": 10, "attend": "prefix", "decoding": "beam", "beams": 2},
        (TEXT, WORDS),
    ),
    (
        "caption_decoder",
        {"depth": 1, "tokenizer": "byte", "width": 8, "length": 10, "decoding": "nucleus"},
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
ROWS, LENGTH, NUMBER_OF_CLASSES = 4, 5, 3
IDS = [f"{use}-{i}" for i, (use, _, _) in enumerate(CASES)]
Inputs = list[Any]


def declared(use: str, fields: dict[str, Any], inputs: tuple[TensorType, ...]) -> Encoder:
    component = registry().get("encoder", use)
    encoder = component.model_validate({"of": [f"in{i}" for i in range(len(inputs))], **fields})
    assert isinstance(encoder, Encoder)
    return encoder


def raw(encoder: Encoder, given: TensorType, *, ragged: bool = False) -> Any:
    """A value of the declared type, on the device and in the mode that is in force; `ragged` rows end in padding."""
    rows = NUMBER_OF_CLASSES if given.axes[0] == "class" else ROWS
    if given.modality in ("image", "video"):
        size, channels = encoder.size, encoder.channels  # type: ignore[attr-defined]
        return torch.rand(rows, *given.groups, channels, size, size)
    if given.modality == "label":
        return torch.arange(rows)
    lengths = torch.tensor([LENGTH, 2, LENGTH - 1, 3][:rows] if ragged else [LENGTH] * rows)
    mask = torch.arange(LENGTH)[None] < lengths[:, None]
    if given.modality == "text":
        return Tokens(torch.randint(3, 200, (rows, LENGTH)), mask)
    if given == EDGES:
        return (torch.rand(rows, rows) < 0.5).float()
    shape = (rows, *given.groups, *(LENGTH if n is None else n for n in given.size))
    values = torch.randn(*(int(n or 0) for n in shape))
    if given.modality == "tokens" or (given.modality == "series" and given.size[0] is None):
        if values.shape[1] != LENGTH:
            mask = torch.ones(values.shape[:2], dtype=torch.bool)
        return Tokens(values, mask)
    return values


def given_to(
    encoder: Encoder, inputs: tuple[TensorType, ...], *, ragged: bool = False
) -> tuple[Inputs, list[TensorType]]:
    """Values of all inputs, and their types; a field `mask` comes behind them."""
    values = [raw(encoder, given, ragged=ragged) for given in inputs]
    if getattr(encoder, "mask", None) is None:
        return values, list(inputs)
    # Every row hides five patches in places of its own.
    side = encoder.size // encoder.patch  # type: ignore[attr-defined]
    places = (torch.arange(side * side)[None] + 3 * torch.arange(ROWS)[:, None]) % side**2
    return [*values, (places < 5).unflatten(1, (side, side))], [*inputs, TensorType("mask")]


def doubled(encoder: Encoder, inputs: tuple[TensorType, ...], *, ragged: bool = False) -> tuple[Inputs, list[Any]]:
    values, kinds = given_to(encoder, inputs, ragged=ragged)
    return [_double(value) for value in values], kinds


def called(
    encoder: Encoder, module: torch.nn.Module | None, values: Inputs, *, only: Iterable[str] | None = None
) -> dict[str, Any]:
    """All outputs with the taps, or those in `only`; encodings, numbers and scores are handed over as by the core."""
    function: Callable[..., Any] = module.forward if module is not None else encoder.apply  # type: ignore[attr-defined]
    parameters = inspect.signature(function).parameters
    named = {name: field(encoder, name) for name in [*parameters][len(values) :] if name in type(encoder).model_fields}
    if Encoded in reference_fields(type(encoder))["of"] and encoder.use != "video_transformer":
        needs = encoder.score.needs[0] if "score" in type(encoder).model_fields else "pooled"  # type: ignore[attr-defined]
        values = [Encoding({needs: value}) for value in values]
    asked = tuple(name for name in encoder.taps() if only is None or name in only)
    taps = {"taps": asked} if "taps" in parameters else {}
    result = function(*values, **named, **taps)
    return result if isinstance(result, dict) else {"pooled": result}


def field(encoder: Encoder, name: str) -> Any:
    value = getattr(encoder, name)
    return getattr(value, "value", value) if isinstance(value, Value) else value


def built(encoder: Encoder, inputs: tuple[TensorType, ...]) -> torch.nn.Module | None:
    """The module with weights drawn wide, so that nothing is invisibly small."""
    if not encoder.has_weights:
        return None
    torch.manual_seed(0)
    module = encoder.build(*inputs, state={}).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def compare(outputs: dict[str, Any], types: Mapping[str, TensorType]) -> None:
    assert set(outputs) == set(types)
    for name, value in outputs.items():
        tensor = value.values if isinstance(value, Tokens) else value
        kind = types[name]
        rows = ROWS if kind.axes[0] == "sample" else len(tensor)
        own = (rows, *kind.groups, *kind.size)
        assert len(tensor.shape) == len(own), name
        for found, size in zip(tensor.shape, own, strict=True):
            assert size is None or found == size, (name, tuple(tensor.shape), own)
        if isinstance(value, Tokens):
            assert tuple(value.mask.shape) == tuple(tensor.shape[: value.mask.ndim])
        assert str(tensor.dtype) == f"torch.{kind.dtype}"


def cases(wanted: Callable[[Encoder, tuple[TensorType, ...]], bool]) -> list[Any]:
    """The cases of encoders for which `wanted` holds."""
    found = []
    for case, name in zip(CASES, IDS, strict=True):
        if wanted(declared(*case), case[2]):
            found.append(pytest.param(case, id=name))
    return found


def by_row(encoder: Encoder, inputs: tuple[TensorType, ...]) -> bool:
    """Whether rows of the result depend on themselves alone."""
    return encoder.scope() == "row" and any(given.axes[0] == "sample" for given in inputs)


def padded(encoder: Encoder, inputs: tuple[TensorType, ...]) -> bool:
    """Whether an input may end in padding."""
    return by_row(encoder, inputs) and any(g.modality == "text" or g.size[:1] == (None,) for g in inputs)


def trained(encoder: Encoder, inputs: tuple[TensorType, ...]) -> bool:
    """Whether there are weights, and a training pass is a function of the row alone."""
    still = not encoder.draws() and not encoder.batch_statistics()
    return encoder.has_weights and still and by_row(encoder, inputs)


def traced(use: str, fields: dict[str, Any]) -> list[str]:
    if use == "scores":
        # No weights to build on meta; and a kernel of tokens chooses its tiles by values.
        return ["cpu"] if "score" in fields else ["cpu", "fake"]
    return ["cpu", "meta", "fake"]


@pytest.mark.parametrize(
    ("case", "where"),
    [
        pytest.param(c, where, id=f"{name}-{where}")
        for c, name in zip(CASES, IDS, strict=True)
        for where in traced(*c[:2])
    ],
)
def test_declared_outputs_are_the_real_shapes(case: Any, where: str) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    assert not encoder.untraceable
    types = dict(encoder.outputs(*inputs))
    if where != "cpu":
        # Decoding stops by the ids that it finds.
        types.pop("generated", None)
    torch.manual_seed(0)
    with torch.device("meta" if where == "fake" else where):
        module = encoder.build(*inputs, state={}) if encoder.has_weights else None
        if where != "fake":
            compare(called(encoder, module, given_to(encoder, inputs)[0], only=types), types)
            return
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = module.to_empty(device="cpu") if module is not None else None
        compare(called(encoder, module, given_to(encoder, inputs)[0], only=types), types)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_declaration_can_be_written_out_and_read_again(case: Any) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    again = type(encoder).model_validate({k: v for k, v in encoder.declared().items() if k != "use"})
    assert again == encoder


@pytest.mark.parametrize("case", cases(lambda encoder, inputs: bool(encoder.taps())))
def test_taps_come_when_asked_and_change_no_bit(case: Any) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    module = built(encoder, inputs)
    assert module is not None
    values, _ = doubled(encoder, inputs, ragged=True)
    plain, tapped = called(encoder, module.eval(), values, only=()), called(encoder, module, values)
    assert set(tapped) == set(plain) | set(encoder.taps())
    assert not set(plain) & set(encoder.taps())
    for name, value in plain.items():
        assert torch.equal(_tensor(value), _tensor(tapped[name])), name


@pytest.mark.parametrize("case", cases(by_row))
def test_the_other_rows_of_a_batch_and_their_order_change_nothing(case: Any) -> None:
    """In evaluation no row depends on another, batch norm included."""
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    module = built(encoder, inputs)
    if module is not None:
        module.eval()
    values, kinds = doubled(encoder, inputs, ragged=True)
    whole = called(encoder, module, values)
    for index in (torch.tensor([1]), torch.tensor([3, 0, 2, 1])):
        part = called(encoder, module, [_rows(v, g, index) for v, g in zip(values, kinds, strict=True)])
        types = encoder.outputs(*inputs)
        for name, value in whole.items():
            if types[name].axes[0] == "sample":
                torch.testing.assert_close(_tensor(part[name]), _tensor(value)[index])


@pytest.mark.parametrize("case", cases(padded))
def test_padding_changes_nothing(case: Any) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    module = built(encoder, inputs)
    if module is not None:
        module.eval()
    values, _ = doubled(encoder, inputs, ragged=True)
    tight = called(encoder, module, values)
    wide = called(encoder, module, [_padded(value) for value in values])
    for name, value in tight.items():
        if isinstance(value, Tokens):
            other = wide[name]
            assert torch.equal(other.mask.sum(-1), value.mask.sum(-1))
            torch.testing.assert_close(other.values[other.mask], value.values[value.mask])
        elif encoder.outputs(*inputs)[name].modality == "attention":
            assert wide[name].isfinite().all()
        else:
            torch.testing.assert_close(wide[name], value)


@pytest.mark.parametrize("case", cases(trained))
def test_micro_batches_give_the_outputs_and_gradients_of_the_whole(case: Any) -> None:
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    module = built(encoder, inputs)
    assert module is not None
    module.train()
    values, kinds = doubled(encoder, inputs, ragged=True)

    def gradients(parts: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        module.zero_grad()
        outputs = []
        for index in parts:
            rows = [_rows(value, given, index) for value, given in zip(values, kinds, strict=True)]
            found = [_tensor(v) for v in called(encoder, module, rows).values()]
            floating = [v.flatten(1) for v in found if v.is_floating_point()]
            loss = torch.stack([v.square().sum() for v in floating]).sum()
            if loss.requires_grad:
                loss.backward()
            outputs.append(torch.cat(floating, dim=1))
        return outputs, {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

    (whole,), expected = gradients([torch.arange(ROWS)])
    parts, found = gradients([torch.tensor([0]), torch.tensor([1, 2]), torch.tensor([3])])
    torch.testing.assert_close(torch.cat(parts), whole)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("case", cases(lambda encoder, inputs: encoder.has_weights))
def test_an_encoder_that_draws_says_so(case: Any) -> None:
    """Two passes in training differ where `draws` is true, and nowhere else."""
    use, fields, inputs = case
    encoder = declared(use, fields, inputs)
    module = built(encoder, inputs)
    assert module is not None
    module.train()
    values, _ = doubled(encoder, inputs)
    first, second = (called(encoder, module, values, only=()) for _ in range(2))
    same = all(torch.equal(_tensor(value), _tensor(second[name])) for name, value in first.items())
    assert same is not encoder.draws()


MINE = ("mmflow_encoders.", "mmflow_adapters.")
OTHERS = ("views", "objectives", "scores", "memories", "optim", "transformers", "timm", "open_clip")


def registered(*packages: str) -> list[tuple[str, str]]:
    return sorted((r.kind, r.name) for r in registry().registrations() if r.path.startswith(packages))


@pytest.mark.parametrize(("kind", "name"), registered(*MINE))
def test_every_component_has_a_case_an_example_and_bounds_on_every_number(kind: str, name: str) -> None:
    component = registry().get(kind, name)
    assert kind != "encoder" or name in {use for use, _, _ in CASES}
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


def _rows(value: Any, given: TensorType, index: Tensor) -> Any:
    if given.axes[0] != "sample":
        return value
    return Tokens(value.values[index], value.mask[index]) if isinstance(value, Tokens) else value[index]


def _padded(value: Any) -> Any:
    """The same rows with three further places of padding, and other values in every padded place."""
    if not isinstance(value, Tokens):
        return value
    rows = len(value.values)
    more = torch.zeros(rows, 3, *value.values.shape[2:], dtype=value.values.dtype)
    values = torch.cat([value.values, more], dim=1)
    mask = torch.cat([value.mask, torch.zeros(rows, 3, dtype=torch.bool)], dim=1)
    values[~mask] = 7
    return Tokens(values, mask)


def _tensor(value: Any) -> Tensor:
    return value.values if isinstance(value, Tokens) else value


def _double(value: Any) -> Any:
    if isinstance(value, Tokens):
        return Tokens(_double(value.values), value.mask)
    return value.double() if value.is_floating_point() else value


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
