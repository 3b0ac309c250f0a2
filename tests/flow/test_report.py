"""Reports of real runs whose data, names and classes try to break out of the page."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from mmflow.flow.report import collect, render, summary_lines, summary_markdown
from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.flow.store import RunStore
from mmflow.plugin import ComponentError, Encoding, EvaluationResult, Evaluator, hookimpl
from mmflow.plugin.registry import registry
from mmflow.spec import Spec, load_spec

pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>document.title='broken'</script>",
    "</style><script>document.title='broken'</script>",
    '"><img src=x onerror="document.title=\'broken\'">',
    "</title></pre></svg><svg onload=\"document.title='broken'\">",
    "{{ 7 * 7 }} {% raw %}",
    "a & b | c `d` [e](javascript:alert(1))",
]
SPEC = """
mmflow: 1
name: "run <img src=x onerror=document.title='broken'> & co"
data:
  train: &table
    use: table
    url: {folder}/train.jsonl
    id: key
    columns: {{image: file, words: words, kind: {{modality: label}}}}
  test: *table
encoders:
  image: {{use: vit, of: image, size: 8, patch: 4, width: 16, heads: 2, depth: 1}}
  text: {{use: text_transformer, of: words, width: 16, heads: 2, depth: 1}}
losses:
  align: {{use: infonce, of: [image, text], temperature: {{use: learned, init: 0.07}}}}
train: {{data: train, steps: 4, batch_size: 6, log_every: 1}}
eval:
  retrieval: {{use: retrieval, data: test, of: [image, text], at: [1, 5]}}
  zero_shot: {{use: zero_shot, data: test, of: [image, text], labels: kind, prompts: ["a {{}}"]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    rows = []
    for i in range(12):
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append({"key": f"{i}'\"<i>", "file": f"{i}.png", "words": HOSTILE[i % 6], "kind": HOSTILE[i % 3]})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "spec.yaml").write_text(SPEC.format(folder=folder))
    return folder


def run(folder: Path, *overrides: str, store: str = "store") -> tuple[RunOutcome, RunStore, Spec]:
    spec = load_spec(str(folder / "spec.yaml"), overrides)
    outcome = run_spec(spec, RunOptions(store=str(folder / store), engine="local", device="cpu"))
    return outcome, RunStore(str(folder / store)), spec


@pytest.fixture(scope="module")
def first(folder: Path) -> tuple[RunOutcome, RunStore, Spec]:
    outcome, store, spec = run(folder)
    assert outcome.exit_code == 0, outcome.outcome.notes
    return outcome, store, spec


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(outcome: RunOutcome) -> tuple[str, Page]:
    assert outcome.report is not None
    text = Path(outcome.report).read_text()
    return text, Page(text)


def test_nothing_that_comes_from_data_becomes_markup(first):
    _, page = page_of(first[0])
    assert "script" not in page.tags
    assert page.tags.count("style") == page.tags.count("head") == 1
    assert not [a for a in page.attributes if a[1].startswith("on")]
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert sources
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in sources)
    # And it is all there to be read.
    for text in HOSTILE:
        assert " ".join(text.split()) in page.text
    assert "run <img src=x onerror=document.title='broken'> & co" in page.text


def test_the_page_needs_no_network(first):
    text, page = page_of(first[0])
    policy = next(v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'")
    styles = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in styles
    assert "@import" not in styles
    assert "link" not in page.tags


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_nothing_of_it(first, tmp_path):
    outcome = first[0]
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=2000", "--dump-dom", f"file://{outcome.report}",
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    page = Page(dom)
    assert page.tags.count("h2") >= 7
    assert "script" not in page.tags
    title = dom[dom.index("<title>") + 7 : dom.index("</title>")]
    assert title.startswith("run &lt;img src=x onerror")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [500, 1300, 1600])
def test_no_number_on_top_is_wider_than_its_place(first, tmp_path, width):
    count = "[...document.querySelectorAll('.card')].map(card => card.scrollWidth > card.clientWidth)"
    # The page itself lets no script run.
    page = Path(first[0].report).read_text(encoding="utf-8").replace("Content-Security-Policy", "none")
    (tmp_path / "page.html").write_text(f"{page}<script>document.title = {count}</script>", encoding="utf-8")
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}",
        f"--window-size={width},900", "--dump-dom", f"file://{tmp_path / 'page.html'}",
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    wider = dom[dom.index("<title>") + 7 : dom.index("</title>")].split(",")
    assert len(wider) >= 3
    assert set(wider) == {"false"}


def test_images_are_those_of_the_data(first, folder):
    outcome, store, spec = first
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    groups = dict(report.stage("retrieval").examples)
    assert set(groups) == {"image to words", "words to image"}
    example = groups["image to words"][0]
    assert example.query.value.kind == "image"
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(str(example.query.value.content).partition(",")[2]))))
    number = example.query.id.partition("'")[0]
    assert (pixels == np.asarray(Image.open(folder / f"{number}.png"))).all()
    assert [row.value.kind for row, _ in example.found] == ["text"] * 5
    place = int(example.found[0][0].id.partition("'")[0])
    assert example.found[0][0].value.content == HOSTILE[place % 6]


def test_the_report_holds_what_the_run_did(first):
    outcome, store, spec = first
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    assert report.status == "completed"
    assert [(s.name, s.state) for s in report.stages] == [
        ("train", "done"),
        ("retrieval", "done"),
        ("zero_shot", "done"),
    ]
    train = report.stage("train")
    assert [line["step"] for line in train.history] == [1, 2, 3, 4]
    assert train.training.get("steps") == 4
    assert train.seconds is not None
    assert [(entry.name, entry.rows, entry.read_by) for entry in report.data] == [
        ("train", 12, ["train"]), ("test", 12, ["retrieval", "zero_shot"]),
    ]  # fmt: skip
    assert report.environment.get("versions", {})["torch"]
    assert report.spec == spec.to_yaml()
    _, page = page_of(outcome)
    for said in ("Loss", "Learning rate", "align temperature", "By encoder", "By label", "Confusion", "python"):
        assert said in page.text
    lines = [line for line in spec.to_yaml().splitlines() if line.strip()]
    assert all(" ".join(line.split()) in page.text for line in lines)


def test_a_second_run_is_reported_from_the_store(first, folder):
    outcome, store, spec = run(folder)
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    assert all(stage.cached for stage in report.stages)
    earlier = collect(store, store.run(first[0].outcome.run_id), first[2])
    assert [s.metrics for s in report.stages] == [s.metrics for s in earlier.stages]
    assert report.stage("train").history
    _, page = page_of(outcome)
    assert page.text.count("from the store") >= 3
    assert "trained earlier" in page.text
    assert any("(stored)" in line for line in summary_lines(report))


class GivesUp(Evaluator, name="gives_up"):
    """An evaluator that fails at work, and not where it is tried before the run."""

    begun: ClassVar[list[str]] = []

    def evaluate(self, *of: Encoding) -> EvaluationResult:
        if self.begun:
            raise ComponentError("some label has no name")
        return EvaluationResult([])


class Begun:
    """Takes note of the stages that begin."""

    @hookimpl
    def mmflow_stage_started(self, run: str, stage: str, key: str) -> None:
        GivesUp.begun.append(stage)


def test_a_failed_stage_is_told_and_the_rest_is_shown(first, folder, register):
    register(GivesUp)
    GivesUp.begun.clear()
    registry().plugins.register(Begun())
    outcome, store, spec = run(folder, "eval.zero_shot={use: gives_up, data: train, of: [image, text]}")
    assert outcome.exit_code == 1
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    assert report.status == "failed"
    failed = report.stage("zero_shot")
    assert (failed.state, failed.metrics) == ("failed", [])
    page = Page(render(report))
    assert "some label has no name" in page.text
    assert "image → text R@1" in page.text


def test_data_that_has_moved_costs_only_its_images(first, folder, tmp_path):
    outcome, store, spec = first
    moved = tmp_path / "train.jsonl"
    (folder / "train.jsonl").rename(moved)
    try:
        report = collect(store, store.run(outcome.outcome.run_id), spec)
    finally:
        moved.rename(folder / "train.jsonl")
    assert report.stage("retrieval").metrics
    assert report.stage("retrieval").examples == []
    assert any("examples of retrieval are not shown" in note for note in report.notes)
    assert "examples of retrieval are not shown" in Page(render(report)).text


def test_a_result_that_cannot_be_read_costs_only_itself(first, folder):
    outcome, _store, spec = first
    copy = folder / "unreadable"
    shutil.copytree(folder / "store", copy)
    other = RunStore(str(copy))
    broken = folder / "broken"
    broken.mkdir()
    (broken / "metrics.json").write_text("{half a")
    other.publish(outcome.plan["retrieval"].key, broken, {})
    report = collect(other, other.run(outcome.outcome.run_id), spec)
    assert report.stage("zero_shot").metrics
    assert not report.stage("retrieval").metrics
    (note,) = (note for note in report.notes if "retrieval" in note)
    assert note.startswith("the stored result of retrieval cannot be shown: JSONDecodeError")


def test_results_that_were_removed_are_left_out(first, folder):
    outcome, _store, spec = first
    copy = folder / "copy"
    shutil.copytree(folder / "store", copy)
    shutil.rmtree(copy / "entries")
    other = RunStore(str(copy))
    report = collect(other, other.run(outcome.outcome.run_id), spec)
    assert all(not s.metrics and not s.history for s in report.stages)
    assert summary_lines(report) == []
    assert "Results" not in Page(render(report)).text.split()


def test_the_terminal_shows_each_metric_beside_chance(first):
    outcome, store, spec = first
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    lines = summary_lines(report)
    assert lines[0] == "retrieval on 12 rows of test"
    head = lines[1]
    row = next(line for line in lines if "image → text R@5" in line)
    metric = next(m for m in report.stage("retrieval").metrics if m.name == "image_to_text_r5")
    chance = row[head.index("chance") :].split()[0]
    assert float(chance) == pytest.approx(metric.chance, abs=5e-4)
    assert float(row[head.index("value") :].split()[0]) == pytest.approx(metric.value, abs=5e-4)


def test_the_terminal_tells_what_share_of_a_training_was_waiting(first):
    outcome, store, spec = first
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    report.stage("train").training["waiting"] = 0.0123
    said = "train: 1.2 % of the time after the first steps was waiting for data"
    assert said in summary_lines(report)
    assert "(1.2 % after the first steps)" in Page(render(report)).text
    report.stage("train").state = "cached"
    assert said not in summary_lines(report)


def test_markdown_keeps_its_tables(first):
    outcome, store, spec = first
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    report.stages[0].name = "a|b <script>"
    text = summary_markdown(report)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} <= {5, 6}
    assert "<script>" not in text
    assert "image → text R@1" in text


def test_a_report_is_plain_data(first):
    outcome, store, spec = first
    report = collect(store, store.run(outcome.outcome.run_id), spec)
    assert json.loads(json.dumps(report, default=vars))["name"] == spec.name
