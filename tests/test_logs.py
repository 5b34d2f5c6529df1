"""What is logged, and what never is: prompts, answers, tokens, account ids."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy import logs
from proxy.app import create_app
from proxy.boundary import StreamBroken
from proxy.handover import Retries
from tests.support.cloudflare import ACCOUNT, TOKEN, Step, answer, failure, frames, held, hello, result, stream
from tests.support.raw_http import chat_request, connected, request
from tests.support.relay import KEY, MODEL, Rig, asking, calling, relaying, settings_for
from tests.support.servers import DEADLINE, Served, serving
from tests.support.streams import CHAT, broken, listening

pytestmark = pytest.mark.anyio

PROMPT = "prompt-with-a-secret-7781"
ANSWER = "answer-with-a-secret-4402"
WRONG_KEY = "sk-wrong-9917-0123456789"
GATEWAY = "gateway-token-5523"
SECRETS = (PROMPT, ANSWER, KEY, WRONG_KEY, TOKEN, ACCOUNT, GATEWAY)


@contextmanager
def logging_to(level: str, form: str) -> Iterator[io.StringIO]:
    """What `relay serve` would write to stderr."""
    loggers = [logging.getLogger(name) for name in (None, "relay", "uvicorn")]
    levels = [logger.level for logger in loggers]
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        logs.configure(level, form)
    ours = logging.getLogger().handlers[:]
    try:
        yield stream
    finally:
        for handler in ours:
            logging.getLogger().removeHandler(handler)
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


@pytest.fixture(params=["json", "text"])
def logged(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """All but uvicorn's own messages, which would be those of the fake upstream too."""
    with logging_to("debug", request.param) as stream:
        yield stream


def nothing_secret_in(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


async def wait_for_run(rig: Rig) -> None:
    async with asyncio.timeout(DEADLINE):
        await rig.cloudflare.asked_to_run()


async def test_no_outcome_of_a_request_logs_a_secret(tmp_path: Path, logged: io.StringIO) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    told = f"AiError: {PROMPT} {ANSWER} {ACCOUNT} {TOKEN}"
    scripts = [
        result({"response": ANSWER, "usage": usage}),
        stream(frames({"response": ANSWER}), frames({"response": "", "usage": usage}, "[DONE]")),
        stream(frames({"response": ANSWER}), b"data: {" + ANSWER.encode() + b"\n\n"),
        stream(frames({"response": ANSWER}), frames({"errors": [{"code": 3040, "message": told}]})),
        stream(frames({"response": ANSWER}), cut=True),
        failure(400, 5006, told),
        failure(500, 9999, told),
        failure(401, 10000, told),
        failure(429, 3040, told),
        answer(200, told.encode()),
        answer(502, b"<html>" + told.encode(), media_type="text/html"),
        answer(200, {"success": False, "errors": [{"code": 7003, "message": told}]}),
    ]
    async with (
        relaying(tmp_path, access_log=True, retries=1, ai_gateway="g", ai_gateway_token=GATEWAY) as rig,
        calling(rig.url) as client,
    ):
        for script in scripts:
            rig.cloudflare.script(MODEL, script)
            for streamed in (False, True):
                await client.post(CHAT, json=asking(PROMPT, stream=streamed, user=PROMPT, metadata={PROMPT: PROMPT}))
        for body in (asking(PROMPT, temperature=PROMPT), asking(PROMPT, **{PROMPT: 1}), {PROMPT: PROMPT}, [PROMPT]):
            await client.post(CHAT, json=body)
        await client.post(CHAT, content=f'{{"messages": "{PROMPT}'.encode())
        await client.post(CHAT, json=asking(model=PROMPT))
        await client.get("/v1/models", params={"key": KEY}, headers={"authorization": f"Bearer {WRONG_KEY}"})
    text = logged.getvalue()
    nothing_secret_in(text)
    for expected in ("upstream_error from cloudflare", "code 5006", "upstream_auth", "POST /v1/chat/completions 200"):
        assert expected in text
    assert "Traceback" not in text, "expected errors are not bugs"


async def test_neither_leaving_nor_draining_logs_a_secret(tmp_path: Path, logged: io.StringIO) -> None:
    async with relaying(tmp_path, access_log=True) as rig:
        rig.cloudflare.script(MODEL, held(asyncio.Event(), hello))
        async with connected(rig.relay.port) as connection:
            await connection.send(chat_request(asking(PROMPT)))
            await wait_for_run(rig)
        async with asyncio.timeout(DEADLINE):
            await rig.cloudflare.runs[0].gone.wait()
        rig.cloudflare.reset()
        rig.cloudflare.script(MODEL, stream(frames({"response": ANSWER}), Step(b"", asyncio.Event())))
        async with connected(rig.relay.port) as connection:
            await connection.send(chat_request(asking(PROMPT, stream=True)))
            await connection.until(ANSWER.encode())
            rig.drain.expire()
            await connection.to_end()
    text = logged.getvalue()
    nothing_secret_in(text)
    assert "client left" in text and "overloaded" in text


class Buggy(httpx.AsyncBaseTransport):
    """A transport with a bug: it raises what no transport may, before or in the middle of an answer."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        if b'"stream":true' not in body:
            raise LookupError(f"{PROMPT} {TOKEN} {request.url}")
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_BuggyBody())


class _BuggyBody(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield frames({"response": ANSWER})
        raise LookupError(f"{PROMPT} {ANSWER} {TOKEN} {ACCOUNT}")


@asynccontextmanager
async def buggy(state_dir: Path) -> AsyncIterator[Served]:
    settings = settings_for(state_dir, "http://127.0.0.1:9")
    app = create_app(settings, settings.tokens, transport=Buggy(), retries=Retries(0, 0.0))
    async with serving(app) as relay:
        yield relay


async def test_a_bug_is_told_by_its_place_alone(tmp_path: Path, logged: io.StringIO) -> None:
    async with buggy(tmp_path) as relay, calling(relay.url) as client:
        response = await client.post(CHAT, json=asking(PROMPT), headers={"x-request-id": "request-of-a-bug"})
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        nothing_secret_in(response.text)
        async with listening(client, PROMPT, headers={"x-request-id": "stream-of-a-bug"}) as listener:
            _, error = broken(await listener.rest())
        assert error["code"] == "internal_error" and PROMPT not in error["message"]
    text = logged.getvalue()
    nothing_secret_in(text)
    for expected in ("bug: LookupError in request request-of-a-bug", "stream-of-a-bug", "handle_async_request"):
        assert expected in text


async def test_a_stream_that_is_broken_on_purpose_is_logged_once(tmp_path: Path, logged: io.StringIO) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, stream(frames({"response": ANSWER})))
        async with listening(client, headers={"x-request-id": "broken-stream-1"}) as listener:
            broken(await listener.rest())
    text = logged.getvalue()
    assert text.count("broken-stream-1") == 1 and "Exception in ASGI" not in text


def test_lines_are_json_where_that_is_wanted() -> None:
    with logging_to("info", "json") as stream:
        logging.getLogger("relay").info("hello %s\nthere", "wörld")
        try:
            raise ValueError(PROMPT)
        except ValueError:
            logging.getLogger("relay").exception("oops")
        logging.getLogger("relay").debug("not at this level")
        logging.getLogger("somebody.else").info("not at this level")
    lines: list[dict[str, Any]] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("info", "relay", "hello wörld\nthere"),
        ("error", "relay", "oops"),
    ]
    assert "ValueError" in lines[1]["exception"] and PROMPT not in lines[1]["exception"]


@pytest.mark.parametrize("form", ["json", "text"])
async def test_even_uvicorns_own_messages_hold_no_secret(tmp_path: Path, form: str) -> None:
    settings = settings_for(tmp_path)
    with logging_to("trace", form) as logged:
        async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
            body = asking(PROMPT, model="relay/simulator")
            assert (await client.post(CHAT, json=body, params={"token": KEY})).status_code == 200
            assert (await client.get(f"/remote-bindings/{KEY}")).status_code == 400
    text = logged.getvalue()
    assert "uvicorn.asgi" in text or "ASGI [" in text
    nothing_secret_in(text)


def test_what_is_not_broken_on_purpose_is_not_filtered_away() -> None:
    def record(error: type[BaseException] | None) -> logging.LogRecord:
        info = (error, error(), None) if error else None
        return logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "x", None, info)

    assert logs._expected(record(None)) and logs._expected(record(ValueError))
    assert not logs._expected(record(StreamBroken))


@pytest.mark.parametrize("text", ["Unsupported upgrade request.", "No supported WebSocket library detected. Please"])
def test_a_refused_web_socket_is_no_news(text: str) -> None:
    record = logging.LogRecord("uvicorn.error", logging.WARNING, __file__, 1, text, None, None)
    assert not logs._expected(record)


async def test_the_access_log_is_off_unless_asked_for_and_holds_no_query(tmp_path: Path, logged: io.StringIO) -> None:
    for wanted in (False, True):
        async with relaying(tmp_path, access_log=wanted) as rig, connected(rig.relay.port) as connection:
            await connection.send(request("GET", f"/v1/nothing%0aelse?token={KEY}"))
            await connection.answer()
        text = logged.getvalue()
        assert ("GET /v1/nothing%0Aelse 404" in text) is wanted
        nothing_secret_in(text)


@pytest.mark.parametrize(
    "path", ["/Remote-Bindings/{}", "/remote-bindings;/{}", "/v1/models/{}", "/remote-bindings/{}/x"]
)
async def test_a_token_in_any_path_is_not_logged(tmp_path: Path, logged: io.StringIO, path: str) -> None:
    async with relaying(tmp_path, access_log=True) as rig, calling(rig.url) as client:
        await client.get(path.format(KEY))
    assert " /" in logged.getvalue() and KEY not in logged.getvalue()
