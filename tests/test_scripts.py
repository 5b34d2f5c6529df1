"""Scripts over real sockets: what a client sees when the simulator is told to fail, on either side of the relay."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from adapters.base import Call, EventStream
from adapters.canonical import ChatEvent, ChatRequest, ChatResult
from adapters.catalogue import load_snapshot
from adapters.errors import Fault, RelayError
from adapters.simulator.script import Scene, Script
from adapters.wire.workers_ai_codes import CODES as FAILURES
from adapters.wire.workers_ai_codes import words_of
from proxy.app import create_app
from proxy.backends import Backends, Upstream
from proxy.commands.start_text import start_text
from proxy.dispatch import Dispatcher, Shelf
from proxy.drain import Drain
from proxy.handover import Retries
from proxy.modes import Modes
from proxy.settings import SettingsError
from tests.support.cloudflare import HELLO
from tests.support.raw_http import Connection, Head, chat_request, connected, dechunked, request
from tests.support.relay import KEY, MODEL, OPENAI_MODEL, asking, calling, relaying, settings_for
from tests.support.servers import DEADLINE, Served, serving
from tests.support.streams import CHAT, broken, chunks, text_of

pytestmark = pytest.mark.anyio

V4 = "/client/v4/accounts/me/ai"
KEYED = f"/remote-bindings/{KEY}"
EMBEDDINGS = "@cf/baai/bge-small-en-v1.5"
IDLE = 0.1
"""Seconds; the relay's limits here."""
HI = 'text="Hello there, you"; delay=0; rate=1000'


@asynccontextmanager
async def simulating(
    state: Path, *, drain: Drain | None = None, done: asyncio.Event | None = None, **flags: object
) -> AsyncIterator[Served]:
    """A relay without an account; `done` is set by the end of any request.

    Keep-alives come far sooner than its limits end a silence.
    """
    settings = settings_for(state, None, **{"keepalive": 0.02, **flags})
    app = create_app(settings, settings.tokens, drain=drain, retries=Retries(2, 0.0))

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            if done is not None and scope["type"] == "http":
                done.set()

    async with serving(watched) as relay:
        yield relay


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    state = tmp_path_factory.mktemp("state")
    async with simulating(state, idle_timeout=IDLE, first_byte_timeout=IDLE * 2) as relay:
        yield relay


@pytest.fixture
async def wire(shared: Served) -> AsyncIterator[Connection]:
    async with connected(shared.port) as connection:
        yield connection


def asked(script: str, path: str = f"{V4}/run/{MODEL}", **fields: Any) -> bytes:
    """A native request, after whose answer the connection closes."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **fields}).encode()
    return request("POST", path, body, content_type="application/json", x_relay_script=script, connection="close")


def own(script: str, **fields: Any) -> bytes:
    return chat_request(asking(**fields), x_relay_script=script, connection="close")


async def streamed(wire: Connection) -> tuple[Head, bytes, bool]:
    """All that comes until the connection closes, and whether the body came to its proper end."""
    head = await wire.head()
    return head, *dechunked(await wire.to_end())


def datas(body: bytes) -> list[bytes]:
    """What follows `data: ` in each frame; comments are left out."""
    frames = body.removesuffix(b"\n\n").split(b"\n\n") if body else []
    assert all(frame.startswith((b"data: ", b": ")) for frame in frames), frames
    return [frame.removeprefix(b"data: ") for frame in frames if frame.startswith(b"data: ")]


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def words(body: bytes) -> str:
    """The text of a native stream of either shape, or of OpenAI's, as far as it can be read."""
    text = ""
    for value in (json.loads(data) for data in datas(body) if is_json(data)):
        text += value.get("response") or ""
        text += "".join(choice["delta"].get("content") or "" for choice in value.get("choices", ()))
    return text


# ---------------------------------------------------------------- Workers AI's own wire

NATIVE = {
    "the older shape": f"{V4}/run/{MODEL}",
    "OpenAI's chunks": f"{V4}/run/{OPENAI_MODEL}",
    "the OpenAI-compatible path": f"{V4}/v1/chat/completions",
    "AI Gateway": f"/v1/me/my-gateway/workers-ai/{MODEL}",
}
EVERY_NATIVE_PATH = pytest.mark.parametrize("path", NATIVE.values(), ids=NATIVE)


@EVERY_NATIVE_PATH
@pytest.mark.parametrize(("cut", "said"), [(0, ""), (2, "Hello there,"), (99, "Hello there, you")])
async def test_a_cut_breaks_the_connection_without_a_word(wire: Connection, path: str, cut: int, said: str) -> None:
    await wire.send(asked(f"{HI}; cut={cut}", path, stream=True, model=MODEL))
    head, body, ended = await streamed(wire)
    assert head.status == 200 and head.headers["content-type"].startswith("text/event-stream")
    assert words(body) == said
    assert not ended and b"error" not in body and b"[DONE]" not in body


async def test_a_cut_answer_has_half_of_its_body(wire: Connection) -> None:
    await wire.send(asked(f"{HI}; cut=1"))
    head, body = await wire.head(), await wire.to_end()
    assert head.status == 200
    assert body.startswith(b'{"result":{"response":"Hello there')
    assert len(body) == int(head.headers["content-length"]) // 2


@EVERY_NATIVE_PATH
async def test_one_frame_of_a_garbled_stream_cannot_be_read(wire: Connection, path: str) -> None:
    await wire.send(asked(f"{HI}; malformed=2", path, stream=True, model=MODEL))
    _, body, ended = await streamed(wire)
    *frames, done = datas(body)
    assert [is_json(frame) for frame in frames].count(False) == 1
    assert (words(body), done, ended) == ("Hello you", b"[DONE]", True)


async def test_a_keep_alive_is_not_what_is_garbled(tmp_path: Path) -> None:
    """A `stop` that may have begun holds the first word back, while keep-alives go out."""
    script = 'text="Hello there"; malformed=1; delay=0; rate=10'
    async with simulating(tmp_path, keepalive_form="comment") as relay, connected(relay.port) as wire:
        await wire.send(asked(script, f"{V4}/v1/chat/completions", stream=True, model=MODEL, stop=["Hello you"]))
        _, body, _ = await streamed(wire)
    *frames, _ = datas(body)
    assert b": keep-alive" in body
    assert [is_json(frame) for frame in frames].count(False) == 1 and words(body) == ""


async def test_the_end_of_a_stream_can_be_garbled_too(wire: Connection) -> None:
    await wire.send(asked(f"{HI}; malformed=99", stream=True))
    _, body, _ = await streamed(wire)
    *frames, done = datas(body)
    assert [is_json(frame) for frame in frames].count(False) == 1
    assert (words(body), done) == ("Hello there, you", b"[DONE]")


@pytest.mark.parametrize("model", [MODEL, "@cf/stabilityai/stable-diffusion-xl-base-1.0"], ids=["JSON", "an image"])
async def test_a_garbled_answer_is_as_long_as_announced_and_makes_no_sense(wire: Connection, model: str) -> None:
    fields = {"prompt": "Hello"} if "diffusion" in model else {}
    script = "malformed=1" if fields else f"malformed=1; {HI}"
    await wire.send(asked(script, f"{V4}/run/{model}", **fields))
    head, body = await wire.head(), await wire.to_end()
    assert head.status == 200 and len(body) == int(head.headers["content-length"])
    assert not is_json(body) and not body.startswith(b"\x89PNG")


@EVERY_NATIVE_PATH
async def test_a_hang_is_silence_until_the_relays_limit(wire: Connection, path: str) -> None:
    started = time.monotonic()
    await wire.send(asked(f"{HI}; hang=1", path, stream=True, model=MODEL))
    await wire.until(b'"Hello"')
    body = await wire.to_end()
    assert time.monotonic() - started > IDLE * 0.8
    assert b"keep-alive" not in body and b"data:" not in body and not body.endswith(b"0\r\n\r\n")


async def test_a_hang_ends_when_the_client_leaves(tmp_path: Path) -> None:
    done = asyncio.Event()
    async with simulating(tmp_path, done=done, idle_timeout=3600) as relay, connected(relay.port) as wire:
        await wire.send(asked(f"{HI}; hang=1", stream=True))
        await wire.until(b'"Hello"')
        assert not done.is_set()
        wire.reset()
        async with asyncio.timeout(DEADLINE):
            await done.wait()


async def test_a_hang_ends_when_the_relay_stops(tmp_path: Path) -> None:
    drain = Drain()
    async with simulating(tmp_path, drain=drain, idle_timeout=3600) as relay, connected(relay.port) as wire:
        await wire.send(asked(f"{HI}; hang=1", stream=True))
        await wire.until(b'"Hello"')
        drain.expire()
        assert b"data:" not in await wire.to_end()


async def test_an_answer_that_hangs_ends_as_cloudflare_ends_it(wire: Connection) -> None:
    await wire.send(asked("hang=0"))
    head, body = await wire.answer()
    assert head.status == 408
    assert json.loads(body)["errors"][0]["code"] == 3046


CODES = {
    "a day's allocation": ("error=3036", 429, 3036, "daily free allocation of 10,000 neurons"),
    "no capacity": ("error=3040", 429, 3040, ""),
    "an internal error": ("error=3043", 500, 3043, ""),
    "a wrong token": ("error=10000", 401, 10000, "Authentication error"),
    "a retired model": ("error=5028", 410, 5028, ""),
    "of one's own": ('error=777; status=503; message="Out of luck"', 503, 777, "Out of luck"),
    "of one's own, told by another status": ("error=3040; status=500", 500, 3040, ""),
}


@pytest.mark.parametrize(("script", "status", "code", "message"), CODES.values(), ids=CODES)
@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "stream"])
async def test_an_error_is_cloudflares(
    wire: Connection, script: str, status: int, code: int, message: str, fields: dict[str, Any]
) -> None:
    await wire.send(asked(script, **fields))
    head, body = await wire.answer()
    (error,) = json.loads(body)["errors"]
    assert (head.status, error["code"]) == (status, code)
    assert message in error["message"]


@pytest.mark.parametrize("code", FAILURES)
async def test_every_code_of_cloudflares_has_its_own_words(wire: Connection, code: int) -> None:
    await wire.send(asked(f"error={code}"))
    head, body = await wire.answer()
    told, answer = FAILURES[code], json.loads(body)
    [error] = answer["errors"]
    assert (head.status, error["code"], answer["success"]) == (told.status or 500, code, False)
    assert answer["result"] == ({} if told.inference else None)
    words = words_of(code, model=MODEL, limit=load_snapshot().resolve(MODEL).context_window)
    words = words.replace("{path}", f"/accounts/me/ai/run/{MODEL}").replace("{method}", "POST")
    framed = re.fullmatch(r"AiError: (.*) \([0-9a-f]{8}\)", error["message"], re.S)
    assert (framed[1] if framed else error["message"]) == words
    assert (framed is not None) is told.inference


# Script, and the request that Cloudflare refuses in this way without one.
UNSCRIPTED = {
    "a wrong token": ("error=10000", request("POST", f"{V4}/run/{MODEL}", b"{}", token="wrong")),
    "no such route": ("error=7003", request("POST", "/client/v4/accounts/me/ai/no/such", b"{}")),
    "no such method": ("error=7001", request("POST", f"{V4}/v1/models", b"{}")),
}


@pytest.mark.parametrize(("script", "refused"), UNSCRIPTED.values(), ids=UNSCRIPTED)
async def test_a_scripted_error_outside_inference_is_the_real_one_byte_for_byte(
    shared: Served, script: str, refused: bytes
) -> None:
    answers = []
    for wanted in (refused, asked(script)):
        async with connected(shared.port) as wire:
            await wire.send(wanted)
            answers.append(await wire.answer())
    (real, real_body), (scripted, body) = answers
    assert scripted.status == real.status
    assert body == real_body.replace(b"/ai/no/such", f"/ai/run/{MODEL}".encode())


async def test_every_task_can_fail(wire: Connection) -> None:
    await wire.send(asked("error=3036", f"{V4}/run/{EMBEDDINGS}", text="Hello"))
    head, body = await wire.answer()
    assert (head.status, json.loads(body)["errors"][0]["code"]) == (429, 3036)


async def test_a_worker_can_give_the_script_itself(shared: Served) -> None:
    """`env.AI.run(model, inputs, { extraHeaders })` comes through Miniflare with prefixed headers."""
    headers = {
        "MF-URL": "https://workers-binding.ai/run?version=3",
        "MF-Binding": "AI",
        "MF-Header-content-type": "application/json",
        "MF-Header-cf-consn-model-id": MODEL,
        "MF-Header-x-relay-script": "error=3036",
    }
    body = {"inputs": {"prompt": "Hello"}, "options": {}}
    async with calling(shared.url) as client:
        response = await client.post(KEYED, json=body, headers=headers)
    assert response.status_code == 429
    assert response.json()["internalCode"] == 3036


# ---------------------------------------------------------------- the relay's own interface

OWN_STREAMS = {
    "a cut": ("cut=2", "Hello there,", "upstream_error"),
    "nonsense": ("malformed=2", "Hello", "upstream_error"),
    "a hang": ("hang=1", "Hello", "upstream_timeout"),
}


@pytest.mark.parametrize(("script", "said", "code"), OWN_STREAMS.values(), ids=OWN_STREAMS)
async def test_a_stream_that_goes_wrong_is_told_of(wire: Connection, script: str, said: str, code: str) -> None:
    await wire.send(own(f"{HI}; {script}", stream=True))
    _, body, _ = await streamed(wire)
    parts, error = broken(body)
    assert (text_of(parts), error["code"]) == (said, code)


async def test_a_hang_is_bridged_by_keep_alives(wire: Connection) -> None:
    await wire.send(own("hang=0", stream=True))
    _, body, _ = await streamed(wire)
    parts, error = broken(body)
    assert parts and error["code"] == "upstream_timeout"


OWN_ERRORS = {
    "a day's allocation": ("error=3036", 429, "insufficient_quota"),
    "no capacity": ("error=3040", 429, "rate_limit_exceeded"),
    "the relay's own token": ("error=10000", 502, "upstream_auth"),
    "of one's own": ("error=777; status=503", 502, "upstream_error"),
    "a cut": (f"cut=0; {HI}", 502, "upstream_error"),
    "nonsense": (f"malformed=1; {HI}", 502, "upstream_error"),
    "a hang": ("hang=0", 504, "upstream_timeout"),
    "a delay beyond the limit": ("delay=60", 504, "upstream_timeout"),
}


@pytest.mark.parametrize(("script", "status", "code"), OWN_ERRORS.values(), ids=OWN_ERRORS)
async def test_a_failure_is_what_the_relay_makes_of_it(wire: Connection, script: str, status: int, code: str) -> None:
    await wire.send(own(script))
    head, body = await wire.answer()
    assert (head.status, json.loads(body)["error"]["code"]) == (status, code)


async def test_embeddings_fail_too(shared: Served) -> None:
    async with calling(shared.url, **{"x-relay-script": "error=3036"}) as client:
        response = await client.post("/v1/embeddings", json={"model": EMBEDDINGS, "input": "Hello"})
    assert (response.status_code, response.json()["error"]["code"]) == (429, "insufficient_quota")


async def test_an_answer_takes_the_time_it_is_told_to(shared: Served) -> None:
    started = time.monotonic()
    async with calling(shared.url, **{"x-relay-script": 'text="Hello there, you"; delay=0.05; rate=40'}) as client:
        response = await client.post(CHAT, json=asking())
    assert response.json()["choices"][0]["message"]["content"] == "Hello there, you"
    # After the first piece come "there" and ",", then "you": three tokens.
    assert time.monotonic() - started > 0.05 + 3 / 40


@pytest.mark.parametrize("path", [CHAT, f"{V4}/run/{MODEL}", "/v1/models"])
async def test_a_header_that_cannot_be_followed_is_a_400(wire: Connection, path: str) -> None:
    await wire.send(request("GET" if path == "/v1/models" else "POST", path, b"{}", x_relay_script="eror=3036"))
    head, body = await wire.answer()
    assert head.status == 400
    assert b"Invalid header 'x-relay-script': there is no key 'eror'" in body


async def test_a_caller_without_a_token_hears_401_first(wire: Connection) -> None:
    await wire.send(request("POST", CHAT, b"{}", token=None, x_relay_script="eror=3036"))
    assert (await wire.answer())[0].status == 401


async def test_where_cloudflare_answers_the_header_is_ignored_and_said_to_be(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url, **{"x-relay-script": "error=3036"}) as client:
        rig.cloudflare.script(MODEL, HELLO)
        response = await client.post(CHAT, json=asking())
    assert response.status_code == 200
    assert response.headers["x-relay-changes"] == "x-relay-script=ignored"


# ---------------------------------------------------------------- rules


async def test_rules_make_the_first_requests_fail(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[rules]]\ntimes = 2\nerror = 3040\n[[rules]]\ntext = 'Hi'\ndelay = 0")
    async with simulating(tmp_path, script="rules.toml") as relay, calling(relay.url) as client:
        told = [await client.post(CHAT, json=asking()) for _ in range(3)]
        assert [response.status_code for response in told] == [429, 429, 200]
        async with client.stream("POST", CHAT, json=asking(stream=True)) as response:
            assert text_of(chunks(await response.aread())) == "Hi"


async def test_the_days_allocation_is_used_up(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"allocation": 0.001}')
    async with simulating(tmp_path, script="rules.json") as relay, calling(relay.url) as client:
        run = f"{V4}/run/{MODEL}"
        assert (await client.post(run, json={"prompt": "Hello", "max_tokens": 1})).status_code == 200
        response = await client.post(run, json={"prompt": "Hello"})
        assert response.status_code == 429 and response.json()["errors"][0]["code"] == 3036
        response = await client.post("/v1/embeddings", json={"model": EMBEDDINGS, "input": "Hello"})
        assert response.json()["error"]["code"] == "insufficient_quota"


class Failing:
    """A backend that is out of capacity, by a script or by itself."""

    name = "simulator"

    def __init__(self, script: Script) -> None:
        self._script = script
        self.tries = 0

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        self.tries += 1
        call.scene = Scene(request.model, self._script, 1)
        raise RelayError(Fault.RATE_LIMITED, "busy")

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        await self.chat(request, call)
        yield _nothing()


async def _nothing() -> AsyncIterator[list[ChatEvent]]:
    yield []


@pytest.mark.parametrize(("script", "tries"), [(Script(error=3040), 1), (Script(), 3)])
async def test_a_request_with_a_script_is_not_tried_again(script: Script, tries: int) -> None:
    """Its every try would be told to fail."""
    failing = Failing(script)
    backends = Backends({"simulator": Upstream(chat=failing)}, "simulator", {})
    dispatcher = Dispatcher(Shelf(load_snapshot()), backends, Modes("auto", {}), retries=Retries(2, 0.0))
    with pytest.raises(RelayError):
        await dispatcher.chat(ChatRequest(model=MODEL, messages=()), Call("test"))
    assert failing.tries == tries


def test_a_file_that_has_become_unreadable_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.touch()
    settings = settings_for(tmp_path, script="rules.toml")
    file.unlink()
    with pytest.raises(SettingsError) as caught:
        create_app(settings, settings.tokens)
    assert caught.value.problems == ("--script: it cannot be read (No such file or directory)",)


def test_the_start_says_that_a_script_is_played(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").touch()
    settings = settings_for(tmp_path, script="rules.toml")
    assert f"script    {tmp_path / 'rules.toml'}: " in start_text(settings, KEY, False, "127.0.0.1", 8790)
    assert "script" not in start_text(settings_for(tmp_path), KEY, False, "127.0.0.1", 8790)
