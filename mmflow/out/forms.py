"""Encoders in the form of another library, which then gives their vectors without mmflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmflow.model.lora import is_adapted, merged
from mmflow.out.card import model_card
from mmflow.out.export import CARD, export_model, measured_in, new_folder
from mmflow.out.model import LoadedModel
from mmflow.out.onnx import ONNX, write_graphs
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Encoder, Exported
from mmflow.plugin.targets import Owner

OWN = "mmflow"


def export_as(loaded: LoadedModel, folder: Path, encoders: Sequence[str] = (), *, form: str = OWN) -> Path:
    """Write encoders into a new folder: in mmflow's own form, as ONNX graphs, or as a library stores its models.

    By default all encoders that have the form. Raises `ComponentError` where one has another, or where the form cannot
    hold what is around it (a head, a tokenizer).
    """
    for name in encoders:
        loaded.inputs(name)
    if form == OWN:
        return export_model(loaded, folder, encoders)
    if form == ONNX:
        with new_folder(folder) as written:
            usage = write_graphs(loaded, written, encoders or loaded.encoders)
            _card(loaded, written, encoders or loaded.encoders, ONNX, usage)
        return folder
    names = tuple(encoders) or tuple(n for n in loaded.encoders if form in _structure(loaded, n).forms())
    if not names:
        known = sorted({OWN, ONNX, *(form for name in loaded.encoders for form in _structure(loaded, name).forms())})
        raise ComponentError(f"no encoder of the model has the form {form!r}", expected=f"one of: {', '.join(known)}")
    for name in names:
        own = _structure(loaded, name)
        if form not in own.forms():
            has = ", ".join((OWN, ONNX, *own.forms()))
            raise ComponentError(f"{name} ({own.use}) cannot be written for {form}", expected=f"one of: {has}")
        inputs = loaded.scope.inputs(Owner("encoders", name)).values()
        viewed = [target.owner for target in inputs if target.section == "views"]
        if any(getattr(loaded.scope.component(view), "apply", ()) for view in viewed):
            raise ComponentError(
                f"{name} reads the view {viewed[0].name}, which {form} does not know: its vectors would be others",
                hint=f"write mmflow's own form, or say `of: fields.NAME` for {name} in evaluations",
            )
    parts = [_exported(loaded, name) for name in names]
    first = parts[0].encoder
    with new_folder(folder) as written:
        usage = first.export(form, written, parts)
        _card(loaded, written, names, form, usage)
    return folder


def _card(loaded: LoadedModel, folder: Path, names: Sequence[str], library: str, usage: str) -> None:
    run = measured_in(loaded)
    text = model_card(loaded, names, run, library=library.replace("_", "-"), usage=usage)
    (folder / CARD).write_text(text, encoding="utf-8")


def _structure(loaded: LoadedModel, name: str) -> Encoder:
    return loaded.scope.structure(Owner("encoders", name)).encoder


def _exported(loaded: LoadedModel, name: str) -> Exported:
    path = str(loaded.scope.module(Owner("encoders", name)))
    modules = loaded.modules.modules
    module, head = modules.at(path), modules.at(f"{path}.head")
    assert module is not None
    return Exported(_structure(loaded, name), merged(module) if is_adapted(module) else module, head)
