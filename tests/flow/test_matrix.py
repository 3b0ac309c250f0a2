"""One run over the members of a matrix: what is equal is done once, what fails fails alone, and one table shows all."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from mmflow.cli.app import app
from mmflow.evaluate.comparison import paired_difference
from mmflow.flow.plan import plan_members
from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_members, write_report
from mmflow.plugin import Encoder, TensorType, hookimpl
from mmflow.plugin.registry import registry
from mmflow.spec import load_members

pytestmark = pytest.mark.slow

SPEC = """
mmflow: 1
name: grid
data:
  train: {use: shapes, split: train, size: 48, pixels: 16}
  test: {use: shapes, split: test, size: 32, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  text: {use: text_transformer, of: caption, width: 16, depth: 1, heads: 2, head: {use: linear, dim: 8}}
  color: {use: mean_color, of: image}
losses:
  align: {use: infonce, of: [image, text], temperature: 0.07}
stages:
  colors: {use: embed, data: train, of: color, model: init}
  fit: {use: train, data: train, start: init, steps: 3, batch_size: 24, sampler: {use: hard_neighbors, of: colors}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1, 5]}
  baseline: {use: knn, data: train, test: test, of: color, labels: label, model: init}
matrix:
  infonce: {}
  sigmoid: {losses.align: {use: siglip, of: [image, text]}}
  cool: {losses.align.temperature: 0.5}
  seed: [0, 1, 2]
"""
MEMBERS = [f"{loss},seed={seed}" for loss in ("infonce", "sigmoid", "cool") for seed in range(3)]
encoded: Counter[int] = Counter()


class MeanColor(Encoder, name="mean_color"):
    """The mean color of an image: no weights, so nothing to draw."""

    accepts = (("image",),)

    def outputs(self, *inputs):
        return {"pooled": TensorType("vector", size=(3,))}

    def apply(self, image):
        if image.device.type == "cpu":
            encoded[len(image)] += 1
        return image.mean((-2, -1))


@pytest.fixture(scope="module", autouse=True)
def own_components() -> Iterator[None]:
    registry.cache_clear()
    names = {"encoder/mean_color": f"{__name__}:MeanColor"}
    plugin = SimpleNamespace(mmflow_components=hookimpl(lambda: names))
    registry().add("matrix", lambda: plugin, "components-of-tests", "0")
    yield
    registry.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix") / "store"


def run(store: Path, *overrides: str, only: tuple[str, ...] = (), engine: str = "local") -> RunOutcome:
    options = RunOptions(store=str(store), engine=engine, device="cpu")  # type: ignore[arg-type]
    return run_members(load_members("s.yaml", overrides, text=SPEC).only(only), options)


@pytest.fixture(scope="module")
def whole(store: Path) -> RunOutcome:
    encoded.clear()
    outcome = run(store)
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome


def done(outcome: RunOutcome) -> list[str]:
    return [name for name, state in outcome.outcome.stages.items() if state == "done"]


def test_what_members_share_is_done_once(whole: RunOutcome) -> None:
    own = [f"{member}/{stage}" for member in MEMBERS for stage in ("fit", "retrieval")]
    assert sorted(done(whole)) == sorted(["colors", "baseline", *own])
    assert {stage.name: len(stage.members) for stage in whole.plan if stage.name in ("colors", "baseline")} == {
        "colors": 9,
        "baseline": 9,
    }
    # The rows of `train` for `colors`, whose encodings `baseline` finds, and those of `test`, each once; two are looked
    # at before the run.
    assert {size: count for size, count in encoded.items() if size > 2} == {48: 1, 32: 1}


def test_again_nothing_is_done_and_one_member_can_be_changed_alone(whole: RunOutcome, store: Path) -> None:
    assert done(run(store)) == []
    changed = run(store, "cool,seed=1:stages.fit.steps=2")
    assert done(changed) == ["cool,seed=1/fit", "cool,seed=1/retrieval"]
    # A setting that cannot change a result changes nothing, for all or for one.
    assert done(run(store, "stages.fit.log_every=1", "cool,seed=1:stages.fit.workers=0")) == []


def test_the_table_has_means_spreads_and_paired_differences(whole: RunOutcome, store: Path) -> None:
    values: dict[str, list[float]] = {}
    for member in MEMBERS:
        metrics = {metric["name"]: metric["value"] for metric in whole.metrics[f"{member}/retrieval"]}
        values.setdefault(member.partition(",")[0], []).append(metrics["image_to_text_median_rank"])
    rows = [row for row in whole.table if row["metric"] == "image_to_text_median_rank"]
    assert [row["members"] for row in rows] == ["infonce", "sigmoid", "cool"]
    for row in rows:
        own = values[row["members"]]
        assert row["values"] == own
        assert row["mean"] == pytest.approx(statistics.fmean(own))
        assert row["spread"] == pytest.approx(statistics.stdev(own))
    assert rows[0]["difference"] is None
    away = paired_difference([[v] for v in values["sigmoid"]], [[v] for v in values["infonce"]])
    assert rows[1]["difference"] == pytest.approx(away.mean)
    # Of two comparisons the surer one has its p doubled, and the other at least that (Holm).
    alone = [
        paired_difference([[v] for v in values[name]], [[v] for v in values["infonce"]]).p
        for name in ("sigmoid", "cool")
    ]
    first, second = sorted(alone)
    assert sorted(row["p"] for row in rows[1:]) == pytest.approx([min(1, 2 * first), min(1, max(2 * first, second))])
    shared = [row for row in whole.table if row["stage"] == "baseline" and row["metric"] == "accuracy"]
    assert [row["difference"] for row in shared] == [None, 0.0, 0.0]
    assert any(line.startswith("retrieval: image → text median rank (lower is better)") for line in whole.lines)


def test_the_page_has_the_table_on_top_and_each_member_folded(whole: RunOutcome, store: Path) -> None:
    assert whole.report is not None
    page = Path(whole.report).read_text()
    assert page.count('<details class="member">') == len(MEMBERS)
    assert page.index('id="comparison"') < page.index('<details class="member">')
    assert page.count("shared with infonce,seed=0, which shows it") == 2 * (len(MEMBERS) - 1)
    again = Path(write_report(open_store(str(store)), whole.outcome.run_id)).read_text()
    # Written within the run, it does not know yet how long that took.
    assert again.partition("<main>")[2] == page.partition("<main>")[2]


def test_some_members_alone(whole: RunOutcome, store: Path) -> None:
    outcome = run(store, only=("sigmoid,seed=0", "sigmoid,seed=2"))
    assert outcome.exit_code == 0
    assert done(outcome) == []
    assert set(outcome.summary()["members"]) == {"sigmoid,seed=0", "sigmoid,seed=2"}
    assert outcome.table[0]["values"] == [
        next(row for row in whole.table if row["members"] == "sigmoid")["values"][i] for i in (0, 2)
    ]


def test_a_member_that_fails_stops_no_other(whole: RunOutcome, store: Path) -> None:
    # So fast that the loss overflows: it is told after a step.
    outcome = run(store, "cool,seed=2:stages.fit.optimizer={use: sgd, lr: 1e+30}", "stages.fit.steps=4")
    assert outcome.exit_code == 1
    states = outcome.outcome.stages
    assert states["cool,seed=2/fit"] == "failed"
    assert states["cool,seed=2/retrieval"] == "skipped"
    assert len(done(outcome)) == 2 * (len(MEMBERS) - 1)
    row = next(row for row in outcome.table if row["members"] == "cool")
    assert len(row["values"]) == 2
    assert outcome.report is not None
    assert 'class="state failed">failed</span></summary>' in Path(outcome.report).read_text()
    record = open_store(str(store)).run(outcome.outcome.run_id)
    assert "cool-seed-2-fit.error.txt" in record.files()


def test_through_prefect_tasks_have_the_names_of_members(whole: RunOutcome, store: Path) -> None:
    outcome = run(store, only=("infonce,seed=0", "cool,seed=0"), engine="prefect")
    assert (outcome.exit_code, done(outcome)) == (0, [])
    own = [[f"{member}/fit", f"{member}/retrieval"] for member in ("infonce,seed=0", "cool,seed=0")]
    assert list(outcome.outcome.stages) == ["colors", *own[0], "baseline", *own[1]]


def test_stages_that_some_members_share_are_called_by_what_these_have_in_common() -> None:
    text = SPEC.replace("start: init, steps", "start: init, seed: 7, steps")
    plan, _ = plan_members(load_members("s.yaml", text=text))
    names = [stage.name for stage in plan if stage.stage == "fit"]
    assert names == ["infonce/fit", "sigmoid/fit", "cool/fit"]
    assert [len(stage.members) for stage in plan if stage.stage == "retrieval"] == [3, 3, 3]
    odd = load_members("s.yaml", ["infonce,seed=1:stages.fit.seed=8", "cool,seed=0:stages.fit.seed=9"], text=text)
    plan, _ = plan_members(odd)
    assert [stage.name for stage in plan if stage.stage == "fit"] == [
        "infonce,seed=0/fit", "infonce,seed=1/fit", "sigmoid/fit", "cool,seed=0/fit", "cool,seed=1/fit",
    ]  # fmt: skip


def test_the_commands_take_members(whole: RunOutcome, store: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPEC)
    spec, runner = str(tmp_path / "s.yaml"), CliRunner()
    planned = runner.invoke(app, ["plan", spec, "--store", str(store)])
    assert planned.exit_code == 0, planned.output
    lines = [line.split() for line in planned.output.splitlines()]
    assert ["colors", "embed", "stored", "9", "of", "9"] in [line[:6] for line in lines]
    assert sum(line[3] == "1" for line in lines[1:]) == 18
    as_data = json.loads(runner.invoke(app, ["plan", spec, "--member", "cool,seed=1", "--json"]).output)
    assert [stage["name"] for stage in as_data] == ["colors", "fit", "retrieval", "baseline"]
    checked = runner.invoke(app, ["check", spec])
    assert "9 members (infonce,seed=0, infonce,seed=1," in checked.output
    assert checked.output.count("1 wave") == 1
    options = ["--store", str(store), "--local", "--device", "cpu", "--json"]
    ran = runner.invoke(app, ["run", spec, *options, "--member", "cool,seed=0", "--set", "cool,seed=0:name=other"])
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert said["members"] == {"cool,seed=0": {name: name for name in ("colors", "fit", "retrieval", "baseline")}}
    wrong = runner.invoke(app, ["run", spec, *options, "--member", "col,seed=0"])
    assert wrong.exit_code == 2
    assert "there is no member col,seed=0" in wrong.output
    assert "did you mean cool,seed=0?" in wrong.output
