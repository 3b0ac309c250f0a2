"""Runs against a Prefect server of the user's own, and what its UI shows of them."""

import base64
import json
import logging
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def server(start_prefect_server):
    return start_prefect_server()


def post(url: str, body: dict) -> dict | list:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "{}")


def log_of(server, run: dict) -> list[dict]:
    lines = post(f"{server.url}/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert isinstance(lines, list)
    return lines


def latest_flow_run(server) -> dict:
    runs = post(f"{server.url}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    assert isinstance(runs, list)
    return runs[0]


def test_a_run_is_seen_with_its_log_and_artifacts(start_run, server, wait_for):
    outcome = start_run("prefect", api_url=server.url).end()
    assert (outcome["returncode"], outcome["status"], outcome["notes"]) == (0, "completed", [])
    run = latest_flow_run(server)
    assert run["name"] == outcome["run_id"]
    assert run["state_name"] == "Completed"
    of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}

    def logged() -> set[str]:
        return {line["message"] for line in log_of(server, run)}

    expected = {"stage train: done", "stage zero_shot: done", "train metrics: at=1, recall=0.5, chance=nan"}
    wait_for(lambda: expected <= logged(), "the log of the run")
    keys = {artifact["key"] for artifact in post(f"{server.url}/artifacts/filter", of_run)}
    assert {"clip-shapes-stages", "clip-shapes-train-progress", "clip-shapes-retrieval-metrics"} <= keys
    assert not outcome["stderr"].count("stage train: done"), "the terminal has the watcher's lines, not these"
    start_run("prefect", api_url=server.url).end()
    again = latest_flow_run(server)
    found = wait_for(
        lambda: [line for line in log_of(server, again) if "found in" in line["message"]], "what is stored"
    )
    assert [(line["message"], line["level"]) for line in found] == [("all 3 stages found in the store", logging.INFO)]


def test_the_traceback_of_a_failed_stage_is_in_the_log_of_its_run(start_run, server, wait_for):
    outcome = start_run("prefect", api_url=server.url, salt="fails", fails="retrieval").end()
    assert (outcome["returncode"], outcome["status"]) == (1, "failed")
    run = latest_flow_run(server)
    assert (run["state_name"], run["name"]) == ("Failed", outcome["run_id"])
    head = "stage retrieval failed\nTraceback (most recent call last):\n"
    lines = wait_for(
        lambda: [x for x in log_of(server, run) if x["message"].startswith(head)], "the traceback in the log"
    )
    assert [line["level"] for line in lines] == [logging.ERROR]
    text = lines[0]["message"]
    assert "child_run.py" in text
    assert text.endswith("ValueError: no images at all\n")
    assert "Traceback" not in outcome["stderr"]
    assert outcome["notes"][0].startswith("stage retrieval failed: no images at all (ValueError")


@pytest.mark.parametrize("asks", [True, False])
def test_cancelled_in_the_api(start_run, server, asks):
    run = start_run("prefect", api_url=server.url, steps=3000, pause=0.01, asks=asks)
    run.until(event="progress", name="train", done=5)
    flow_run = latest_flow_run(server)["id"]
    answer = post(f"{server.url}/flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    assert isinstance(answer, dict)
    assert answer["status"] == "ACCEPT"
    outcome = run.end()
    assert (outcome["returncode"], outcome["status"]) == (1, "cancelled")
    assert outcome["stages"] == {"train": "stopped", "retrieval": "skipped", "zero_shot": "skipped"}
    assert latest_flow_run(server)["state_name"] == "Cancelled"
    again = start_run("local", steps=6, pause=0)
    assert (again.until(event="begin", name="train")["step"] >= 5) == asks
    assert again.end()["returncode"] == 0


def test_no_api_at_the_url_of_the_user(start_run):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    outcome = start_run("prefect", api_url=url).end()
    assert (outcome["returncode"], outcome["status"]) == (2, "failed")
    assert set(outcome["stages"].values()) == {"skipped"}
    assert len(outcome["notes"]) == 1
    assert f"no Prefect API answers at {url}" in outcome["notes"][0]
    assert "--local" in outcome["notes"][0]
    assert outcome["stderr"] == ""


class Browser:
    """Headless Chromium, driven through its DevTools protocol."""

    def __init__(self, folder: Path):
        from websockets.sync.client import connect

        assert CHROMIUM is not None
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "--window-size=1400,1600", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium does not start"
            time.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            page = next(target for target in json.loads(answer.read()) if target["type"] == "page")
        self._socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        self._calls = 0

    def call(self, method: str, **parameters: object) -> dict:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._calls:
                return message["result"]

    def text(self) -> str:
        found = self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return found["result"].get("value", "")

    def click(self, words: str) -> None:
        """Press the mouse on the innermost visible thing that reads `words`."""
        found = self.call(
            "Runtime.evaluate",
            returnByValue=True,
            expression=f"""(() => {{
                const things = [...document.querySelectorAll('main *, body *')].filter(
                    thing => !thing.children.length && thing.textContent.trim() == {json.dumps(words)});
                const box = things.map(thing => thing.getBoundingClientRect()).find(box => box.width && box.height);
                return box && [box.x + box.width / 2, box.y + box.height / 2];
            }})()""",
        )["result"].get("value")
        assert found, f"nothing on the page reads {words}"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._socket.close()
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    browser = Browser(tmp_path / "chromium")
    yield browser
    browser.close()


def test_the_ui_shows_the_run_its_stages_and_artifacts(start_run, server, browser, wait_for, tmp_path):
    outcome = start_run("prefect", api_url=server.url, salt="ui").end()
    run = latest_flow_run(server)
    assert run["name"] == outcome["run_id"]

    def shows(*words: str) -> None:
        try:
            wait_for(lambda: all(word in browser.text() for word in words), f"{words} on the page", timeout=60)
        finally:
            browser.screenshot(tmp_path / f"{words[0]}.png")

    browser.call("Page.navigate", url=f"{server.address}/runs/flow-run/{run['id']}")
    shows(outcome["run_id"], "Completed", "3 Task runs", "stage train: done")
    browser.click("Task Runs")
    shows("train", "retrieval", "zero_shot", outcome["run_id"])
    browser.click("Artifacts")
    shows("clip-shapes-train-metrics", "clip-shapes-zero-shot-metrics", "clip-shapes-report-summary", outcome["run_id"])
    wanted = {"artifacts": {"key": {"any_": ["clip-shapes-report-summary"]}}, "sort": "CREATED_DESC"}
    artifact = post(f"{server.url}/artifacts/filter", wanted)
    assert isinstance(artifact, list)
    browser.call("Page.navigate", url=f"{server.address}/artifacts/artifact/{artifact[0]['id']}")
    shows("All is well")


def test_the_server_killed_in_the_middle_of_a_stage(start_run, start_prefect_server):
    server = start_prefect_server()
    run = start_run("prefect", api_url=server.url, steps=100, pause=0.05, stages=5)
    run.until(event="progress", name="train", done=5)
    server.kill()
    outcome = run.end()
    assert (outcome["returncode"], outcome["status"]) == (0, "completed")
    assert list(outcome["stages"].values()) == ["done"] * 5
    assert [note for note in outcome["notes"] if "has stopped answering" in note] == outcome["notes"]
    assert len(outcome["notes"]) == 1
    assert os.path.isdir(run.errors.parent / "store" / "entries")
