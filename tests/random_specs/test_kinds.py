"""What `check` accepts, `run` executes: every component of each kind on every form of input that it is accepted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from torch import Tensor

from mmflow.evaluate.trial import StageCheck
from mmflow.plugin import Component, Encoded, Loss, Refs
from mmflow.plugin.kinds import Application, Evaluator, Source, Stage
from mmflow.plugin.references import Grid, Index, Pooled, TokenSequence
from mmflow.spec import SpecError, load_text
from mmflow.spec.text.problems import Problem
from mmflow.spec.text.yaml_writer import write_yaml
from tests.random_specs.composition import Composer
from tests.random_specs.drawing import Unfit
from tests.random_specs.files import Files, write
from tests.random_specs.registered import component, names
from tests.random_specs.running import carry_out
from tests.random_specs.settings import Setting, settings

pytestmark = pytest.mark.slow


class Touch(Loss, name="touch"):
    """Lets a gradient through whatever it is given."""

    axes = ("*",)
    of: Refs[Pooled | TokenSequence | Grid | Index]  # pyright: ignore[reportIncompatibleVariableOverride]

    def compute(self, *inputs: Any) -> Tensor:
        values = [one.values if isinstance(one, tuple) else one for one in inputs]
        return sum((value.double() ** 2).mean() for value in values)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write(tmp_path_factory.mktemp("kinds") / "files")


NAMES = ("vectors", "absent rows", "copies", "frames", "a group of unknown size", "sequences", "sequences of members",
         "grids", "rows of their own")  # fmt: skip


@pytest.fixture(params=NAMES)
def setting(request: pytest.FixtureRequest, files: Files) -> Setting:
    return next(one for one in settings(files) if one.name == request.param)


Put = Callable[[dict[str, Any], str, Mapping[str, Any]], None]


def with_entries(setting: Setting, entries: Mapping[str, Mapping[str, Any]], put: Put) -> str:
    spec: dict[str, Any] = {"mmflow": 1, "name": "kinds", **setting.sections(), "losses": {}, "stages": {}}
    for name, entry in entries.items():
        put(spec, name, entry)
    if not spec["losses"]:
        spec["losses"]["base"] = {"use": "touch", "of": setting.reads[0]}
    train = {"use": "train", "data": "one", "steps": 2, "batch_size": 8, "micro_batch_size": 4}
    return write_yaml({**spec, "stages": {"train": train, **spec["stages"]}})


def run_what_is_accepted(setting: Setting, entries: dict[str, Mapping[str, Any]], put: Put) -> list[str]:
    """Leave out each entry that `check` refuses, with a line; what is left must run. Returns what ran, by its `use`."""
    text = ""
    while entries:
        text = with_entries(setting, entries, put)
        refused = {owner for problem in problems_of(text) for owner in entry_behind(problem, entries)}
        if not refused:
            break
        entries = {name: entry for name, entry in entries.items() if name not in refused}
    if entries:
        outcome = carry_out(text)
        assert outcome.state == "accepted", f"{text}\n{outcome.said}"
    return sorted({str(entry["use"]) for entry in entries.values()})


def problems_of(text: str) -> list[Problem]:
    try:
        spec = load_text(text)
    except SpecError as refused:
        return list(refused.problems)
    return StageCheck().of(spec).problems


def entry_behind(problem: Problem, entries: Mapping[str, Any]) -> Iterator[str]:
    """The entry that a problem is about: the one at its place."""
    assert problem.mark is not None, problem
    assert problem.mark.line > 0, problem
    found = [str(part).removeprefix("on_") for part in problem.path]
    own = [name for name in found if name in entries]
    assert own, f"refused at none of the entries: {problem}"
    yield own[0]


def drawn(setting: Setting, kind: str, files: Files, of: Callable[[type[Component], str], Any]) -> dict[str, Any]:
    """Each component of a kind on each form that the setting gives, its other fields drawn."""
    found: dict[str, Any] = {}
    for reference in setting.reads:
        for number, use in enumerate(names(kind)):
            made = component(kind, use)
            if (given := of(made, reference)) is None:
                continue
            composer = Composer(Random(f"{setting.name}{kind}{use}"), files)
            composer.written = setting.sections()
            data = component("source", setting.data["one"]["use"])
            source = data.model_validate({k: v for k, v in setting.data["one"].items() if k != "use"})
            assert isinstance(source, Source)
            composer.world = type(composer.world)(source.fields())
            entry = composer.attempt(lambda c=composer, m=made, g=given: c.fields_of(m, g))
            if entry is not None:
                found[f"x{number}_{reference.replace('.', '_')}"] = entry
    return found


def inputs(made: type[Component], reference: str) -> Any:
    """As many references to one thing as a component takes, beside what it must have."""
    least = next((m.min_length for m in made.model_fields["of"].metadata if hasattr(m, "min_length")), 1)
    return {"of": [reference] * max(1, least)}


def test_encoders(setting: Setting, files: Files, register: Callable[..., None]) -> None:
    def of(made: type[Component], reference: str) -> Any:
        most = next((m.max_length for m in made.model_fields["of"].metadata if hasattr(m, "max_length")), 1)
        if issubclass(made, Application):
            return {"weights": reference.split(".")[0]}
        return inputs(made, reference) if most else None

    def put(spec: dict[str, Any], name: str, entry: Mapping[str, Any]) -> None:
        spec["encoders"][name] = entry
        spec["losses"][f"on_{name}"] = {"use": "touch", "of": name}

    register(Touch)
    assert len(run_what_is_accepted(setting, drawn(setting, "encoder", files, of), put)) >= 2


def test_losses(setting: Setting, files: Files, register: Callable[..., None]) -> None:
    def put(spec: dict[str, Any], name: str, entry: Mapping[str, Any]) -> None:
        spec["losses"][name] = entry

    register(Touch)
    run_what_is_accepted(setting, drawn(setting, "loss", files, inputs), put)


def test_memories(setting: Setting, files: Files, register: Callable[..., None]) -> None:
    def put(spec: dict[str, Any], name: str, entry: Mapping[str, Any]) -> None:
        spec.setdefault("memories", {})[name] = entry
        spec["losses"][f"on_{name}"] = {"use": "infonce", "of": [entry["of"], entry["of"]], "negatives": name}

    register(Touch)
    run_what_is_accepted(setting, drawn(setting, "memory", files, lambda made, reference: {"of": reference}), put)


def test_scores(setting: Setting, files: Files, register: Callable[..., None]) -> None:
    def put(spec: dict[str, Any], name: str, entry: Mapping[str, Any]) -> None:
        reference = next(one for one in setting.reads if name.endswith(one.replace(".", "_")))
        spec["losses"][name] = {"use": "infonce", "of": [reference] * 2, "score": entry}
        spec["stages"][f"on_{name}"] = {"use": "retrieval", "data": "one", "of": [reference] * 2, "score": entry}

    register(Touch)
    run_what_is_accepted(setting, drawn(setting, "score", files, lambda made, reference: {}), put)


def test_stages(setting: Setting, files: Files, register: Callable[..., None]) -> None:
    def of(made: type[Component], reference: str) -> Any:
        if not (issubclass(made, Stage) and ({Encoded, Pooled} & set(_types(made)))) or made.trains:
            return None
        many = next((n for n in (1, 2, 3) if _takes(made, n)), 1)
        return {"data": "one", "of": [reference, *setting.reads][:many] if many > 1 else reference}

    def put(spec: dict[str, Any], name: str, entry: Mapping[str, Any]) -> None:
        spec["stages"][name] = entry

    register(Touch)
    run_what_is_accepted(setting, drawn(setting, "stage", files, of), put)


def _types(made: type[Component]) -> tuple[Any, ...]:
    from mmflow.plugin.references import reference_fields

    return reference_fields(made).get("of", ())


def _takes(made: type[Component], many: int) -> bool:
    from mmflow.plugin.binding import binding

    return not issubclass(made, Evaluator) or binding(made).misfit(many) is None


@pytest.mark.parametrize("kind", ["sampler", "optimizer", "tokenizer", "value", "constraint"])
def test_parts_of_a_training(kind: str, files: Files, register: Callable[..., None]) -> None:
    setting = settings(files)[0]
    places: dict[str, Callable[[dict[str, Any], Any], None]] = {
        "sampler": lambda spec, entry: spec.update(sampler=entry),
        "optimizer": lambda spec, entry: spec.update(optimizer=entry),
        "value": lambda spec, entry: spec.update(schedule=entry),
    }

    def put(spec: dict[str, Any], name: str, entry: Mapping[str, Any]) -> None:
        stage: dict[str, Any] = {"use": "train", "data": "one", "steps": 2, "batch_size": 4, "losses": [f"on_{name}"]}
        spec["losses"][f"on_{name}"] = {"use": "touch", "of": "words"}
        if kind == "tokenizer":
            spec["encoders"][name] = {
                "use": "text_transformer",
                "of": "fields.words",
                "width": 8,
                "depth": 1,
                "heads": 2,
            }
            spec["encoders"][name] |= {"tokenizer": entry, "length": 12}
            spec["losses"][f"on_{name}"]["of"] = name
        elif kind == "constraint":
            spec["encoders"][name] = {"use": "linear", "of": "words", "dim": 4, "constrain": entry}
            spec["losses"][f"on_{name}"]["of"] = name
        else:
            places[kind](stage, entry)
        spec["stages"][name] = stage

    register(Touch)
    once = Setting(setting.name, setting.data, setting.encoders, setting.reads[:1])
    ran = run_what_is_accepted(once, drawn(once, kind, files, lambda made, reference: {}), put)
    assert len(ran) >= len(names(kind)) - 2, ran


def test_unfit_is_no_error_of_the_test() -> None:
    with pytest.raises(Unfit):
        Composer(Random(0), Files(Path("nowhere"))).choose([])
