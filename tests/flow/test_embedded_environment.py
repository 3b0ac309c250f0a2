"""The embedded Prefect API in environments that users have: proxies, settings for other servers, a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

DEAD = "127.0.0.1:9"
PROXIES = {
    "http": {"HTTP_PROXY": f"http://{DEAD}", "HTTPS_PROXY": f"http://{DEAD}", "no_proxy": "example.org"},
    "socks": {"ALL_PROXY": f"socks5h://{DEAD}"},
}


@pytest.mark.parametrize("kind", PROXIES)
def test_no_proxy_stands_between_a_run_and_its_api(start_run, kind):
    outcome = start_run("prefect", stages=1, variables=PROXIES[kind]).end()
    assert (outcome["returncode"], outcome["notes"], outcome["stderr"]) == (0, [], "")


def test_what_is_set_for_other_servers_changes_neither_the_run_nor_its_output(start_run, tmp_path):
    (tmp_path / "logging.yml").write_text("a: [broken")
    variables = {
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_DEBUG_MODE": "true",
        "PREFECT_LOGGING_LOG_PRINTS": "true",
        "PREFECT_LOGGING_SETTINGS_PATH": str(tmp_path / "logging.yml"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "mmflow",
        "PREFECT_LOGGING_LOGGERS_PREFECT_LEVEL": "LOUD",
        "PREFECT_FLOWS_DEFAULT_RETRIES": "2",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": "name:password",
    }
    outcome = start_run("prefect", stages=1, variables=variables).end()
    assert (outcome["returncode"], outcome["notes"], outcome["stderr"]) == (0, [], "")


LOUD = "Input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"
MISTAKES = {
    "toml": ("prefect.toml", "this is [not toml", {}, "prefect.toml, which Prefect reads, is broken: Expected '='"),
    "profiles": ("home/profiles.toml", "active = ", {}, "home/profiles.toml, which Prefect reads, is broken: Invalid"),
    "value": ("prefect.toml", "[logging]\nlevel = 'LOUD'\n", {}, f"PREFECT_LOGGING_LEVEL (in prefect.toml): {LOUD}"),
    "variable": (None, "", {"PREFECT_LOGGING_LEVEL": "LOUD"}, f"PREFECT_LOGGING_LEVEL (in the environment): {LOUD}"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_prefects_settings_is_one_message_with_its_place(tmp_path, mmflow_cache, kind):
    file, text, variables, message = MISTAKES[kind]
    if file:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    (tmp_path / "spec.yaml").write_text(SPEC)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    clean |= {"MMFLOW_CACHE": str(mmflow_cache), "PREFECT_HOME": str(tmp_path / "home"), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "mmflow", "run", "spec.yaml", "--quiet"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert "--local" in done.stderr


SPEC = """
mmflow: 1
name: small
data:
  train: {use: shapes, size: 8, pixels: 16}
encoders:
  image: {use: vit, of: image, size: 16, patch: 8, width: 8, depth: 1, heads: 1, head: {use: linear, dim: 4}}
  text: {use: text_transformer, of: caption, width: 8, depth: 1, heads: 1, head: {use: linear, dim: 4}}
losses:
  align: {use: infonce, of: [image, text]}
train: {data: train, steps: 1, batch_size: 8}
"""


def test_the_first_lines_come_before_anything_heavy_and_tell_what_is_waited_for(tmp_path, mmflow_cache):
    """The interpreter writes a line for each import, on the same stream."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    clean |= {"MMFLOW_CACHE": str(mmflow_cache), "PREFECT_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mmflow", "run", "spec.yaml", "--workers", "0"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    order = [
        "reading spec.yaml ...",
        "mmflow.spec",
        "planning 1 stages, with the store .mmflow ...",
        "loading Prefect ...",
        "prefect",
        "loading PyTorch ...",
        "torch",
        "checking shapes, and samples of the data ...",
        "waiting for the Prefect API ...",
    ]
    places = [lines.index(line) for line in order]
    assert places == sorted(places)
    heavy = [place for place, line in enumerate(lines) if line.split(".")[0] in ("torch", "numpy", "prefect")]
    assert places[0] < min(heavy)


def test_no_notice_of_telemetry_on_a_terminal(tmp_path, mmflow_cache):
    """Prefect greets the first user of a home with it where standard error is a terminal."""
    clean = {
        name: value for name, value in os.environ.items()
        if not name.startswith("PREFECT_") and name not in ("CI", "DO_NOT_TRACK", "GITHUB_ACTIONS")
    }  # fmt: skip
    clean |= {"MMFLOW_CACHE": str(mmflow_cache), "PREFECT_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("child_run.py"))
    main, terminal = pty.openpty()
    command = [sys.executable, script, str(tmp_path / "store"), "prefect", json.dumps({"stages": 1})]
    with subprocess.Popen(command, env=clean, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        while chunk := _read(main):
            said += chunk
        assert process.wait() == 0
    os.close(main)
    assert b'"status": "completed"' in said
    assert b"anonymous usage data" not in said
    assert not (tmp_path / "home" / ".sdk_telemetry" / "notice_shown").exists()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # How Linux ends a terminal whose other side is closed.
        return b""
