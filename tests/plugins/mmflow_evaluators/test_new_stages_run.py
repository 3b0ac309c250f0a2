"""Every stage that needs no training runs from a spec over data on disk, and reads the fields that it names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mmflow.flow.run import RunOptions, run_spec
from mmflow.flow.store import RunStore
from mmflow.plugin.registry import registry
from mmflow.spec import load_spec

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: measures
data:
  train: {use: table, url: rows.jsonl, columns: COLUMNS}
  test: {use: table, url: test.jsonl, columns: COLUMNS}
encoders:
  text: {use: text_transformer, of: words, width: 16, heads: 2, depth: 1}
  other: {use: same, weights: text, of: again}
  options: {use: same, weights: text, of: options}
  twins: {use: same, weights: text, of: fields.options}
eval:
"""
COLUMNS = (
    "{words: words, again: again, options: options, kind: {modality: label}, color: {modality: label}, "
    "tags: {modality: labels}, length: {modality: number}, same: {modality: label, names: [no, yes]}, "
    "moment: {modality: vector}, found: {modality: series}, gaps: {modality: series}, cut: {modality: series}, "
    "boxes: {modality: series}, detected: {modality: series}, tracks: {modality: series}}"
)


def rows(count: int, seed: int, kinds: list[str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        kind, color = str(rng.choice(kinds)), str(rng.choice(["red", "blue", "green"]))
        start = float(rng.integers(0, 50))
        box = [4.0, 4.0, 30.0 + number % 5, 30.0]
        gaps = [int(rng.random() < 0.3) for _ in range(12)]
        made.append(
            {
                "id": f"{seed}-{number}", "words": f"a {color} {kind}", "again": f"one {color} {kind}",
                "options": [f"a {color} {kind}", f"a gray {kind}"], "kind": kind, "color": color,
                "tags": [kind, color], "length": float(len(kind) + len(color)), "same": ["no", "yes"][number % 2],
                "moment": [start, start + 10], "found": [[start + 1, start + 9, 0.8], [0, 4, 0.2]], "gaps": gaps,
                "cut": [*gaps[1:], 0], "boxes": [[*box, 0]], "detected": [[*box, 0, 0.9]],
                "tracks": [[time, 7, *box] for time in range(3)],
            }
        )  # fmt: skip
    return made


STAGES = {
    "multiple_choice": "data: test, of: [text, options], together: color, by: kind",
    "pair_matching": "data: test, of: [options, twins]",
    "similarity_correlation": "data: test, of: [text, other], target: length",
    "pair_classification": "data: test, of: [text, other], labels: same",
    "open_set": "data: train, test: test, of: text, labels: kind",
    "clustering": "data: test, of: [text, other], labels: kind",
    "category_discovery": "data: train, test: test, of: text, labels: kind",
    "relevance": "data: test, of: [text, other], labels: tags, at: [5]",
    "reranking": "data: test, of: [text, other], second: neg_sq_euclid, top: 5",
    "pairwise_retrieval": "data: test, of: [text, other], at: [1]",
    "calibration": "data: test, of: [text, text], labels: kind, temperature: 0.1",
    "uncertainty": "data: test, of: [text, other], uncertainty: length",
    "representation_similarity": "data: test, of: [text, other], k: 5",
    "spectrum": "data: test, of: [text, other], labels: kind",
    "few_shot": "data: test, of: text, labels: kind, ways: 2, shots: [1], queries: 4, episodes: 10",
    "k_shot_probe": "data: train, test: test, of: text, labels: kind, shots: [1, 2], draws: 2",
    "factor_probe": "data: train, test: test, of: text, factors: [kind, color]",
    "regression_probe": "data: train, test: test, of: text, target: length",
    "multi_label_probe": "data: train, of: text, labels: tags",
    "text_overlap": "data: test, generated: again, references: [words, options]",
    "yes_no": "data: test, answers: words, labels: same",
    "moment_retrieval": "data: test, found: found, truth: moment",
    "boundary_detection": "data: test, found: cut, truth: gaps",
    "detection": "data: test, found: detected, truth: boxes",
    "tracking": "data: test, found: tracks, truth: tracks",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("measures")
    # Rows of the test data have a class more.
    data = {"rows": rows(40, 0, ["circle", "square"]), "test": rows(40, 1, ["circle", "square", "star"])}
    for name, lines in data.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = COLUMNS.replace("kind: {modality: label}", "kind: {modality: label, names: [circle, square, star]}")
    tags = "names: [circle, square, star, red, blue, green]"
    names = names.replace("tags: {modality: labels}", f"tags: {{modality: labels, {tags}}}")
    names = names.replace("color: {modality: label}", "color: {modality: label, names: [red, blue, green]}")
    text = SPEC.replace("COLUMNS", names).replace("url: ", f"url: {folder}/")
    text += "".join(f"  {name}: {{use: {name}, {fields}}}\n" for name, fields in STAGES.items())
    (folder / "spec.yaml").write_text(text)
    store = str(folder / "store")
    outcome = run_spec(load_spec(str(folder / "spec.yaml")), RunOptions(store=store, engine="local", device="cpu"))
    assert outcome.exit_code == 0, outcome.outcome.notes
    found = {}
    for name in STAGES:
        directory = RunStore(store).fetch(outcome.plan[name].key)
        found[name] = json.loads((directory / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_measures_from_a_spec(measured: dict[str, Any], name: str):
    content = measured[name]
    assert content["metrics"]
    for metric in content["metrics"]:
        assert metric["title"]
        if metric["low"] is not None:
            assert metric["low"] <= metric["value"] <= metric["high"]
    assert isinstance(content["notes"], list)


def test_values_that_are_known_beforehand(measured: dict[str, Any]):
    def value(stage: str, name: str) -> float:
        return next(m["value"] for m in measured[stage]["metrics"] if m["name"] == name)

    # The vectors of a text are those of its equal among the options; those of two equal pairs are matched.
    assert value("multiple_choice", "accuracy") == 1.0
    assert value("pair_matching", "both") == 1.0
    assert value("moment_retrieval", "r1_iou07") == 1.0
    assert value("moment_retrieval", "miou") == pytest.approx(0.8)
    assert value("detection", "ap") == value("tracking", "hota") == pytest.approx(1.0)
    assert value("yes_no", "unread") == 1.0
    assert value("category_discovery", "clusters_found") <= 3


def test_each_example_of_a_stage_is_one_of_its_declarations():
    from mmflow.plugin import Evaluator

    for registration in registry().registrations():
        component = registry().get(registration.kind, f"{registration.name}@{registration.distribution}")
        if issubclass(component, Evaluator) and component.example:
            import yaml

            raw = yaml.safe_load(component.example)
            assert raw.pop("use") == registration.name
            component.model_validate(raw)
