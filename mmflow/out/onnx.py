"""Encoders as ONNX graphs: from prepared values to vectors, checked against the encoders themselves."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmflow.model.graph import Output, face
from mmflow.model.model import Model
from mmflow.out.model import LoadedModel, flat
from mmflow.plugin.component import ComponentError
from mmflow.plugin.modality import modality
from mmflow.plugin.targets import Owner
from mmflow.plugin.values import Encoding, RawValue, TensorType, Tokens

ONNX = "onnx"
NEAR = 1e-4
"""How far a graph may be from its encoder."""
_ROWS = 3
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def write_graphs(loaded: LoadedModel, folder: Path, encoders: Sequence[str]) -> str:
    """Write `NAME.onnx` and `NAME.json` (inputs and outputs) for each encoder; returns lines of Python that run one.

    Rows and lengths of texts are free. Raises `ComponentError` where torch cannot follow an encoder, or where the graph
    gives other vectors than the encoder.
    """
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise ComponentError(f"{', '.join(missing)} is not installed", hint="pip install 'mmflow-kit[onnx]'")
    for name in encoders:
        _write(loaded, folder, name)
    name = encoders[0]
    fields = ", ".join(f'"{field}": [...]' for field in loaded.inputs(name).fields)
    given = "[...]" if len(loaded.inputs(name).fields) == 1 else f"{{{fields}}}"
    return (
        "import mmflow, onnxruntime\n\n"
        f'inputs = mmflow.load("RUN").prepare({name}={given})["{name}"]  # or tensors as {name}.json says\n'
        f'session = onnxruntime.InferenceSession("{name}.onnx")\n'
        "(vectors,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})"
    )


def _write(loaded: LoadedModel, folder: Path, name: str) -> None:
    model = loaded.modules
    example = _example(loaded, name)
    graph = Graph(model, name, example)
    given = tuple(flat(example).values())
    names = list(flat(example))
    rows = torch.export.Dim("rows", min=1, max=2**20)
    shapes: list[dict[int, object]] = []
    for tensor, called in zip(given, names, strict=True):
        text = called.endswith("_mask") or f"{called}_mask" in names
        shapes.append(
            {0: rows, 1: torch.export.Dim("length", min=1, max=2**20)} if text and tensor.ndim > 1 else {0: rows}
        )
    file = folder / f"{name}.onnx"
    with torch.no_grad(), _silent():
        expected = graph(*given)
        try:
            torch.onnx.export(
                graph.eval(), given, str(file), input_names=names, output_names=["pooled"], dynamo=True,
                dynamic_shapes={"tensors": tuple(shapes)}, external_data=False, verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter has errors of its own for all that it cannot follow
            said = str(error).strip().splitlines()
            raise ComponentError(
                f"torch cannot write {name} as a graph: {said[0] if said else type(error).__name__}"
            ) from error
    declared = {called: _declared(tensor, shape) for called, tensor, shape in zip(names, given, shapes, strict=True)}
    about = {"inputs": declared, "outputs": {"pooled": ["rows", *expected.shape[1:]]}}
    file.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    _check(file, dict(zip(names, given, strict=True)), expected, name)


def _example(loaded: LoadedModel, name: str) -> dict[str, Encoding]:
    """Prepared values of a few rows, drawn at random."""
    draw = np.random.default_rng(0)
    values = {
        field: [_drawn(declared, row, draw) for row in range(_ROWS)] for field, declared in loaded.fields(name).items()
    }
    given = values if len(values) > 1 else next(iter(values.values()))
    return loaded.columns_of(name, given)


def _drawn(declared: TensorType, row: int, draw: np.random.Generator) -> RawValue:
    if declared.modality == "text":
        return " ".join(["a", "red", "square", "above", "it"][: 5 - row])
    blank = modality(declared.modality).blank(declared)
    if isinstance(blank, np.ndarray) and blank.dtype == np.uint8:
        return draw.integers(0, 256, blank.shape, dtype=np.uint8)
    if isinstance(blank, np.ndarray) and blank.dtype.kind == "f":
        return draw.normal(size=blank.shape).astype(blank.dtype)
    return blank


def _check(file: Path, given: Mapping[str, Tensor], expected: Tensor, name: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    (found,) = session.run(None, {n: value.numpy() for n, value in given.items() if n in wanted})
    far = float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp_min(1))
    if not far < NEAR:
        raise ComponentError(f"the graph of {name} gives other vectors than the encoder", found=f"{far:.1e} away")


def _declared(tensor: Tensor, free: Mapping[int, object]) -> dict[str, object]:
    shape = [("rows" if place == 0 else "length") if place in free else size for place, size in enumerate(tensor.shape)]
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": shape}


class Graph(nn.Module):
    """Encoders as one module: prepared values of the columns in order -> `pooled` of the encoder `name`."""

    def __init__(self, model: Model, name: str, example: Mapping[str, Encoding]) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.keys = [(key, isinstance(column["value"], Tokens), column.axes) for key, column in example.items()]
        self.root = model.root

    def forward(self, *tensors: Tensor) -> Tensor:
        left = iter(tensors)
        columns: dict[str, Encoding] = {}
        for key, tokens, axes in self.keys:
            value = next(left)
            columns[key] = Encoding({"value": Tokens(value, next(left)) if tokens else value}, axes)
        values: dict[Owner, Encoding] = {}

        def fetch(output: Output) -> Encoding:
            owner, called = output
            if isinstance(owner, str):
                return columns[owner]
            node = self.model.graph.nodes[owner]
            if owner not in values:
                # As in a step, on all rows at once: what is written are their operations.
                values[owner] = self.model.execution.encode(node, fetch, {}, ordinal=0)
            found = values[owner]
            return Encoding({called: found.outputs[called]}, found.axes, found.present)

        output = face(self.model.graph, Owner("encoders", self.name), "pooled")
        return fetch(output).outputs[output[1]]


class _silent:
    """The exporter tells much of what it does."""

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)
        self._caught.__exit__(None, None, None)
