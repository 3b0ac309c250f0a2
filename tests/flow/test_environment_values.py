"""Values of the environment reach no message, report, record or stored result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from mmflow.redaction import hide, redacted, redacted_data

pytestmark = pytest.mark.process

CASES = Path(__file__).parents[3] / "shared" / "cases-of-attack"


# Hidden for the rest of the process: no other test writes these words.
SECRET = "tøp/se'cret&\"42\\+x"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot open {SECRET}: no such file",
        f"https://host/x.csv?sig={quote(SECRET, safe='')}&a=1",
        f"https://host/{quote(SECRET)}/x",
        f"{FileNotFoundError(SECRET)!r}",
        json.dumps({"url": SECRET}),
        json.dumps({"url": SECRET}, ensure_ascii=False),
        f"<td>{__import__('html').escape(SECRET)}</td>",
        f"<td>{__import__('markupsafe').escape(SECRET)}</td>",
        f"abc{SECRET}def",
    ],
)
def test_every_form_of_a_value_is_replaced(text: str):
    hide("TOKEN", SECRET)
    assert "se" not in redacted(text).replace("$env.TOKEN", "")
    assert "cret" not in redacted(text)
    assert "$env.TOKEN" in redacted(text)


def test_secret_parts_of_a_url_are_replaced_alone():
    hide("STORE", "https://user:pass-word-1@host/bucket?X-Signature=abcdef0123456789&v=1")
    assert redacted("refused: abcdef0123456789 (pass-word-1)") == "refused: $env.STORE ($env.STORE)"
    assert redacted("v=1 of host") == "v=1 of host"


def test_short_values_are_replaced_as_words_and_very_short_ones_are_no_secret():
    hide("WORD", "dzta")
    hide("ONE", "1")
    assert redacted("dzta: metadzta, dzta/x, 1 of 11") == "$env.WORD: metadzta, $env.WORD/x, 1 of 11"


def test_numbers_in_plain_data_stay():
    hide("YEAR", "73019")
    assert redacted_data({"year": 73019, "text": ["in 73019", None]}) == {"year": 73019, "text": ["in $env.YEAR", None]}


GONE = "gone: {use: table, url: $env.FOLDER/gone.csv, columns: {text: text}}"
SPEC = """
mmflow: 1
name: leaky
data:
  test: {use: table, url: $env.FOLDER/rows.csv, columns: {image: image, text: text}, bad: skip, quarantine: left.jsonl}
  @GONE@
encoders:
  text: {use: text_transformer, of: text, width: 16, depth: 1, heads: 2, length: 8}
  image: {use: vit, of: image, size: 16, patch: 8, width: 16, depth: 1, heads: 2}
eval:
  geometry: {use: geometry, data: test, of: [image, text]}
""".replace("@GONE@", GONE)


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A folder with data below a secret path: one image is missing."""
    from PIL import Image

    folder = tmp_path / "t0p-s3cret"
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (number * 20, 0, 0)).save(folder / f"{number}.png")
    rows = [f"{number}.png,text {number}" for number in range(8)]
    (folder / "rows.csv").write_text("image,text\n" + "\n".join(rows) + "\nabsent.png,nothing\n")
    (tmp_path / "spec.yaml").write_text(SPEC.replace(GONE, ""))
    return tmp_path


def mmflow(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MMFLOW_", "PREFECT_"))}
    clean |= {"OMP_NUM_THREADS": "1", "MMFLOW_CACHE": str(folder / "cache"), **environment}
    command = [sys.executable, "-m", "mmflow", *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


@pytest.mark.process
@pytest.mark.parametrize("engine", ["--local", "--quiet"])
def test_a_run_shows_and_stores_no_value(leaky: Path, engine: str):
    """`--quiet` runs through Prefect, whose database is searched as well."""
    done = mmflow(leaky, "run", "spec.yaml", engine, "--store", "kept", FOLDER=str(leaky / "t0p-s3cret"))
    assert done.returncode == 0, done.stderr
    assert "t0p-s3cret" not in done.stdout + done.stderr
    searched = [*(leaky / "kept").rglob("*"), *(leaky / "cache").rglob("*"), leaky / "left.jsonl"]
    files = [file for file in searched if file.is_file() and file.name != "contents.json"]
    assert {"run.json", "events.jsonl", "report.html", "spec.yaml", "metrics.json"} <= {file.name for file in files}
    assert not [file for file in files if b"t0p-s3cret" in file.read_bytes()]
    (report,) = (file for file in files if file.name == "report.html")
    assert "$env.FOLDER" in report.read_text(encoding="utf-8")


@pytest.mark.process
def test_a_failed_run_and_a_bad_spec_tell_no_value(leaky: Path):
    folder = str(leaky / "t0p-s3cret")
    (leaky / "bad.yaml").write_text(SPEC)
    done = mmflow(leaky, "check", "bad.yaml", FOLDER=folder)
    assert done.returncode == 2
    assert "$env.FOLDER/gone.csv" in done.stderr
    assert "t0p-s3cret" not in done.stderr
    for file in (leaky / "t0p-s3cret").glob("?.png"):
        file.write_bytes(b"no image")
    stop = ("--set", "data.test.bad=error", "--set", "data.test.quarantine=null")
    done = mmflow(leaky, "run", "spec.yaml", "--local", *stop, "--store", "kept", FOLDER=folder)
    assert done.returncode == 2
    assert "t0p-s3cret" not in done.stdout + done.stderr
    assert "$env.FOLDER" in done.stderr
    assert not [f for f in (leaky / "kept").rglob("*") if f.is_file() and b"t0p-s3cret" in f.read_bytes()]


@pytest.mark.process
def test_what_leaves_a_run_holds_no_value(leaky: Path):
    folder = str(leaky / "t0p-s3cret")
    trained = "losses: {a: {use: infonce, of: [image, text]}}\ntrain: {data: test, steps: 1, batch_size: 4}\n"
    (leaky / "spec.yaml").write_text(f"{SPEC.replace(GONE, '')}{trained}track: [{{use: jsonl, folder: told}}]\n")
    said = ""
    for arguments in (("run", "spec.yaml", "--local"), ("export", "latest", "-o", "out"), ("embed", "latest", "test")):
        done = mmflow(leaky, *arguments, "--store", "kept", FOLDER=folder)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    # Where a file of the data is no image any more, `embed` says so.
    (leaky / "t0p-s3cret" / "3.png").write_bytes(b"no image")
    strict = "{use: table, url: $env.FOLDER/rows.csv, columns: {image: image, text: text}}"
    done = mmflow(leaky, "embed", "latest", strict, "--store", "kept", FOLDER=folder)
    assert done.returncode == 2, done.stderr
    assert "sample '3'" in done.stderr
    assert "t0p-s3cret" not in said + done.stdout + done.stderr
    left = [*(leaky / "out").rglob("*"), *(leaky / "told").rglob("*"), leaky / "vectors.parquet"]
    assert {"README.md", "log.jsonl", "vectors.parquet"} <= {path.name for path in left}
    assert not [path for path in left if path.is_file() and b"t0p-s3cret" in path.read_bytes()]


@pytest.mark.process
@pytest.mark.skipif(not CASES.is_dir(), reason="the cases of attack are not here")
@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("env_leak_*.yaml")))
def test_the_cases_of_attack_leak_nothing(tmp_path: Path, case: str):
    done = mmflow(tmp_path, "run", str(CASES / case), "--local", "--store", "kept", TOPSECRET="/s3cr3t-value-77")
    assert "s3cr3t-value-77" not in done.stdout + done.stderr
    assert done.returncode == 2
    assert not [f for f in (tmp_path / "kept").rglob("*") if f.is_file() and b"s3cr3t-value-77" in f.read_bytes()]
