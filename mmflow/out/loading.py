"""`load_model`: the encoders of a run or of an exported folder, ready for values of any origin."""

from __future__ import annotations

from pathlib import Path

from mmflow.artifacts import ModelArtifact
from mmflow.flow.machine import choose_device
from mmflow.model.model import Model, entry_of
from mmflow.out.finding import EXPORTED, FoundRun, exported_folder, find_run
from mmflow.out.model import LoadedModel
from mmflow.plugin.component import ComponentError
from mmflow.plugin.kinds import Score, StageScope
from mmflow.plugin.targets import Owner
from mmflow.spec import Spec, load_spec

ENCODE = "encode"
"""The stage of an exported model's spec: its encoders over the data that they were trained on."""


def load_model(
    source: str | Path, *, store: str, stage: str = "", member: str = "", device: str = "auto"
) -> LoadedModel:
    """The model of a run (`latest`, an id, the path or URL of its record) or of an exported folder.

    Of a run, it is the model of `stage`; by default of the last stage that gives one, as for evaluations. Data are not
    read. Raises `StoreError` and `ComponentError`.
    """
    on = choose_device(device)
    if (folder := exported_folder(source)) is not None:
        spec = load_spec(str(folder / EXPORTED))
        if ENCODE not in spec.stages:
            raise ComponentError(f"{folder}/{EXPORTED} is the spec of no exported model")
        scope = spec.scope(ENCODE)
        return _loaded(scope, ModelArtifact(folder), folder, ENCODE, spec.name).to(on)
    found = find_run(source, store, member)
    name = stage or last_model(found.spec)
    if name not in giving_models(found.spec):
        known = ", ".join(giving_models(found.spec))
        raise ComponentError(f"the run has no model of a stage {name!r}", expected=f"one of: {known}" if known else "")
    return _loaded(found.spec.scope(name), ModelArtifact(found.result(name)), found, name, found.spec.name).to(on)


def giving_models(spec: Spec) -> list[str]:
    """Names of the stages that give a model."""
    return [name for name, declaration in spec.stages.items() if "Model" in declaration.given().values()]


def last_model(spec: Spec) -> str:
    """The stage whose model evaluations use by default; raises `ComponentError` where no stage gives one."""
    found = giving_models(spec)
    if not found:
        raise ComponentError("the run has trained no model", hint="its encoders are those of its spec, untrained")
    return found[-1]


def _loaded(scope: StageScope, artifact: ModelArtifact, origin: FoundRun | Path, stage: str, name: str) -> LoadedModel:
    names = _stored_encoders(scope, artifact)
    if not names:
        raise ComponentError(f"the model of {stage} has no encoder")
    upstream = origin.result if isinstance(origin, FoundRun) else None
    parts = _stored_scores(scope, artifact)
    roots = [*(Owner("encoders", name) for name in names), *(Owner("parts", name) for name in parts)]
    model = Model.load(artifact, scope, roots, seed=scope.seed, upstream=upstream)
    return LoadedModel(scope, model, names, origin=origin, stage=stage, name=name, parts=parts)


def _stored_encoders(scope: StageScope, artifact: ModelArtifact) -> list[str]:
    """Encoders whose weights, and those of all that they read, are in a stored model; those without any included."""
    stored = {entry_of(name) for name in artifact.weights()} | set(artifact.states())

    def there(owner: Owner) -> bool:
        if owner.section != "encoders":
            return owner.section in ("fields", "views", "parts")
        structure = scope.structure(owner)
        made = structure.encoder
        weights = [part for part in (made, made.head, made.tokens) if part is not None and part.has_weights]
        return not weights or str(scope.module(owner)) in stored

    return [name for name in scope.encoders if all(map(there, scope.reach(Owner("encoders", name))))]


def _stored_scores(scope: StageScope, artifact: ModelArtifact) -> list[str]:
    """The parts of a stored model that are scores with weights."""
    stored = dict.fromkeys(map(entry_of, artifact.weights()))
    names = [name.removeprefix("parts.") for name in stored if name.startswith("parts.")]
    return [name for name in names if isinstance(scope.component(Owner("parts", name)), Score)]
