"""Services: each request asked once over kills and runs, replayed offline, tried again where the service is busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmflow.artifacts import ColumnArtifact
from mmflow.flow.run import RunOptions, RunOutcome, open_store, run_spec
from mmflow.flow.services import _Pace
from mmflow.spec import load_text

SPEC = """\
mmflow: 1
name: asked
data:
  words: {use: table, url: words.csv, columns: {word: {modality: text}}}
parts:
  writer: {use: service/http_chat, model: small, endpoint: "$env.TEST_CHAT_URL", key: $env.TEST_CHAT_KEY, retries: 2}
stages:
  color: {use: ask, data: words, of: word, service: parts.writer, prompt: "Color of {word}?", at_once: 1}
"""
KEY = "sk-very-secret-0123456789"
WORDS = ["sky", "leaf", "coal", "snow", "rose", "sun"]


class Chat:
    """A chat server on the loopback that answers by the word asked for; `reply` may answer otherwise first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.reply: Callable[[str, int], tuple[int, dict[str, str], Any] | None] = lambda word, number: None
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                word = body["messages"][-1]["content"].removeprefix("Color of ").removesuffix("?")
                chat.asked.append(word)
                chat.headers.append(dict(self.headers))
                status, headers, said = chat.reply(word, chat.asked.count(word)) or (200, {}, None)
                if said is None:
                    said = {"choices": [{"message": {"content": f"the color of {word}"}, "finish_reason": "stop"}]}
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                try:
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(data))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    # The one who asked is gone.
                    return
                if status == 200:
                    chat.answered.append(word)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: Chat) -> Callable[..., RunOutcome]:
    monkeypatch.setenv("TEST_CHAT_URL", chat.url)
    monkeypatch.setenv("TEST_CHAT_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    Path("words.csv").write_text("\n".join(["word", *WORDS]) + "\n")
    Path("spec.yaml").write_text(SPEC)

    def run(*overrides: str, offline: bool = False, force: tuple[str, ...] = ()) -> RunOutcome:
        options = RunOptions(store="store", engine="local", device="cpu", offline=offline, force=force)
        return run_spec(load_text(Path("spec.yaml").read_text(), overrides=overrides), options)

    return run


def answers(outcome: RunOutcome, stage: str = "color") -> list[Any]:
    assert outcome.exit_code == 0, outcome.outcome.notes
    return list(ColumnArtifact(open_store("store").fetch(outcome.plan[stage].key), "answer").read().values())


def only_note(outcome: RunOutcome) -> str:
    assert outcome.exit_code == 1
    (note,) = outcome.outcome.notes
    return note


def test_each_request_is_asked_once_and_replayed_offline(run: Callable[..., RunOutcome], chat: Chat) -> None:
    expected = [f"the color of {word}" for word in WORDS]
    assert answers(run()) == expected
    assert chat.asked == WORDS
    assert {headers["Authorization"] for headers in chat.headers} == {f"Bearer {KEY}"}
    # Another stage with the same question, and the same one forced: recorded answers.
    again = "stages.again={use: ask, data: words, of: word, service: parts.writer, prompt: 'Color of {word}?'}"
    assert answers(run(again, force=("color",), offline=True), "again") == expected
    assert (
        answers(run("parts.writer.timeout=5", "parts.writer.endpoint=http://127.0.0.1:9/v1", force=("color",)))
        == expected
    )
    assert chat.asked == WORDS
    # What the model is asked for is part of the question.
    run("parts.writer.temperature=0.5")
    assert chat.asked == WORDS * 2


def test_offline_names_the_request_that_is_missing(run: Callable[..., RunOutcome], chat: Chat) -> None:
    note = only_note(run(offline=True))
    assert 'the service parts.writer has no recorded answer to {"prompt": "Color of sky?"}' in note
    assert "run once without --offline" in note
    assert not chat.asked


@pytest.mark.process
def test_a_killed_run_goes_on_and_asks_nothing_twice(
    run: Callable[..., RunOutcome], chat: Chat, tmp_path: Path
) -> None:
    reached, killed = threading.Event(), threading.Event()

    def reply(word: str, number: int) -> None:
        if word == WORDS[3] and number == 1:
            reached.set()
            killed.wait(60)

    chat.reply = reply
    command = [sys.executable, "-m", "mmflow", "run", "spec.yaml", "--local", "--store", "store", "--quiet"]
    child = subprocess.Popen(command, env=dict(os.environ, OMP_NUM_THREADS="1"), cwd=tmp_path)
    try:
        assert reached.wait(60)
    finally:
        child.kill()
        child.wait()
        killed.set()
    before = list(chat.answered)
    assert before[:3] == WORDS[:3]
    assert answers(run()) == [f"the color of {word}" for word in WORDS]
    # The request that the kill cut off is asked again, and no other.
    assert chat.asked == [*WORDS[:4], *WORDS[3:]]


def test_too_many_requests_and_time_outs_are_tried_again(run: Callable[..., RunOutcome], chat: Chat) -> None:
    late = threading.Event()

    def reply(word: str, number: int) -> tuple[int, dict[str, str], Any] | None:
        if word == "leaf" and number == 1:
            return 429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}
        if word == "coal" and number == 1:
            late.wait(60)
        if word == "snow" and number < 3:
            return 503, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}, b"<html>down</html>"
        return None

    chat.reply = reply
    try:
        assert answers(run("parts.writer.timeout=0.3")) == [f"the color of {word}" for word in WORDS]
    finally:
        late.set()
    assert chat.asked == ["sky", "leaf", "leaf", "coal", "coal", "snow", "snow", "snow", "rose", "sun"]


@pytest.mark.parametrize(
    ("reply", "tries", "says"),
    [
        ((429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}), 3,
         "gave no answer in 3 tries: 127.0.0.1 answered 429 Too Many Requests: slow down"),
        ((429, {"Retry-After": "7200"}, {"error": "quota"}), 1,
         "429 Too Many Requests: quota (it asks to wait 7200 s)"),
        ((401, {}, {"error": {"message": f"wrong key {KEY}"}}), 1,
         "refused the request: 401 Unauthorized: wrong key $env.TEST_CHAT_KEY; look at `key`"),
        ((404, {}, b"nothing here"), 1, "refused the request: 404 Not Found: nothing here; look at `model`"),
        ((200, {}, b"<html>hello</html>"), 1, "answered something else than a chat completion: <html>hello</html>"),
        ((200, {}, {"choices": []}), 1, "answered something else than a chat completion"),
    ],
)  # fmt: skip
def test_a_service_that_does_not_answer_is_told_in_one_line(
    run: Callable[..., RunOutcome], chat: Chat, reply: tuple[int, dict[str, str], Any], tries: int, says: str
) -> None:
    chat.reply = lambda word, number: reply if word == "leaf" else None
    note = only_note(run())
    assert says in note
    assert "\n" not in note
    assert chat.asked.count("leaf") == tries
    # What was answered stays, and the next run goes on from there.
    chat.reply = lambda word, number: None
    assert answers(run()) == [f"the color of {word}" for word in WORDS]
    assert chat.asked.count("sky") == 1


def test_a_server_that_keeps_silent_is_told_in_one_line(run: Callable[..., RunOutcome], chat: Chat) -> None:
    late = threading.Event()

    def reply(word: str, number: int) -> None:
        if word == "leaf":
            late.wait(60)

    chat.reply = reply
    try:
        note = only_note(run("parts.writer.timeout=0.2", "parts.writer.retries=1"))
    finally:
        late.set()
    assert "gave no answer in 2 tries: 127.0.0.1 " in note
    assert "\n" not in note
    assert chat.asked.count("leaf") == 2


def test_a_server_that_is_not_there_is_told_in_one_line(run: Callable[..., RunOutcome], chat: Chat) -> None:
    chat.server.shutdown()
    chat.server.server_close()
    assert "gave no answer in 1 try: 127.0.0.1 cannot be reached" in only_note(run("parts.writer.retries=0"))


def test_the_key_is_stored_nowhere(run: Callable[..., RunOutcome], chat: Chat, tmp_path: Path) -> None:
    chat.reply = lambda word, number: (200, {}, {"choices": [{"message": {"content": f"{KEY} of {word}"}}]})
    first = answers(run())
    assert first == [f"$env.TEST_CHAT_KEY of {word}" for word in WORDS]
    assert answers(run(force=("color",))) == first
    assert not [
        path for path in (tmp_path / "store").rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    assert KEY not in repr(load_text(SPEC))


def test_requests_at_one_time_keep_to_the_rate_and_equal_ones_are_asked_once(
    run: Callable[..., RunOutcome], chat: Chat
) -> None:
    Path("words.csv").write_text("word\n" + "sky\nleaf\n" * 6)
    found = answers(run("stages.color.at_once=8", "parts.writer.per_minute=600"))
    assert found == ["the color of sky", "the color of leaf"] * 6
    assert sorted(chat.asked) == ["leaf", "sky"]


def test_a_rate_spaces_requests_and_a_wait_holds_them_all() -> None:
    pace = _Pace(1.0)
    assert pace.left() == 0
    assert 0 < pace.left() <= 60
    pace.hold(100)
    assert 60 < pace.left() <= 100
    free = _Pace(None)
    assert [free.left(), free.left()] == [0, 0]
