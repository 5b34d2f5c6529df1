"""`relay engines`: the list, starting and stopping, logs and checks."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.local import messages
from adapters.local.address import EngineAddress
from adapters.local.folders import control_socket, log_file, make_private
from adapters.local.host import supervised
from adapters.local.look import look
from adapters.local.status import EngineStatus, Place, PlaceStatus, State
from proxy.cli import cli
from proxy.commands.engine_log import LogReader
from proxy.settings import load_settings
from tests.support.canned_http import Asked, Canned, as_json, serving

ENGINE = Path(__file__).parent / "support" / "tiny_engine.py"
TOML = f"""
[[engines]]
name = "tiny"
command = ["{sys.executable}", "{ENGINE}", "{{port}}"]
models = ["m"]
memory = "20MB"
[[engines]]
name = "box"
url = "http://127.0.0.1:1/v1"
profile = "vllm"
models = ["m"]
"""
STOPPED = EngineStatus(
    name="tiny",
    state=State.STOPPED,
    seconds=3.0,
    pid=None,
    address=None,
    waiting=0,
    busy=False,
    idle_for=None,
    starts=0,
    failures=0,
    retry_in=None,
    progress="",
    error=None,
    memory=None,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "relay.toml").write_text(TOML)
    return tmp_path


def engines(*words: str) -> Result:
    return CliRunner().invoke(cli, ["engines", *words])


class Asking(NamedTuple):
    do: str
    name: str
    replica: str = ""
    wait: bool = True


@contextmanager
def supervisor(
    state_dir: Path, *answers: messages.FromSupervisor, status: messages.FromSupervisor | None = None
) -> Iterator[list[Asking]]:
    """One that gives these answers to every question, or `status` to that; each under the question's number."""
    asked: list[Asking] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                question = messages.parse_from_client(line)
                assert isinstance(question, messages.Command)
                asked.append(Asking(question.do, question.name, question.replica, question.wait))
                for answer in [status] if status and question.do == "status" else answers:
                    self.wfile.write(messages.dump(msgspec.structs.replace(answer, id=question.id)))

    path = control_socket(state_dir)
    state_dir.mkdir(exist_ok=True)
    make_private(path.parent)
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def telling(**changes: Any) -> messages.Done:
    return messages.Done(0, [msgspec.structs.replace(STOPPED, **changes)])


def test_without_a_relay_the_configured_engines_are_listed(folder: Path) -> None:
    result = engines()
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[1:3]]
    assert rows == [
        ["tiny", "local", "openai", "stopped", "-", "20.0", "MB", "-"],
        ["box", "remote", "vllm", "unknown", "-", "-", "http://127.0.0.1:1/v1"],
    ]
    assert "no relay with engines runs on this state folder" in result.stdout


def test_without_engines_it_says_where_they_are_named(folder: Path) -> None:
    (folder / "relay.toml").write_text("")
    assert engines("list").stdout == "no engines; [[engines]] in relay.toml names them\n"


def seen(name: str = "1", **changes: Any) -> PlaceStatus:
    """A replica of `box`, or with the name `""` the engine `tiny`."""
    place = Place("box", name) if name else Place("tiny", "")
    address = f"http://127.0.0.1:{name}/v1" if name else None
    status = PlaceStatus(place=place, address=address, state="up", open=0, waiting=0, reason="")
    return msgspec.structs.replace(status, **changes)


REMOTE: dict[str, tuple[list[PlaceStatus], list[str]]] = {
    "one address": (
        [seen(state="busy", open=3, waiting=2)],
        ["box remote vllm busy 3 open, 2 waiting there - http://127.0.0.1:1/v1"],
    ),
    "several": (
        [
            seen(open=1),
            seen("2", state="resting", reason="it asked for no new work for 7 seconds"),
            seen("3", state="drained"),
        ],
        [
            "box/1 remote vllm up 1 open - http://127.0.0.1:1/v1",
            "box/2 remote vllm resting - - http://127.0.0.1:2/v1 it asked for no new work for 7 seconds",
            "box/3 remote vllm drained - - http://127.0.0.1:3/v1",
        ],
    ),
}


@pytest.mark.parametrize(("replicas", "rows"), REMOTE.values(), ids=REMOTE)
def test_the_list_tells_how_each_replica_is(folder: Path, replicas: list[PlaceStatus], rows: list[str]) -> None:
    urls = [f"http://127.0.0.1:{number}" for number in range(1, len(replicas) + 1)]
    (folder / "relay.toml").write_text(f'[[engines]]\nname = "box"\nurl = {urls!r}\nmodels = ["m"]\nprofile = "vllm"\n')
    with supervisor(folder / "state", messages.Done(0, replicas=replicas)):
        shown = engines().stdout.splitlines()
        document = json.loads(engines("--json").stdout)
    assert [" ".join(row.split()) for row in shown[1:]] == rows
    (box,) = document["engines"]
    assert document["running"] is True
    assert (box["open"], len(box["replicas"])) == (sum(replica.open for replica in replicas), len(replicas))


BEST = {
    "the best of all counts": (["down", "drained", "up"], "up"),
    "none takes work": (["down", "drained"], "drained"),
    "nobody knows": (["unknown"], "unknown"),
}


@pytest.mark.parametrize(("states", "state"), BEST.values(), ids=BEST)
def test_a_remote_engine_is_as_well_as_its_best_replica(folder: Path, states: list[str], state: str) -> None:
    urls = [f"http://127.0.0.1:{number}" for number in range(1, len(states) + 1)]
    (folder / "relay.toml").write_text(f'[[engines]]\nname = "box"\nurl = {urls!r}\nmodels = ["m"]\n')
    replicas = [seen(str(number), state=state) for number, state in enumerate(states, 1)]
    with supervisor(folder / "state", messages.Done(0, replicas=replicas)):
        assert json.loads(engines("--json").stdout)["engines"][0]["state"] == state


@pytest.mark.parametrize(("state", "open", "row"), [("draining", 2, "2 open"), ("drained", 0, "idle for 9 s")])
def test_a_local_engine_that_is_drained_says_so_beside_its_state(folder: Path, state: str, open: int, row: str) -> None:
    done = telling(state=State.READY, idle_for=None if open else 9.0)
    done = msgspec.structs.replace(done, replicas=[seen("", state=state, open=open)])
    with supervisor(folder / "state", done):
        (shown,) = [line for line in engines().stdout.splitlines() if line.startswith("tiny")]
    assert " ".join(shown.split()) == f"tiny local openai ready, {state} {row} 20.0 MB -"


DRAINS: dict[str, tuple[list[str], Asking, str]] = {
    "an engine": (["drain", "tiny"], Asking("drain", "tiny"), "tiny is drained"),
    "a replica by its place": (["drain", "box", "1"], Asking("drain", "box", "1"), "box/1 (http://127.0.0.1:1/v1)"),
    "a replica by its full name": (["drain", "box/1"], Asking("drain", "box", "1"), "box/1"),
    "a replica by its URL": (
        ["drain", "box", "http://127.0.0.1:1/"],
        Asking("drain", "box", "http://127.0.0.1:1/v1"),
        "box/1",
    ),
    "without a wait": (["drain", "box", "--no-wait"], Asking("drain", "box", wait=False), "box/1"),
    "back to work": (["resume", "box", "1"], Asking("resume", "box", "1"), "box/1"),
}


@pytest.mark.parametrize(("words", "asking", "text"), DRAINS.values(), ids=DRAINS)
def test_draining_is_asked_of_the_supervisor(folder: Path, words: list[str], asking: Asking, text: str) -> None:
    status = seen("" if "tiny" in words else "1", state="drained")
    with supervisor(folder / "state", messages.Done(0, replicas=[status])) as asked:
        result = engines(*words)
    assert (result.exit_code, asked) == (0, [asking]), result.output
    assert result.stdout.startswith(text)


TOLD: dict[str, tuple[PlaceStatus, str]] = {
    "drained": (seen(state="drained"), "box/1 (http://127.0.0.1:1/v1) is drained\n"),
    "not yet": (seen(state="draining", open=2), "box/1 (http://127.0.0.1:1/v1) is draining, 2 under way\n"),
    "resumed": (seen(state="up"), "box/1 (http://127.0.0.1:1/v1) is taking requests\n"),
}


@pytest.mark.parametrize(("status", "text"), TOLD.values(), ids=TOLD)
def test_draining_tells_what_has_come_of_it(folder: Path, status: PlaceStatus, text: str) -> None:
    steps = [messages.Progress(0, text) for text in ("2 requests under way", "2 requests under way", "1 request")]
    with supervisor(folder / "state", *steps, messages.Done(0, replicas=[status])):
        result = engines("drain", "box")
    assert result.stdout == text
    assert result.stderr == "2 requests under way\n1 request\n"


def test_who_no_longer_waits_for_a_drain_is_told_that_it_goes_on(folder: Path) -> None:
    words = [sys.executable, "-m", "proxy.cli", "engines", "drain", "box"]
    environ = {**os.environ, "PYTHONPATH": str(ENGINE.parent.parent.parent), "PYTHONUNBUFFERED": "1"}
    with supervisor(folder / "state", messages.Progress(0, "1 request under way")):
        with subprocess.Popen(words, stderr=subprocess.PIPE, env=environ, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "1 request under way\n"
            process.send_signal(signal.SIGINT)
            assert "it gets no new requests until relay engines resume" in process.stderr.read()
            assert process.wait(20) == 1


WRONG_DRAINS = {
    "no such engine": (["drain", "tin"], "no engine 'tin'; did you mean tiny?; there are: tiny, box"),
    "two replicas at once": (["resume", "box/1", "2"], "box/1 is one replica already, and '2' would be another"),
}


@pytest.mark.parametrize(("words", "text"), WRONG_DRAINS.values(), ids=WRONG_DRAINS)
def test_draining_what_is_not_there_is_wrong_usage(words: list[str], text: str) -> None:
    result = engines(*words)
    assert result.exit_code == 2 and text in result.stderr


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "loading": (
        {"state": State.STARTING, "progress": "loading weights 40 %", "waiting": 3},
        "starting  3 waiting  20.0 MB  -  loading weights 40 %",
    ),
    "at work": (
        {"state": State.BUSY, "busy": True, "address": EngineAddress("http://127.0.0.1:5/v1"), "memory": 5 * 10**6},
        "busy  busy  5.0 MB  http://127.0.0.1:5/v1",
    ),
    "without work": (
        {"state": State.READY, "idle_for": 12.3, "address": EngineAddress("http://localhost/v1", "/run/e.sock")},
        "ready  idle for 12 s  20.0 MB  unix:/run/e.sock",
    ),
    "broken": (
        {"state": State.FAILED, "error": "it ended with status 1", "retry_in": 4.0},
        "failed  -  20.0 MB  -  it ended with status 1; again in 4 s",
    ),
}


@pytest.mark.parametrize(("changes", "row"), ROWS.values(), ids=ROWS)
def test_the_list_tells_what_an_engine_does(folder: Path, changes: dict[str, Any], row: str) -> None:
    with supervisor(folder / "state", telling(**changes)):
        result = engines("list")
    assert " ".join(row.split()) in " ".join(result.stdout.split("tiny")[1].split())
    assert "no relay" not in result.stdout


def test_the_list_as_json(folder: Path) -> None:
    with supervisor(folder / "state", telling(state=State.READY, pid=7, address=EngineAddress("http://a/v1"))):
        document = json.loads(engines("--json").stdout)
    tiny, box = document["engines"]
    assert document["running"] is True
    assert (tiny["state"], tiny["pid"], tiny["address"], tiny["memory"]) == ("ready", 7, ["http://a/v1"], 20_000_000)
    assert (box["kind"], box["state"], box["address"], box["models"]) == (
        "remote",
        "unknown",
        ["http://127.0.0.1:1/v1"],
        {"m": "m"},
    )


def refused(fault: str = "UPSTREAM_TIMEOUT", message: str = "It took too long.") -> messages.Refused:
    return messages.Refused(0, fault, message)


@pytest.mark.parametrize("words", [["list"], ["start", "tiny"], ["stop", "tiny"], ["check", "tiny"]], ids=" ".join)
def test_what_the_supervisor_refuses_is_told_in_its_words(folder: Path, words: list[str]) -> None:
    with supervisor(folder / "state", refused()):
        result = engines(*words)
    assert result.exit_code == 1
    assert "It took too long." in result.stderr


def test_an_engine_that_cannot_start_is_not_a_relay_that_does_not_run(folder: Path) -> None:
    failed = refused("UPSTREAM_UNREACHABLE", "The engine 'tiny' ended while it was starting.")
    with supervisor(folder / "state", failed, status=telling()):
        result = engines("start", "tiny")
    assert result.exit_code == 1
    assert "The engine 'tiny' ended while it was starting.\n  What it wrote: relay engines logs tiny" in result.stderr


@pytest.mark.parametrize(
    "words", [["start", "tiny"], ["stop", "tiny"], ["check", "tiny"], ["drain", "box"]], ids=" ".join
)
def test_without_a_relay_nothing_can_be_started_or_stopped(words: list[str]) -> None:
    result = engines(*words)
    assert result.exit_code == 1
    assert "engines run as long as `relay serve` does" in result.stderr


@pytest.mark.parametrize("word", ["start", "stop", "logs"])
def test_an_engine_that_runs_elsewhere_is_its_owners(word: str) -> None:
    result = engines(word, "box")
    assert result.exit_code == 1
    assert "box runs elsewhere, at http://127.0.0.1:1/v1" in result.stderr


@pytest.mark.parametrize("word", ["start", "stop", "logs", "check"])
def test_an_unknown_engine_is_wrong_usage(word: str) -> None:
    result = engines(word, "tin")
    assert result.exit_code == 2
    assert "no engine 'tin'; did you mean tiny?; there are: tiny, box" in result.stderr


def test_where_there_are_no_engines_it_says_so(folder: Path) -> None:
    (folder / "relay.toml").write_text("")
    assert "relay.toml has no [[engines]]" in engines("start", "tiny").stderr


def test_a_start_tells_how_far_it_is(folder: Path) -> None:
    steps = [messages.Progress(0, text) for text in ("loading 1 of 2", "loading 1 of 2", "", "loading 2 of 2")]
    with supervisor(folder / "state", *steps, telling(state=State.READY)) as asked:
        result = engines("start", "tiny")
    assert asked == [Asking("start", "tiny")]
    assert result.stderr == "loading 1 of 2\nloading 2 of 2\n"
    assert result.stdout == "tiny is ready\n"


def test_a_real_engine_is_started_checked_read_and_stopped(folder: Path) -> None:
    settings = load_settings({}, {}, folder)
    with supervised(settings.engines, probe=look, state_dir=folder / "state", surroundings=os.environ):
        assert engines("start", "tiny").stdout == "tiny is ready\n"
        (tiny, _) = json.loads(engines("--json").stdout)["engines"]
        assert tiny["state"] == "ready"
        assert engines("check", "tiny").stdout == f"{tiny['address'][0]}: answers; models: m\n"
        assert engines("logs", "tiny", "-n", "1").stdout == "tiny engine is ready\n"
        assert engines("stop", "tiny").stdout == "tiny is stopped\n"
        assert engines("check", "tiny").stderr.strip().endswith("relay engines start tiny starts it")
        with pytest.raises(ProcessLookupError):
            os.kill(tiny["pid"], 0)


CHECKS: dict[str, tuple[Canned, str, int]] = {
    "fine": (as_json(200, {"data": [{"id": "m"}, {"id": "x"}]}), "answers; models: m, x", 0),
    "another model": (as_json(200, {"data": [{"id": "x"}]}), "does not list m; it has x", 1),
    "no models": (as_json(200, {"data": []}), "does not list m; it has no models", 1),
    "a wrong key": (Canned(401, b""), "refuses the key (401)\n  Set api_key, or api_key_env", 1),
    "an error": (Canned(500, b""), "answers 500 at /v1/models\n  It may be hard at work", 1),
    "no list of models": (Canned(404, b""), "answers; it has no list of models", 0),
    "another program": (Canned(200, b"<html>"), "answers with something else than a list of models", 1),
}


@pytest.mark.parametrize(("answer", "text", "status"), CHECKS.values(), ids=CHECKS)
def test_a_check_asks_an_engine_for_its_models(folder: Path, answer: Canned, text: str, status: int) -> None:
    def answering(asked: Asked) -> Canned:
        assert (asked.path, asked.headers["authorization"]) == ("/v1/models", "Bearer k")
        return answer._replace(headers={**answer.headers, "content-length": str(len(answer.body))})

    with serving(answering) as server:
        (folder / "relay.toml").write_text(
            f'[[engines]]\nname = "box"\nurl = "{server.url}"\nmodels = ["m"]\napi_key = "k"\n'
        )
        result = engines("check", "box")
    assert (result.exit_code, result.stdout.startswith(f"{server.url}/v1: {text}")) == (status, True), result.output


def test_a_check_does_not_wait_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.commands.engine_check._TIMEOUT", 0.05)
    hold = threading.Event()
    with serving(lambda asked: Canned(200, b"{", {"content-length": "2"}, hold)) as server:
        (folder / "relay.toml").write_text(f'[[engines]]\nname = "box"\nurl = "{server.url}"\nmodels = ["m"]\n')
        result = engines("check", "box")
        hold.set()
    assert result.exit_code == 1 and result.stdout.startswith(f"{server.url}/v1: does not answer in time\n")


def test_a_check_tells_of_each_replica(folder: Path) -> None:
    (folder / "relay.toml").write_text(
        '[[engines]]\nname = "box"\nurl = ["http://127.0.0.1:1", "unix:/nowhere/x"]\nmodels = ["m"]\n'
    )
    result = engines("check", "box")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[::2] == [
        "http://127.0.0.1:1/v1: cannot be reached (ConnectError)",
        "unix:/nowhere/x: cannot be reached (ConnectError)",
    ]
    assert result.stdout.count("Start it, or correct its url") == 2


HEALTH: dict[str, tuple[Canned, str, int]] = {
    "ready": (Canned(200, b""), "answers; models: m", 0),
    "loading": (as_json(503, {"error": {"message": "Loading model"}}), "is loading its model (503)", 1),
    "another program": (Canned(404, b""), "answers 404 at /health\n  Its url is that of its OpenAI interface", 1),
}


@pytest.mark.parametrize(("answer", "text", "status"), HEALTH.values(), ids=HEALTH)
def test_a_check_asks_first_whether_an_engine_is_ready(folder: Path, answer: Canned, text: str, status: int) -> None:
    models = as_json(200, {"data": [{"id": "m"}]})
    with serving(lambda asked: answer if asked.path == "/health" else models) as server:
        (folder / "relay.toml").write_text(
            f'[[engines]]\nname = "box"\nurl = "{server.url}"\nmodels = ["m"]\nprofile = "llama-server"\n'
        )
        result = engines("check", "box")
    assert (result.exit_code, result.stdout.startswith(f"{server.url}/v1: {text}")) == (status, True), result.output


def test_a_check_believes_no_list_of_chatglm_cpp(folder: Path) -> None:
    with serving(lambda asked: as_json(200, {"data": [{"id": "gpt-3.5-turbo"}]})) as server:
        (folder / "relay.toml").write_text(
            f'[[engines]]\nname = "glm"\nurl = "{server.url}"\nmodels = ["m"]\nprofile = "chatglm.cpp"\n'
        )
        assert engines("check", "glm").exit_code == 0


LISTED_BY_LLAMA_SERVER: dict[str, tuple[list[dict[str, Any]], int]] = {
    "its only model, which answers to any name": ([{"id": "/models/tiny.gguf", "meta": {}}], 0),
    "the only model of a router, which does not": ([{"id": "other", "status": {"value": "unloaded"}}], 1),
    "several models": ([{"id": "one"}, {"id": "other"}], 1),
}


@pytest.mark.parametrize(("listed", "status"), LISTED_BY_LLAMA_SERVER.values(), ids=LISTED_BY_LLAMA_SERVER)
def test_a_check_knows_when_llama_server_hears_names(folder: Path, listed: list[dict[str, Any]], status: int) -> None:
    with serving(lambda asked: as_json(200, {"data": listed})) as server:
        (folder / "relay.toml").write_text(
            f'[[engines]]\nname = "box"\nurl = "{server.url}"\nmodels = ["m"]\nprofile = "llama-server"\n'
        )
        assert engines("check", "box").exit_code == status


def write_log(folder: Path, text: bytes, name: str = "log") -> Path:
    file = log_file(folder / "state", "tiny").with_name(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)
    return file


LOGS: dict[str, tuple[bytes, bytes, Sequence[str], str]] = {
    "the last lines": (b"", b"1\n2\n3\n", ["-n", "2"], "2\n3\n"),
    "fewer than asked for": (b"", b"1\n2\n", [], "1\n2\n"),
    "none": (b"", b"1\n", ["-n", "0"], ""),
    "those before as well": (b"1\n2\n", b"3\n", ["-n", "2"], "2\n3\n"),
    "a progress bar": (b"", b"begin\n\r10 %\r20 %\r\nend\n", [], "begin\n20 %\nend\n"),
    "a progress bar that another line paints over": (b"", b"10 %\r20 %\rend\n", [], "end\n"),
    "a progress bar under way": (b"", b"begin\n10 %\r20 %\r30", [], "begin\n20 %\n"),
    "no colours and controls": (b"", b"\x1b[31mred\x1b[0m \x07bell\ttab\n", [], "red bell\ttab\n"),
    "no text": (b"", b"\xff\xc3\xa9\n", [], "\ufffdé\n"),
}


@pytest.mark.parametrize(("older", "newer", "words", "printed"), LOGS.values(), ids=LOGS)
def test_a_log_is_shown(folder: Path, older: bytes, newer: bytes, words: Sequence[str], printed: str) -> None:
    write_log(folder, newer)
    if older:
        write_log(folder, older, "log.1")
    assert engines("logs", "tiny", *words).stdout == printed


def test_an_engine_without_a_log_has_written_nothing(folder: Path) -> None:
    assert "tiny has written nothing yet" in engines("logs", "tiny").stderr
    log_file(folder / "state", "tiny").mkdir(parents=True)
    assert "cannot be read (Is a directory)" in engines("logs", "tiny").stderr


def test_a_log_is_followed_through_its_turn(folder: Path) -> None:
    """Each step is what the engine does between two looks."""
    file = write_log(folder, b"1\n")
    turn = file.with_name("log.1")

    def step(number: int) -> None:
        with file.open("ab") as log:
            log.write([b"2\nha", b"lf\n", b"4\n", b""][number])
        if number > 1:
            file.replace(turn)
        if number == 2:
            file.write_bytes(b"5\n")

    looks = itertools.count()

    def wait() -> None:
        look = next(looks)
        if look < 4:
            step(look)
        else:  # after a moment without any
            file.write_bytes(b"6\n")

    reader = LogReader(file)
    assert reader.last(1) == ["1"]
    followed = reader.follow(wait)
    assert [next(followed) for _ in range(5)] == ["2", "half", "4", "5", "6"]
    reader.close()


def test_a_log_that_turns_just_now_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_log(folder, b"1\n")
    file.replace(file.with_name("log.1"))
    monkeypatch.setattr("proxy.commands.engine_log.time.sleep", lambda seconds: file.write_bytes(b"2\n"))
    assert engines("logs", "tiny").stdout == "1\n2\n"


def test_a_log_that_is_never_begun_anew_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_log(folder, b"1\n")
    file.replace(file.with_name("log.1"))
    monkeypatch.setattr("proxy.commands.engine_log.time.sleep", lambda seconds: None)
    assert "tiny has written nothing yet" in engines("logs", "tiny").stderr


def test_a_followed_log_ends_with_ctrl_c(folder: Path) -> None:
    file = write_log(folder, b"1\n")
    words = [sys.executable, "-m", "proxy.cli", "engines", "logs", "tiny", "-f"]
    environ = {**os.environ, "PYTHONPATH": str(ENGINE.parent.parent.parent), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environ, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with file.open("a") as log:
            log.write("2\n")
        assert process.stdout.readline() == "2\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


COMPLETIONS = {
    "an engine": ("relay engines start ", {"tiny", "box"}),
    "the rest of its name": ("relay engines logs ti", {"tiny"}),
    "a command": ("relay engines st", {"start", "stop"}),
    "another command": ("relay engines dr", {"drain"}),
    "a replica": ("relay engines drain box ", {"1"}),
    "a replica of nothing": ("relay engines drain x ", set()),
    "a flag of the list": ("relay engines --js", {"--json"}),
    "a stored model": ("relay models rm ac", {"acme/tiny"}),
    "an engine of another file": ("relay engines start --config other.toml ", {"other"}),
}


@pytest.mark.parametrize(("line", "found"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_names_are_completed(folder: Path, line: str, found: set[str]) -> None:
    (folder / "state" / "models" / "acme" / "tiny").mkdir(parents=True)
    (folder / "other.toml").write_text('[[engines]]\nname = "other"\nurl = "http://a"\n')
    assert completed(line) == found


def completed(line: str) -> set[str]:
    place = str(len(line.split(" ")) - 1)
    environ = {"_RELAY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": place}
    result = CliRunner().invoke(cli, [], env=environ, prog_name="relay")
    return {row.partition(",")[2] for row in result.stdout.splitlines() if row}


@pytest.mark.parametrize("line", ["relay engines start ", "relay models rm "])
def test_nothing_is_completed_out_of_wrong_settings(folder: Path, line: str) -> None:
    (folder / "relay.toml").write_text("port = ")
    assert completed(line) == set()
