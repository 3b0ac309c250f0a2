"""Warnings about results: stored with them, shown by terminal, report and Prefect, again for a stage from the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from mmflow.cli.terminal import Warnings
from mmflow.evaluate.remarks import alike, guessing, shared_samples
from mmflow.flow.report import collect, render, summary_markdown
from mmflow.flow.run import RunOptions, RunOutcome, run_spec
from mmflow.flow.store import RunStore
from mmflow.plugin import Encoder, Encoding, Metric, Source, TensorType
from mmflow.spec import load_text
from mmflow.train.remarks import Bounds, Length, equal_rows, remarks

SPEC = """\
mmflow: 1
name: remarked
data:
  train: {use: table, url: FOLDER/train.jsonl, columns: COLUMNS}
  test: {use: table, url: FOLDER/test.jsonl, columns: COLUMNS}
encoders:
  text: {use: text_transformer, of: words, width: 16, heads: 2, depth: 1}
  other: {use: OTHER}
losses:
  align: {use: infonce, of: [text, other], temperature: 0.1}
train: {data: train, steps: 60, batch_size: 8, log_every: 5, optimizer: {use: adamw, lr: 3e-3}}
eval:
  found: {use: retrieval, data: test, of: [text, other], at: [1]}
"""
COLUMNS = "{words: {modality: text}, again: {modality: text}, size: size}"
WORDS = [f"{a} {b} {c}" for a in ("red", "blue", "green") for b in ("cat", "dog", "cow") for c in ("here", "there")]


class Still(Encoder, name="still_of_tests"):
    """The same vector for every row."""

    def outputs(self, *inputs: TensorType) -> Mapping[str, TensorType]:
        return {"pooled": TensorType("vector", inputs[0].axes, (16,))}

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x.reshape(-1, 1) + torch.linspace(0.1, 1.3, 16)


def table(path: Path, words: list[str], **first: str) -> None:
    rows = [{"words": text, "again": f"one {text}", "size": float(n)} | first for n, text in enumerate(words)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(
    folder: Path, other: str, *, test: list[str] | None = None, old: str = "", new: str = "", spec: str = SPEC
) -> RunOutcome:
    table(folder / "train.jsonl", WORDS)
    table(folder / "test.jsonl", [f"two {text}" for text in WORDS] if test is None else test)
    text = spec.replace("COLUMNS", COLUMNS).replace("FOLDER", str(folder)).replace("OTHER", other)
    options = RunOptions(store=str(folder / "store"), engine="local", device="cpu")
    return run_spec(load_text(text.replace(old, new)), options, watchers=[Warnings()])


TRANSFORMER = "text_transformer, of: again, width: 16, heads: 2, depth: 1"


def test_a_run_that_learned_has_no_remarks(tmp_path: Path) -> None:
    outcome = run(tmp_path, TRANSFORMER)
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert outcome.remarks == {}
    assert "remarks" not in outcome.lines


def test_a_run_that_learned_nothing_says_so_wherever_it_is_shown_and_again_from_the_store(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Still)
    outcome = run(tmp_path, "still_of_tests, of: size")
    train, found = outcome.remarks["train"], outcome.remarks["found"]
    (stuck,) = [remark for remark in train if "guessing among 8 rows gives log 8 = 2.079" in remark]
    assert "the loss align ends at 2.0" in stuck
    (chance,) = [remark for remark in found if remark.startswith("cannot be told from guessing")]
    assert "R@1" in chance
    assert "chance 0.0556" in chance
    (same,) = [remark for remark in found if "the vectors of other are nearly the same for all 18 rows" in remark]
    assert "they fill 1.00 of 16 dimensions" in same
    title = outcome.lines.index("remarks")
    assert outcome.lines[title + 1] == f"  train: {stuck}"
    assert outcome.summary()["remarks"] == outcome.remarks
    store = RunStore(str(tmp_path / "store"))
    report = collect(
        store, store.run(outcome.outcome.run_id), load_text(store.run(outcome.outcome.run_id).read("spec.yaml") or "")
    )
    page = render(report)
    assert page.index("Remarks</h2>") < page.index('id="results"')
    assert "guessing among 8 rows" in page
    assert "## remarks\n\n- train: the loss align" in summary_markdown(report)
    again = run(tmp_path, "still_of_tests, of: size")
    assert set(again.outcome.stages.values()) == {"cached"}
    assert again.remarks == outcome.remarks
    assert again.lines[again.lines.index("remarks") :] == outcome.lines[title:]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps: 60", "steps: 3", "trained for 3 steps of 8 samples only, too few to learn much: an epoch of the 18"),
        ("steps: 60, batch_size: 8", "steps: 3, batch_size: 500",
         "3 steps of 18 samples only, too few to learn much: an epoch of the 18 samples has 1, so give more "
         "`epochs`, or a smaller `batch_size` (500 is more than there are)"),
        ("lr: 3e-3", "lr: 0", "the learning rate was 0 at every step"),
        ("temperature: 0.1", "temperature: {use: learned, init: 0.1, min: 0.0999, max: 0.5}",
         "losses.align.temperature ends at its bound, `min: 0.0999`"),
    ],
)  # fmt: skip
def test_signs_of_a_training_that_went_wrong(tmp_path: Path, old: str, new: str, said: str) -> None:
    outcome = run(tmp_path, TRANSFORMER, old=old, new=new)
    assert [remark for remark in outcome.remarks["train"] if said in remark], outcome.remarks


def history(losses: list[float], *, norm: float = 1.0, rows: int = 64, **more: float) -> list[dict[str, float]]:
    return [
        {"step": 10.0 * n, "loss": loss, "loss/align": loss, "rows/align": rows, "grad_norm": norm, "lr": 1e-3, **more}
        for n, loss in enumerate(losses, 1)
    ]


def about(lines: list[dict[str, float]], steps: int = 500, **bounds: Bounds) -> list[str]:
    return list(remarks(lines, Length(steps, 64, 4000), untrained=True, contrasts=["align"], bounds=bounds))


def test_courses_that_are_healthy_and_courses_that_are_not() -> None:
    falling = [4.2 * 0.9**n for n in range(20)]
    assert about(history(falling)) == []
    # Passing through log 64 = 4.159 on the way is no standing still, and one that ends there after a fall is.
    assert about(history([5.5, 5.0, 4.6, 4.16, 3.9, 3.5, 3.2, 3.0])) == []
    assert "guessing among 64 rows" in about(history([6.0, 5.0, 4.2, 4.16, 4.159, 4.158, 4.16, 4.159]))[0]
    (flat,) = about(history([7.301, 7.3, 7.302, 7.3, 7.301, 7.3]))
    assert "the loss went from 7.301 to 7.3" in flat
    (dead,) = about(history([3.0, 2.5, 2.4, 2.4, 2.4, 2.4], norm=0.0))
    assert "norm of the gradient is 0 or less from step 40 on, at a loss of 2.4" in dead
    # A margin that all triples keep has neither loss nor gradient left.
    assert about(history([0.4, 0.2, 0.0, 0.0, 0.0, 0.0], norm=0.0)) != []
    assert about(history([0.0] * 6, norm=0.0)) == [
        "the loss align was 0 at every step that is logged: it has trained nothing"
    ]
    beside = about(history(falling, **{"loss/idle": 0.0}))
    assert beside == ["the loss idle was 0 at every step that is logged: it has trained nothing"]
    ends = history(falling, **{"value/losses.align.temperature": 0.01})
    assert about(ends, **{"losses.align.temperature": Bounds(0.01, None)})[0].startswith(
        "losses.align.temperature ends"
    )
    assert about(ends, **{"losses.align.temperature": Bounds(0.001, 0.5)}) == []
    assert "trained for 19 steps" in about(history(falling), steps=19)[0]


def metric(
    value: float, low: float, high: float, chance: float | None = 0.1, better: str = "higher", group: str = ""
) -> Metric:
    return Metric(f"m{value}{group}", value, chance, better, low=low, high=high, group=group)  # type: ignore[arg-type]


def test_metrics_at_their_chance_and_below_it() -> None:
    assert list(guessing([metric(0.3, 0.2, 0.4)])) == []
    assert list(guessing([metric(0.3, 0.2, 0.4), metric(0.12, 0.05, 0.2)])) == [], "one of the group is above"
    (said,) = guessing([metric(0.3, 0.2, 0.4, group="image"), metric(0.12, 0.05, 0.2, group="text")])
    assert said.startswith("cannot be told from guessing: text m0.12text 0.12 (95 % from 0.05 to 0.2, chance 0.1)")
    (said,) = guessing([metric(0.02, 0.01, 0.05), metric(60.0, 50.0, 70.0, 20.0, "lower")])
    assert said.startswith("worse than guessing")
    assert list(guessing([metric(9.0, 8.0, 12.0, 20.0, "lower")])) == []
    # No direction, no chance or no interval: nothing to say.
    assert list(guessing([metric(0.5, 0.4, 0.6, 0.5, ""), metric(0.5, 0.4, 0.6, None), Metric("a", 0.5, 0.5)])) == []


def test_vectors_are_alike_where_they_are_one_and_not_where_they_have_a_common_part() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 32, generator=generator)
    assert list(alike("x", Encoding({"pooled": noise}))) == []
    cone = noise + 8 * torch.ones(32)
    assert list(alike("x", Encoding({"pooled": cone}))) == [], "a narrow cone tells rows apart"
    (said,) = alike("x", Encoding({"pooled": cone * 0 + 1 + 1e-4 * noise}))
    assert "mean cosine of two is 1.00000" in said
    opposite = torch.ones(200, 32) * torch.tensor([1.0, -1.0]).repeat(100)[:, None]
    assert list(alike("x", Encoding({"pooled": opposite}))) == [], "two classes at the ends of a line"
    present = torch.zeros(200, dtype=torch.bool)
    present[:4] = True
    assert list(alike("x", Encoding({"pooled": torch.ones(200, 32)}, ("sample",), present))) == [], "too few rows"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (WORDS[-5:], "5 of 5 rows of test are also in train, which the model was trained on"),
        ([*WORDS[:2], "a new one", "and another"], "2 of 4 rows of test are also in train"),
        (["nothing", "that was", "there before"], None),
    ],
)
def test_samples_of_the_training_data_in_the_test_data_are_told(
    tmp_path: Path, test: list[str], said: str | None
) -> None:
    # Ids are row numbers, which both tables share whatever their rows hold.
    outcome = run(tmp_path, TRANSFORMER, test=test)
    shared = [remark for remark in outcome.remarks.get("found", []) if "are also in" in remark]
    assert len(shared) == (said is not None)
    assert said is None or said in shared[0], shared


def test_shared_samples_are_told_of_every_stream_too(tmp_path: Path) -> None:
    table(tmp_path / "few.jsonl", ["only here", *WORDS[:8]])
    streams = SPEC.replace("data: train, steps: 60, batch_size: 8", "data: {a: few, b: train}, steps: 3, batch_size: 8")
    streams = streams.replace("data: test, of", "data: {a: test}, of").replace("of: words", "of: a.words")
    more = "  few: {use: table, url: FOLDER/few.jsonl, columns: COLUMNS}\nencoders:"
    more = streams.replace("encoders:", more)
    more = more.replace(
        "losses:", "  far: {use: same, weights: text, of: b.words}\nlosses:\n  same: {use: alignment, of: [far, far]}"
    )
    outcome = run(
        tmp_path, "text_transformer, of: a.again, width: 16, heads: 2, depth: 1", test=WORDS[10:13], spec=more
    )
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert [remark for remark in outcome.remarks["found"] if "are also in" in remark] == [
        "3 of 3 rows of test are also in train, which the model was trained on"
    ]


def test_rows_without_a_value_are_equal_to_none(tmp_path: Path) -> None:
    def entry(name: str, words: list[str]) -> tuple[str, Source]:
        lines = ["words,again", *(f"{text},{number}" for number, text in enumerate(words))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        source = f"{{use: table, url: {tmp_path}/{name}.csv, columns: {{words: {{modality: text}}, again: again}}}}"
        stage = f"{{use: embed, data: {name}, of: a}}"
        encoder = "{use: text_transformer, of: words}"
        text = f"mmflow: 1\nname: x\ndata: {{{name}: {source}}}\nencoders: {{a: {encoder}}}\nstages: {{e: {stage}}}\n"
        return name, load_text(text).data[name]

    train, test = entry("train", ["", "", "", "", "a", "b", "a", "c"]), entry("test", ["", "", "a", "d", "e"])
    assert list(shared_samples(test, train, ["words"], "seen")) == ["1 of 3 rows of test are also in train, seen"]
    assert list(shared_samples(entry("other", ["", "", "d"]), train, ["words"], "seen")) == []
    # Of 8 rows in a batch 4 have words, of which 2 of 12 pairs are equal.
    assert list(equal_rows(train[1], ["words"], "align", 8)) == []
    (said,) = equal_rows(entry("more", ["", "", "", "", "a", "a", "a", "a"])[1], ["words"], "align", 8)
    assert said.startswith("a row has on average 3.0 others of equal words in its batch of 8 (1 different in 4 rows)")


def test_large_entries_are_compared_by_ids_and_by_a_part(tmp_path: Path) -> None:
    def entry(name: str, rows: range, prefix: str = "") -> tuple[str, object]:
        lines = [{"id": f"{prefix}{n}", "words": f"text {n}", "again": "", "size": n} for n in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        source = f"{{use: table, url: {tmp_path}/{name}.jsonl}}"
        spec = (
            f"mmflow: 1\nname: x\ndata: {{{name}: {source}}}\nencoders: {{a: {{use: text_transformer, of: words}}}}\n"
        )
        return name, load_text(f"{spec}stages: {{e: {{use: embed, data: {name}, of: a}}}}").data[name]

    train = entry("train", range(5000))
    few = list(shared_samples(entry("test", range(4990, 6000)), train, ["words"], "seen"))  # type: ignore[arg-type]
    assert few == ["10 of 10 rows of test that were looked at are also in train, seen"], few
    assert list(shared_samples(entry("test", range(6000, 7000)), train, ["words"], "seen")) == []  # type: ignore[arg-type]
    renamed = list(shared_samples(entry("test", range(1000), "other "), train, ["words"], "seen"))  # type: ignore[arg-type]
    assert renamed
    assert "rows of test that were looked at are also in train" in renamed[0]


def test_equal_captions_count_by_default_and_are_told_where_they_do_not(tmp_path: Path) -> None:
    doubled = [text for text in [f"two {text}" for text in WORDS[:6]] for _ in range(2)]
    outcome = run(tmp_path, TRANSFORMER, test=doubled, old="at: [1]}", new="at: [1], match: []}")
    said = [remark for remark in outcome.remarks["found"] if "has the very score of the right one" in remark]
    assert len(said) == 2
    assert "text → other: for 12 of 12 queries" in said[0]
    assert "`match: again` counts those as right" in said[0]
    matched = run(tmp_path, TRANSFORMER, test=doubled, old="at: [1]}", new="at: [1], match: words}")
    assert not [remark for remark in matched.remarks.get("found", []) if "very score" in remark]
    # Without `match`, equal texts count by themselves.
    by_default = run(tmp_path, TRANSFORMER, test=doubled)
    assert not [remark for remark in by_default.remarks.get("found", []) if "very score" in remark]
    values = [[m["value"] for m in one.metrics["found"]] for one in (by_default, matched)]
    assert values[0] == values[1]
    assert any("R@1 (equal " in line for line in by_default.lines)


def test_classes_that_are_never_predicted_are_named() -> None:
    from mmflow_evaluators.estimates import never_predicted

    truth = np.repeat([0, 1, 2, 3], [30, 12, 11, 4])
    predicted = np.where(truth == 2, 0, truth)
    assert never_predicted(predicted, truth, ("a", "b", "c")) == ["1 of 4 classes are never predicted: c (11 rows)"]
    assert never_predicted(truth, truth) == []
    assert never_predicted(np.where(truth == 3, 0, truth), truth) == [], "four rows are too few to be odd"
    (said,) = never_predicted(np.zeros(57, int), truth, ("a", "b"), "image: ")
    assert said == "image: every one of the 57 rows is given the class a"


@pytest.mark.parametrize(("fields", "drawn"), [("", True), (", init: INIT", False)])
def test_an_encoder_that_no_training_reached_is_told(tmp_path: Path, fields: str, drawn: bool) -> None:
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.eye(4, 16), "linear.bias": torch.zeros(4)}, tmp_path / "one.safetensors")
    spare = f"{{use: linear, of: text, dim: 4{fields.replace('INIT', f'{tmp_path}/one.safetensors')}}}"
    outcome = run(
        tmp_path, TRANSFORMER, old="losses:", new=f"  spare: {spare}\nstages:\n"
        "  shape: {use: geometry, data: test, of: spare, model: train}\nlosses:",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.outcome.notes
    told = [remark for remark in outcome.remarks.get("shape", []) if "encoders.spare has no weights" in remark]
    assert bool(told) == drawn
    assert "found" not in outcome.remarks
