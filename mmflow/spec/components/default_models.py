"""`start` and `model` where a stage leaves them open: the last model above, else the untrained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby

from mmflow.plugin.references import Model, Ref, reference_fields, words
from mmflow.plugin.targets import INIT
from mmflow.spec.components.repeat import LAST, Repetition
from mmflow.spec.components.stages import StageEntry


def name_models(stages: Mapping[str, StageEntry], repeats: Mapping[str, Repetition]) -> None:
    """Write them out in every stage.

    Every iteration of a repetition has the same stages above it: what goes on from the one before is carried.
    """
    last = INIT
    for repeat, repeated in groupby(stages.values(), lambda stage: stage.iteration and stage.iteration.repeat):
        above = last
        for _, iteration in groupby(repeated, lambda stage: stage.iteration and stage.iteration.index):
            last = above
            for stage in iteration:
                _name_model(stage, last)
                last = stage.name if "Model" in (stage.gives or {}).values() else last
        if repeat is not None and last != above:
            last = repeats[repeat].stage(LAST, words(last)[-1])
    for stage in stages.values():
        _name_inside(stage)


def _name_inside(around: StageEntry) -> None:
    """Stages inside another use its model as it is then, or the one that a stage above them in their group gives."""
    last: dict[tuple[str, bool], str] = {}
    for stage in around.inner.values():
        assert stage.place is not None
        scan = stage.place.group, stage.place.later
        _name_model(stage, last.get(scan, around.name))
        if "Model" in (stage.gives or {}).values():
            last[scan] = stage.place.stage


def _name_model(stage: StageEntry, last: str) -> None:
    made = stage.declaration
    if made is not None:
        update = {
            name: Ref(last)
            for name, types in reference_fields(type(made)).items()
            if Model in types and getattr(made, name) is None
        }
        stage.entry = replace(stage.entry, component=made.model_copy(update=update))
