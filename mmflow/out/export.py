"""`export_model`: encoders as a folder that stands by itself: weights, configuration, preprocessing and a card.

spec.yaml                 the encoders with their preprocessing, as an ordinary spec over recorded fields
model/model.safetensors   their weights, by path (`encoders.image.blocks.0.mlp.weight`)
model/states.json         preprocessing that they have learned, such as vocabularies
README.md                 a model card, written from what was measured
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmflow.artifacts import ModelArtifact
from mmflow.flow.store import StoreError
from mmflow.out.card import model_card
from mmflow.out.finding import EXPORTED, FoundRun
from mmflow.out.loading import ENCODE
from mmflow.out.model import LoadedModel
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Application, Encoder, StageScope, View
from mmflow.plugin.recorded import Recorded, plain_types
from mmflow.plugin.references import Written
from mmflow.plugin.targets import Owner, Target
from mmflow.spec.spec import view_as_written
from mmflow.spec.text.yaml_writer import write_yaml

DATA = "training"
"""The entry of data in the spec of an exported model."""
TRAINING = ("init", "freeze", "lr_scale")
"""Fields of an encoder that matter to its training alone."""
CARD = "README.md"


def export_model(loaded: LoadedModel, folder: Path, encoders: Sequence[str] = ()) -> Path:
    """Write encoders (all of the model by default) with all that they read into a new folder; returns it.

    Raises `ComponentError` for an encoder that cannot stand by itself: one that reads a memory, or static fields.
    """
    names = tuple(encoders) or loaded.encoders
    for name in names:
        loaded.inputs(name)
    spec = _spec(loaded, names)
    kept = spec["encoders"]
    assert isinstance(kept, Mapping)
    with new_folder(folder) as written:
        model, scope = loaded.modules, loaded.scope
        prefixes = tuple(f"{section}.{name}." for section in ("encoders", "parts") for name in _entries(spec, section))
        weights = {n: t for n, t in model.modules.state_dict().items() if n.startswith(prefixes)}
        states = {
            f"encoders.{name}": dict(state)
            for name in kept
            if (state := model.states.get(str(scope.structure(Owner("encoders", name)).owner))) is not None
        }
        ModelArtifact(written).write(weights, {}, states)
        (written / EXPORTED).write_text(write_yaml(spec), encoding="utf-8")
        (written / CARD).write_text(model_card(loaded, names, measured_in(loaded)), encoding="utf-8")
    return folder


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name once it is whole. Raises `ComponentError` where it is there, and
    `StoreError` where it cannot be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ComponentError(f"{folder} is there and not empty", hint="name a new folder")
    written = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(written, ignore_errors=True)
    try:
        written.mkdir(parents=True)
        yield written
        for file in written.rglob("*.safetensors"):
            # Written for their owner alone; the folder is made to be given away.
            file.chmod((written / CARD).stat().st_mode)
        if folder.is_dir():
            folder.rmdir()
        written.rename(folder)
    except OSError as error:
        raise StoreError(f"the model cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(written, ignore_errors=True)


def measured_in(loaded: LoadedModel) -> FoundRun | None:
    return loaded.origin if isinstance(loaded.origin, FoundRun) else None


def _spec(loaded: LoadedModel, names: Sequence[str]) -> dict[str, Written]:
    """The spec of the exported model."""
    scope = loaded.scope
    sections: dict[str, dict[str, Written]] = {"views": {}, "encoders": {}, "parts": {}}
    for owner in scope.reach(*(Owner("encoders", name) for name in names)):
        component = scope.component(owner)
        if isinstance(component, Encoder):
            sections["encoders"][owner.name] = _encoder(scope, owner, component)
        elif isinstance(component, View):
            sections["views"][owner.name] = view_as_written(component)
        elif owner.section == "parts" and component is not None:
            sections["parts"][owner.name] = component.declared()
        elif owner.section != "fields":
            raise ComponentError(f"{' and '.join(names)} read {owner}, which cannot be exported with them")
    fields = {name: type_ for encoder in names for name, type_ in loaded.fields(encoder).items()}
    static = [name for name, type_ in fields.items() if type_.static]
    if static:
        raise ComponentError(f"{' and '.join(names)} read {static[0]}, whose values are part of the data")
    pooled = [name for name in names if "pooled" in scope.outputs(Owner("encoders", name))]
    return {
        "mmflow": 1,
        "name": loaded.name,
        "data": {DATA: {"use": Recorded.use, "types": _escaped(plain_types(fields))}},
        **{section: entries for section, entries in sections.items() if entries},
        "stages": {ENCODE: {"use": "embed", "data": DATA, "of": pooled or list(names)}},
    }


def _encoder(scope: StageScope, owner: Owner, component: Encoder) -> dict[str, Written]:
    """An encoder that stands by itself: applications of other weights become what they apply."""
    structure = component
    if isinstance(component, Application):
        here = scope.targets(owner)["weights",]
        if component.shares != "module" or here.stage is not None:
            structure = scope.structure(owner).encoder
    written = structure.declared()
    kept = _without_training(written)
    assert isinstance(kept, Mapping)
    inputs = [_reference(target) for target in scope.inputs(owner).values()]
    return {**kept, "of": inputs[0] if len(inputs) == 1 else inputs}


def _without_training(written: Written) -> Written:
    """An encoder, or what stands in its fields, without what matters to its training alone."""
    if isinstance(written, Mapping):
        return {name: _without_training(value) for name, value in written.items() if name not in TRAINING}
    return written


def _reference(target: Target) -> str:
    return f"{target.section}.{target}{'.detach' if target.detach else ''}"


def _entries(spec: Mapping[str, Written], section: str) -> list[str]:
    found = spec.get(section, {})
    return list(found) if isinstance(found, Mapping) else []


def _escaped(value: Written) -> Written:
    """Plain data as the language writes it: a dollar sign is two."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
