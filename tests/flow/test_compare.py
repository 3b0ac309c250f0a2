"""`mmflow compare`: separate runs give the table of their matrix, equal methods do not differ, mistakes are told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from mmflow.artifacts import MetricsArtifact, StoredItems
from mmflow.cli.app import app
from mmflow.flow.report.collect import RunReport, StageReport
from mmflow.flow.report.comparison import Compared, Entry, compared
from mmflow.flow.run import RunOptions, run_members
from mmflow.plugin import Metric
from mmflow.spec import load_members

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: grid
data:
  train: {use: shapes, split: train, size: 96, pixels: 16}
  test: {use: shapes, split: test, size: 60, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
train: {data: train, steps: 3, batch_size: 32}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
  zero_shot: {use: zero_shot, data: test, of: [image, text], labels: label, at: [5]}
"""
MATRIX = """
matrix:
  infonce: {}
  sigmoid: {losses.align: {use: siglip, of: [image, text]}}
  cool: {losses.align.temperature: 0.5}
  seed: [0, 1, 2]
"""
LOSSES = {
    "infonce": (),
    "sigmoid": ("losses.align={use: siglip, of: [image, text]}",),
    "cool": ("losses.align.temperature=0.5",),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "store"


def run(store: Path, text: str, *overrides: str, only: tuple[str, ...] = ()) -> str:
    options = RunOptions(store=str(store), engine="local", device="cpu")
    done = run_members(load_members("s.yaml", overrides, text=text).only(only), options)
    assert done.exit_code == 0, done.outcome.notes
    return done.outcome.run_id


@pytest.fixture(scope="module")
def whole(store: Path) -> str:
    """The id of a run over three losses by three seeds."""
    return run(store, SPEC + MATRIX)


@pytest.fixture(scope="module")
def apart(store: Path, whole: str) -> list[str]:
    """The ids of nine runs of the members of the matrix, one by one."""
    return [run(store, SPEC + MATRIX, only=(f"{loss},seed={seed}",)) for loss in LOSSES for seed in range(3)]


def compare(store: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["compare", *arguments, "--store", str(store)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def table(store: Path, *arguments: str) -> list[dict[str, object]]:
    return json.loads(compare(store, *arguments, "--format", "json"))["table"]


def test_nine_separate_runs_give_the_table_of_the_matrix(store: Path, whole: str, apart: list[str]) -> None:
    of_matrix = table(store, whole)
    assert {row["members"] for row in of_matrix} == set(LOSSES)
    assert all(len(row["values"]) == 3 for row in of_matrix)  # type: ignore[arg-type]
    assert table(store, *apart) == of_matrix
    # Also by the paths of their records, in another order of the seeds.
    paths = [str(store / "runs" / id) for id in apart]
    assert [row["mean"] for row in table(store, *paths)] == [row["mean"] for row in of_matrix]


def test_specs_without_a_matrix_are_named_by_what_differs(store: Path, whole: str) -> None:
    runs = [run(store, SPEC, *more, f"seed={seed}") for more in LOSSES.values() for seed in range(3)]
    found, of_matrix = table(store, *runs), table(store, whole)
    unnamed = [{n: v for n, v in row.items() if n != "members"} for row in found]
    assert unnamed == [{n: v for n, v in row.items() if n != "members"} for row in of_matrix]
    assert [str(row["members"]).split(",")[0] for row in found[:3]] == [
        "losses.align.use=infonce", "losses.align.use=siglip", "losses.align.use=infonce",
    ]  # fmt: skip
    named = [run(store, SPEC, "name=other", *LOSSES["sigmoid"]), runs[0]]
    assert [row["members"] for row in table(store, *named)[:2]] == ["other", "grid"]


def test_differences_are_those_of_the_items(store: Path, whole: str) -> None:
    rows = [row for row in table(store, whole) if row["metric"] == "text_to_image_r5"]
    assert rows[0]["verdict"] == "baseline"
    assert [row["items"] for row in rows] == [0, 60, 60]
    for row in rows[1:]:
        assert row["difference"] == pytest.approx(float(row["mean"]) - float(rows[0]["mean"]))  # type: ignore[arg-type]
        low, high = row["interval"]  # type: ignore[misc]
        assert low < row["difference"] < high
        assert (row["verdict"] == "no difference") == (low <= 0 <= high)
    # A median is no mean over items: it is paired by seed alone.
    assert {row["items"] for row in table(store, whole) if row["metric"] == "text_to_image_median_rank"} == {0}
    turned = [row for row in table(store, whole, "--baseline", "cool") if row["metric"] == "text_to_image_r5"]
    assert [row["verdict"] == "baseline" for row in turned] == [False, False, True]
    assert turned[0]["difference"] == -rows[2]["difference"]  # type: ignore[operator]


def test_each_format_has_every_row(store: Path, whole: str, tmp_path: Path) -> None:
    files = {ending: tmp_path / f"t.{ending}" for ending in ("csv", "md", "tex", "html", "json", "txt")}
    said = compare(store, whole, *(word for file in files.values() for word in ("-o", str(file))))
    texts = {ending: file.read_text() for ending, file in files.items()}
    rows = json.loads(texts["json"])["table"]
    found = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [(row["stage"], row["metric"], row["method"]) for row in found] == [
        (row["stage"], row["metric"], row["members"]) for row in rows
    ]
    assert [float(row["value"]) for row in found] == [row["mean"] for row in rows]
    assert [row["verdict"] for row in found] == [row["verdict"] for row in rows]
    assert said.rstrip() == texts["txt"].rstrip()
    for ending, verdict in (("md", "| baseline |"), ("tex", r"& baseline \\"), ("html", ">baseline</span>")):
        assert texts[ending].count(verdict) == len(rows) // 3, ending
    assert texts["md"].count("| infonce |") == texts["tex"].count("infonce &") == len(rows) // 3
    assert texts["tex"].startswith("% ")
    assert texts["tex"].count(r"\begin") == texts["tex"].count(r"\end") == 1
    page = texts["html"]
    assert "<script" not in page
    assert page.count("<polyline") >= 3
    assert page.index('id="comparison"') < page.index('id="training"') < page.index('id="runs"')


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        "an unknown run": (["nope"], "error: nope is no run in"),
        "an unknown baseline": (["{whole}", "--baseline", "sigmod"], "did you mean sigmoid?"),
        "an unknown metric": (
            ["{whole}", "--metric", "x*"],
            "have no metric like x* in common: infonce has retrieval.",
        ),
        "an unknown format": (["{whole}", "--format", "pdf"], "there is no format 'pdf'; expected one of csv"),
        "an unknown ending": (["{whole}", "-o", "t.pdf"], "the ending of t.pdf says no format"),
    }.values(),
    ids=lambda value: None,
)
def test_mistakes_are_told_in_one_line(store: Path, whole: str, arguments: list[str], said: str) -> None:
    output = compare(store, *(word.format(whole=whole) for word in arguments), code=2)
    assert said in output
    assert len(output.splitlines()) == 1


def test_runs_that_share_nothing_are_refused(store: Path, whole: str) -> None:
    first = run(store, SPEC)
    fewer = run(store, SPEC, "data.test.size=40", "name=fewer")
    output = compare(store, first, fewer, code=2)
    assert f"{first} was measured on 60 samples and {fewer} on 40, 40 of them are common to both" in output
    assert "measure all of them on the same data" in output
    renamed = SPEC.replace("  retrieval:", "  other:").replace("  zero_shot:", "  another:")
    other = run(store, renamed, "name=renamed")
    output = compare(store, first, other, code=2)
    assert "no metric in common: grid has retrieval.image_to_text_r1" in output
    assert len(output.splitlines()) == 1


def test_the_same_spec_and_seed_counts_once_and_one_method_alone_is_shown(store: Path, whole: str) -> None:
    first, again = run(store, SPEC), run(store, SPEC)
    said = compare(store, first, again, run(store, SPEC, "seed=1"))
    assert f"{again} has the spec and seed of {first} and is left out" in said
    assert "all runs are of one method (grid)" in said


def entry(folder: Path, method: str, seed: int, scores: np.ndarray, better: str = "higher") -> Entry:
    """A run in which one metric with these item scores was stored."""
    artifact = MetricsArtifact(folder)
    artifact.write({}, items={"accuracy": StoredItems([str(i) for i in range(len(scores))], scores)})
    metric = Metric("accuracy", float(scores.mean()), better=better)  # type: ignore[arg-type]
    stage = StageReport("probe", "knn", "", "done", metrics=[metric], folder=str(folder))
    report = RunReport("r", method, "completed", "", None, seed, "", [stage], [], "", [])
    return Entry(method, seed, report, f"{method}{seed}")


Draw = Callable[[np.random.Generator], Mapping[str, np.ndarray]]


def second_methods(folder: Path, draw: Draw, better: str = "higher") -> list[Compared]:
    """What is said of the second method in 1,000 comparisons of drawn item scores [seeds, items]."""
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        entries = []
        for method, by_seed in draw(rng).items():
            for seed, scores in enumerate(by_seed):
                own = folder / str(len(entries))
                own.mkdir(exist_ok=True)
                entries.append(entry(own, method, seed, scores, better))
        found.append(compared(entries)[0].groups[1])
    return found


@pytest.mark.parametrize(("seeds", "by_seed"), [(1, 0.0), (3, 0.1)])
def test_of_equal_methods_no_difference_is_said_in_93_to_97_of_100_comparisons(
    tmp_path: Path, seeds: int, by_seed: float
) -> None:
    def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Right and wrong answers to items of varying difficulty; each seed is a better or worse training."""
        difficulty = rng.normal(size=150)

        def answers() -> np.ndarray:
            training = rng.normal(size=(seeds, 1)) * by_seed
            return (difficulty + training + rng.normal(size=(seeds, 150)) > -0.5).astype(float)

        return {"a": answers(), "b": answers()}

    said = [one.verdict for one in second_methods(tmp_path, draw)]
    assert set(said) <= {"no difference", "better", "worse"}
    assert 930 <= said.count("no difference") <= 970


@pytest.mark.parametrize(("seeds", "by_seed"), [(1, 0.0), (3, 0.2)])
def test_a_planted_difference_is_found_with_the_power_of_the_t_test(tmp_path: Path, seeds: int, by_seed: float) -> None:
    items, ahead = 100, 0.3

    def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
        difficulty = rng.normal(size=items)
        better = ahead + rng.normal(size=(seeds, 1)) * by_seed + rng.normal(size=(seeds, items))
        return {"a": np.tile(difficulty, (seeds, 1)), "b": difficulty + better}

    said = [one.verdict for one in second_methods(tmp_path, draw, better="lower")]
    freedom = seeds - 1 if seeds > 1 else items - 1
    shift = ahead / np.sqrt(by_seed**2 / seeds + 1 / (seeds * items))
    limit = stats.t.ppf(0.975, freedom)
    power = 1 - stats.nct.cdf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift)
    assert 0.2 < power < 0.95
    # Lower is better, and the second method is higher.
    assert said.count("worse") / 1000 == pytest.approx(power, abs=0.05)
    assert said.count("better") < 5
