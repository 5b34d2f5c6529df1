"""`relay chat`: a conversation through a relay, in a pipe and at a terminal."""

from __future__ import annotations

import json
import logging
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from proxy.commands.chat_stream import ChatFailed
from proxy.commands.loading import local_engines_of, watching
from proxy.commands.start_text import FIRST_MODEL
from proxy.settings import load_settings
from tests.support.canned_http import Asked, Canned, Server, as_json, serving
from tests.support.engines import fake_command
from tests.support.servers import DEADLINE

TOKEN = "sk-relay-0123456789"
EVENT_STREAM = {"content-type": "text/event-stream"}


def frames(*deltas: dict[str, Any], finish: str | None = "stop", done: bool = True) -> bytes:
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return (": keep-alive\n\n" + body + ("data: [DONE]\n\n" if done else "")).encode()


HELLO = Canned(200, frames({"role": "assistant"}, {"content": "Hel"}, {"content": "lo."}), EVENT_STREAM)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RELAY_TOKENS", TOKEN)
    return tmp_path


@contextmanager
def relay_that_answers(*answers: Canned, upstream: str = "") -> Iterator[Server]:
    """A relay as far as `chat` can see; the last answer is repeated."""
    left = list(answers)

    def answer(asked: Asked) -> Canned:
        if asked.path == "/healthz":
            return Canned(200, b"{}", {"x-request-id": "12345678", "x-relay-upstream": upstream})
        if asked.path.startswith("/v1/models/"):
            known = asked.path.endswith("/other")
            return as_json(200, {}) if known else as_json(404, {"error": {"message": "The model does not exist."}})
        return left.pop(0) if len(left) > 1 else left[0]

    with serving(answer) as server:
        yield server


def chat(server: Server, *words: str, lines: str = "") -> Result:
    return CliRunner().invoke(cli, ["chat", *words], input=lines, env={"RELAY_PORT": str(server.port)})


def test_a_model_of_an_engine_is_not_said_to_be_answered_by_the_upstream(folder: Path) -> None:
    entry = '[[engines]]\nname = "gpu"\nurl = "http://127.0.0.1:9/v1"\nmodels = ["own-model"]\n'
    (folder / "relay.toml").write_text(entry)
    with relay_that_answers(HELLO, upstream="simulator") as server:
        said = [chat(server, "--once", "Hi", model).stderr for model in ("own-model", "another-model")]
    assert said == [f"the relay at {server.url} answers\n", f"the relay at {server.url} answers (simulator)\n"]


def bodies(server: Server) -> list[Any]:
    return [json.loads(asked.body) for asked in server.asked if asked.method == "POST"]


def test_once_prints_the_answer_alone() -> None:
    with relay_that_answers(HELLO) as server:
        result = chat(server, "--once", "Hi", "--system", "Be brief.", "some-model")
    assert (result.exit_code, result.stdout) == (0, "Hello.\n")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert bodies(server) == [{"model": "some-model", "messages": messages, "stream": True}]
    assert server.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in server.asked[0].headers


def test_each_line_of_a_pipe_is_a_message_of_one_conversation() -> None:
    with relay_that_answers(HELLO) as server:
        result = chat(server, lines="one\n\n/two\n")
    assert (result.exit_code, result.stdout) == (0, "Hello.\nHello.\n")
    assert bodies(server)[1] == {
        "model": FIRST_MODEL,
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "/two"},
        ],
        "stream": True,
    }


FAILURES = {
    "a refusal": (as_json(401, {"error": {"message": "The token is wrong."}}), "The token is wrong."),
    "a refusal of another kind": (Canned(502, b"<html>"), "status 502"),
    "an error in band": (
        Canned(200, frames({"content": "Hel"}, finish=None, done=False) + b'data: {"error":{"message":"Gone."}}\n\n'),
        "Gone.",
    ),
    "a stream that breaks off": (Canned(200, frames({"content": "Hel"}, finish=None, done=False)), "broke off"),
    "a stream of something else": (Canned(200, b"data: nonsense\n\n"), "cannot be read"),
}


@pytest.mark.parametrize(("answer", "text"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_told_and_the_conversation_goes_on_without_it(answer: Canned, text: str) -> None:
    with relay_that_answers(answer, HELLO) as server:
        result = chat(server, lines="one\ntwo\n")
    assert result.exit_code == 1
    assert text in result.stderr
    assert result.stdout.endswith("Hello.\n")
    assert bodies(server)[1]["messages"] == [{"role": "user", "content": "two"}]


def test_without_a_relay_one_is_started_for_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    with relay_that_answers(HELLO) as server:

        @contextmanager
        def background(settings: object) -> Iterator[str]:
            yield server.url

        monkeypatch.setattr("proxy.commands.chat.background", background)
        result = CliRunner().invoke(cli, ["chat", "--once", "Hi"], env={"RELAY_PORT": "0"})
    assert (result.exit_code, result.stdout) == (0, "Hello.\n")
    assert result.stderr == f"started one for this conversation at {server.url} (simulator)\n"


def test_the_relay_is_named_by_flags_and_said_first() -> None:
    with relay_that_answers(HELLO) as server:
        words = ["chat", "--host", "localhost", "--port", str(server.port), "--once", "Hi"]
        result = CliRunner().invoke(cli, words)
    assert (result.exit_code, result.stdout) == (0, "Hello.\n")
    assert result.stderr == f"the relay at http://localhost:{server.port} answers\n"


def test_another_program_at_the_address_does_not_get_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def background(settings: object) -> Iterator[str]:
        raise RuntimeError("the relay did not start")
        yield ""

    monkeypatch.setattr("proxy.commands.chat.background", background)
    with serving(lambda _: Canned(200, b"hello")) as server:
        result = chat(server, "--once", "Hi")
    assert result.exit_code == 1
    assert "the relay did not start" in result.stderr
    assert TOKEN not in str(server.asked)


class Terminal:
    """`relay chat` in a pseudo-terminal; its standard output may go elsewhere."""

    def __init__(self, port: int, *more: str, stdout: IO[bytes] | None = None) -> None:
        self.main, side = pty.openpty()
        environ = {**os.environ, "RELAY_PORT": str(port), "TERM": "dumb"}
        words = [sys.executable, "-c", "from proxy.cli import main; main()", "chat", *more]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            words,
            stdin=side,
            stdout=stdout or side,
            stderr=side,
            env={**environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        os.close(side)
        self.seen = ""

    def expect(self, text: str) -> None:
        """Read until `text` has come; forget all up to its end."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen:
            ready, _, _ = select.select([self.main], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come, but {self.seen!r}"
            self.seen += os.read(self.main, 65536).decode()
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.main)


def test_a_conversation_at_a_terminal() -> None:
    hold = threading.Event()
    reasoned = frames({"reasoning_content": "Hm."}, {"content": "A\x1b[2JB"}, finish="length")
    endless = Canned(200, frames({"content": "On and on"}, finish=None, done=False), EVENT_STREAM, hold)
    with relay_that_answers(Canned(200, reasoned, EVENT_STREAM), endless, HELLO) as server:
        terminal = Terminal(server.port)
        try:
            terminal.expect(f"the relay at {server.url} answers")
            terminal.expect(FIRST_MODEL)
            terminal.expect("> ")
            terminal.type("/nonsense\n")
            terminal.expect("/nonsense is no command")
            terminal.type("/model other\n")
            terminal.expect("other answers")
            terminal.type("/model no such/thing?\n")
            terminal.expect("The model does not exist. other still answers")
            terminal.type("/model @cf/new/one\n")
            terminal.expect("@cf/new/one answers")
            terminal.type("/model other\n")
            terminal.expect("other answers")
            terminal.type("Hi\n")
            terminal.expect("\x1b[2mHm.\x1b[0m")
            terminal.expect("A[2JB")
            terminal.expect("cut off at the token limit")
            terminal.type("/clear\n")
            terminal.expect("forgotten")
            terminal.type("Go\n")
            terminal.expect("On and on")
            terminal.process.send_signal(signal.SIGINT)
            terminal.expect("[stopped]")
            terminal.expect("> ")
            terminal.type("And?\n")
            terminal.expect("Hello.")
            terminal.expect("> ")
            terminal.type("\x04")
            assert terminal.process.wait(20) == 0
            assert "Traceback" not in terminal.seen
        finally:
            hold.set()
            terminal.close()
    lookups = [asked.path for asked in server.asked if asked.path.startswith("/v1/models/")]
    assert lookups == [f"/v1/models/{name}" for name in ("other", "no%20such/thing%3F", "other")]
    assert [body["model"] for body in bodies(server)] == ["other"] * 3
    assert [turn["content"] for turn in bodies(server)[2]["messages"]] == ["Go", "On and on", "And?"]


def entry(folder: Path, *behaviour: object) -> str:
    words = [*fake_command(), "--socket", "{socket}", *map(str, behaviour)]
    return f'[[engines]]\nname = "gpu"\nprofile = "llama-server"\nmodels = ["fake"]\ncommand = {json.dumps(words)}\n'


@pytest.mark.parametrize("piped", [False, True])
def test_while_an_engine_loads_a_terminal_shows_how_far_it_is(folder: Path, piped: bool) -> None:
    gate = folder / "gate"
    os.mkfifo(gate)
    (folder / "relay.toml").write_text(entry(folder, "--say", "loading \x1b[2Jweights 42%", "--gate", gate))
    with (folder / "answer").open("w+b") as output:
        terminal = Terminal(0, "--once", "Hi", "fake", stdout=output if piped else None)
        try:
            terminal.expect("gpu: starting for ")
            terminal.expect("s: loading weights 42%")
            gate.write_text("go")
            terminal.expect("\r" + " " * 79 + "\r")
            if not piped:
                terminal.expect("Hello from the engine")
            assert terminal.process.wait(20) == 0
        finally:
            terminal.close()
        output.seek(0)
        assert output.read() == (b"Hello from the engine\n" if piped else b"")


def test_without_a_terminal_nothing_is_said_of_it(folder: Path) -> None:
    (folder / "relay.toml").write_text(entry(folder, "--say", "loading weights 42%"))
    result = CliRunner().invoke(cli, ["chat", "--once", "Hi", "fake"], env={"RELAY_PORT": "0"})
    assert (result.exit_code, result.stdout) == (0, "Hello from the engine\n")
    assert "42%" not in result.stderr


@pytest.mark.parametrize("late", [False, True])
def test_an_engine_that_cannot_start_is_told_in_one_line(folder: Path, late: bool) -> None:
    behaviour = ("--hang-at-start",) if late else ("--crash-at-start", "3")
    (folder / "relay.toml").write_text(f"keepalive = 0.1\n{entry(folder, *behaviour)}start_timeout = 1\n")
    before = logging.getLogger().handlers[:], logging.getLogger("relay").level
    result = CliRunner().invoke(cli, ["chat", "--once", "Hi", "fake"], env={"RELAY_PORT": "0"})
    assert (result.exit_code, result.stdout) == (1, "")
    started, error = result.stderr.splitlines()
    assert started.startswith("started one for this conversation at ")
    assert error.startswith("error: The engine 'gpu' cannot be used: ")
    assert (logging.getLogger().handlers[:], logging.getLogger("relay").level) == before


def test_a_log_that_is_asked_for_is_shown(folder: Path) -> None:
    (folder / "relay.toml").write_text(entry(folder, "--crash-at-start", "3"))
    environ = {"RELAY_PORT": "0", "RELAY_LOG_LEVEL": "info"}
    result = CliRunner().invoke(cli, ["chat", "--once", "Hi", "fake"], env=environ)
    assert "engine gpu: starting" in result.stderr and "engine gpu failed: " in result.stderr


RULE = '[models."llama-3.2-3b-instruct"]\ncandidates = ["cloudflare", "gpu:fake"]\n'
MEANT: dict[str, tuple[str, str, set[str]]] = {
    "by its own name": ("", "fake", {"gpu"}),
    "by an alias": ('[aliases]\nsmall = "fake"\n', "small", {"gpu"}),
    "as a candidate": (RULE, "@cf/meta/llama-3.2-3b-instruct", {"gpu"}),
    "by others alone": ('[models.fake]\ncandidates = ["cloudflare"]\n', "fake", set()),
    "another": (RULE, "@cf/meta/llama-3.2-1b-instruct", set()),
    "nobody's": ("", "no-such-model", set()),
}


@pytest.mark.parametrize(("tables", "name", "engines"), MEANT.values(), ids=MEANT)
def test_the_engines_that_a_model_may_start(folder: Path, tables: str, name: str, engines: set[str]) -> None:
    (folder / "relay.toml").write_text(entry(folder) + tables)
    settings = load_settings({}, {"RELAY_STATE_DIR": str(folder / "state")}, folder)
    assert local_engines_of(settings, name) == engines
    (folder / "relay.toml").write_text("")
    assert local_engines_of(load_settings({}, {"RELAY_STATE_DIR": str(folder / "state")}, folder), name) == set()


def test_without_a_supervisor_nothing_is_told_and_what_fails_is_raised_as_it_is(tmp_path: Path) -> None:
    told: list[str] = []

    async def wait_in_vain() -> None:
        async with watching(tmp_path, frozenset({"gpu"}), told.append):
            await anyio.sleep(0.05)
            raise ChatFailed("no answer")

    with pytest.raises(ChatFailed, match="no answer"):
        anyio.run(wait_in_vain)
    assert told == []
