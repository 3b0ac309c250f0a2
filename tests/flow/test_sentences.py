"""The report's sentences: value, interval, chance, and whether a metric is better than in the run before."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mmflow.flow.report.collect import StageReport
from mmflow.flow.report.sentences import NOTHING_BEFORE, sentence
from mmflow.flow.run import RunOptions, run_members
from mmflow.plugin import Metric
from mmflow.spec import load_members

SPEC = """
mmflow: 1
name: vectors
data: {test: {use: arrays, url: v.npz}}
eval:
  retrieval: {use: retrieval, data: test, of: [image, text], at: [1]}
  neighbors: {use: knn, data: test, of: image, labels: label, k: 5}
"""


def page(folder: Path, noise: float, *, rows: int = 200, name: str = "vectors") -> str:
    rng = np.random.default_rng(0)
    label = np.arange(rows) % 4
    image = rng.normal(size=(4, 8))[label] + rng.normal(size=(rows, 8))
    text = image + noise * rng.normal(size=image.shape)
    np.savez(folder / "v.npz", image=image.astype("f4"), text=text.astype("f4"), label=label)
    options = RunOptions(store=str(folder / "store"), engine="local", device="cpu")
    outcome = run_members(load_members("s.yaml", [f"name={name}"], text=SPEC), options)
    assert outcome.exit_code == 0, outcome.outcome.notes
    assert outcome.report is not None
    return Path(outcome.report).read_text()


def sentences(page: str) -> list[str]:
    (block,) = re.findall(r'<ul class="sentences">(.*?)</ul>', page, flags=re.DOTALL)
    return [re.sub(r"<[^>]*>", "", line).strip() for line in re.findall(r"<li>(.*?)</li>", block, flags=re.DOTALL)]


@pytest.mark.slow
def test_a_metric_is_compared_with_the_run_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = page(tmp_path, noise=1.0)
    assert "run before" not in first
    assert sentences(first)[0].startswith("retrieval: image → text R@1 is 0.")
    better = sentences(page(tmp_path, noise=0.5))
    assert re.search(
        r"R@1 is 0\.\d+ \(.* to .*\), \d+× chance \(0\.005\); better than 0\.\d+ in the run before\.$", better[0]
    )
    # The neighbors of the images are those of before.
    assert better[-1].endswith(
        "; no real difference from " + re.findall(r"is (0\.\d+)", better[-1])[0] + " in the run before."
    )
    worse = page(tmp_path, noise=2.0)
    assert "worse than" in sentences(worse)[0]
    assert '<span class="verdict worse">worse</span>' in worse
    # The same again: the run before with another result is the one before that.
    assert "better than" not in sentences(page(tmp_path, noise=2.0))[0]
    assert "run before" not in page(tmp_path, noise=0.1, rows=120)
    assert "run before" not in page(tmp_path, noise=0.1, name="another")


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (Metric("r1", 0.5, 0.1, low=0.4, high=0.6), "r1 is 0.500 (0.400 to 0.600), 5.0× chance (0.100)."),
        (
            Metric("r1", 0.1, 0.1, low=0.0, high=0.2),
            "r1 is 0.100 (0 to 0.200), which cannot be told from guessing (0.100).",
        ),
        (
            Metric("median_rank", 5, 50, better="lower", unit="places"),
            "median rank is 5 places, 10× better than chance (50).",
        ),
        (Metric("gap", 0.2, better=""), "gap is 0.200."),
    ],
)
def test_a_sentence_has_what_is_known(metric: Metric, said: str) -> None:
    assert sentence(StageReport("s", "retrieval", "", "done"), metric, NOTHING_BEFORE) == said
