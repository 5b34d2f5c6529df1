"""Workers AI's own calls on their way through, over real sockets: what is replaced, left alone and read."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Send

from adapters.base import Call
from adapters.canonical import Usage
from adapters.cloudflare_calls import Account, CloudflareCalls, Timeouts
from adapters.cloudflare_native import CloudflareNative
from adapters.cloudflare_stream import SecretFilter, Speech
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.transport import open_transport
from tests.support.cloudflare import (
    ACCOUNT,
    BASE_PATH,
    TOKEN,
    USAGE,
    Asked,
    FakeCloudflare,
    Script,
    Step,
    answer,
    failure,
    frames,
    held,
    result,
    stream,
)
from tests.support.servers import DEADLINE, serving

pytestmark = pytest.mark.anyio

MODEL = "@cf/meta/llama-3.2-1b-instruct"
RUN = f"run/{MODEL}"
COUNTED = Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4)
GATEWAY_TOKEN = "gateway-secret-0123456789"


class Clock:
    def __init__(self) -> None:
        self.now = dt.datetime(2026, 11, 21, 23, 0, tzinfo=dt.UTC).timestamp()

    def __call__(self) -> float:
        return self.now


class Once(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"\x89PNG"


class Rig:
    """The pass-through in front of a scripted Cloudflare."""

    def __init__(self, cloudflare: FakeCloudflare, native: CloudflareNative, clock: Clock) -> None:
        self.cloudflare = cloudflare
        self.native = native
        self.clock = clock

    def forward(
        self,
        path: str = RUN,
        *,
        method: str = "POST",
        query: bytes | str = b"",
        headers: Iterable[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),),
        body: bytes = b'{"prompt":"Hi"}',
        call: Call | None = None,
    ) -> Any:
        return self.native.forward(method, path, query, headers, body, call or Call("id"))

    async def whole(self, path: str = RUN, **options: Any) -> Whole:
        async with asyncio.timeout(DEADLINE), self.forward(path, **options) as answer:
            body = b"".join([chunk async for chunk in answer.chunks])
            return Whole(answer.status, dict(answer.headers), body, answer.usage)


class Whole:
    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes, usage: Usage | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.usage = usage


@asynccontextmanager
async def passing(**options: Any) -> AsyncIterator[Rig]:
    cloudflare, clock = FakeCloudflare(), Clock()
    async with serving(cloudflare) as upstream, open_transport(connect_timeout=DEADLINE) as transport:
        account = Account(
            account_id=ACCOUNT,
            api_token=TOKEN,
            base_url=upstream.url + BASE_PATH,
            **{name: options.pop(name) for name in ("gateway", "gateway_token") if name in options},
        )
        calls = CloudflareCalls(transport, account, hop="hop-1", user_agent="relay/1", now=clock, **options)
        yield Rig(cloudflare, CloudflareNative(calls), clock)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with passing() as rig:
        yield rig


# ---------------------------------------------------------------- what goes up


async def test_body_query_and_path_go_up_as_they_came(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, result({}))
    body = b'{ "prompt" : "\\u00e9 {\\"x\\":1}", "n":1e2}'
    call = Call("id")
    await rig.whole("run/@cf%2Fmeta%2Fllama-3.2-1b-instruct", query=b"a=1%20b+c&&d=%2F&e", body=body, call=call)
    [asked] = rig.cloudflare.requests
    assert asked.raw_path == f"{BASE_PATH}/accounts/{ACCOUNT}/ai/run/@cf%2Fmeta%2Fllama-3.2-1b-instruct"
    assert (asked.method, asked.query, asked.body) == ("POST", "a=1%20b+c&&d=%2F&e", body)
    assert call.upstream == "cloudflare" and call.upstream_seconds > 0 and call.upstream_since is None


@pytest.mark.parametrize("query", [b"name=caf\xc3\xa9 #1", "name=café #1"], ids=["bytes", "text"])
async def test_a_query_that_was_not_encoded_means_the_same(rig: Rig, query: bytes | str) -> None:
    await rig.whole("models/search", method="GET", query=query, body=b"")
    assert rig.cloudflare.requests[0].query == "name=caf%C3%A9%20%231"


HEADERS = [
    (b"Content-Type", b"multipart/form-data; boundary=xyz"),
    (b"accept", b"text/event-stream"),
    (b"x-session-affinity", b"conversation-1"),
    (b"cf-aig-metadata", b'{"team":"x"}'),
    (b"cf-consn-model-id", b"x"),
    (b"authorization", b"Bearer the-callers-own"),
    (b"x-api-key", b"the-callers-own"),
    (b"x-auth-key", b"the-callers-own"),
    (b"x-auth-email", b"me@example.com"),
    (b"cookie", b"a=b"),
    (b"x-relay-script", b"cut"),
    (b"x-relay-hop", b"other"),
    (b"user-agent", b"wrangler/4"),
    (b"host", b"localhost"),
    (b"connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"accept-encoding", b"gzip, br"),
    (b"x-forwarded-for", b"10.0.0.1"),
]


async def test_only_headers_about_the_call_go_up(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, result({}))
    await rig.whole(headers=HEADERS, body=b"--xyz--")
    sent = rig.cloudflare.requests[0].headers
    sent.pop("host")
    sent.pop("connection", None)
    assert sent == {
        "authorization": f"Bearer {TOKEN}",
        "content-type": "multipart/form-data; boundary=xyz",
        "content-length": "7",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "x-session-affinity": "conversation-1",
        "cf-aig-metadata": '{"team":"x"}',
        "cf-consn-model-id": "x",
        "user-agent": "relay/1",
        "x-relay-hop": "hop-1",
    }


OURS = {"gateway": "ours", "gateway_token": GATEWAY_TOKEN}
GATEWAYS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "none": ({}, {}, {}),
    "ours": (OURS, {}, {"cf-aig-gateway-id": "ours", "cf-aig-authorization": f"Bearer {GATEWAY_TOKEN}"}),
    "theirs": (OURS, {"CF-AIG-Gateway-Id": "theirs"}, {"cf-aig-gateway-id": "theirs"}),
    "theirs with its token": (
        OURS,
        {"cf-aig-gateway-id": "theirs", "cf-aig-authorization": "Bearer t"},
        {"cf-aig-gateway-id": "theirs"},
    ),
    "a token where we have no gateway": ({}, {"CF-AIG-Authorization": "Bearer t"}, {}),
    "ours by name": (
        OURS,
        {"cf-aig-gateway-id": "ours", "cf-aig-authorization": "Bearer t"},
        {"cf-aig-gateway-id": "ours", "cf-aig-authorization": f"Bearer {GATEWAY_TOKEN}"},
    ),
    "a token of theirs for ours": (
        OURS,
        {"cf-aig-authorization": "Bearer t"},
        {"cf-aig-gateway-id": "ours", "cf-aig-authorization": f"Bearer {GATEWAY_TOKEN}"},
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "sent"), GATEWAYS.values(), ids=GATEWAYS)
async def test_our_gateway_serves_those_who_name_none(
    ours: dict[str, str], theirs: dict[str, str], sent: dict[str, str]
) -> None:
    async with passing(**ours) as rig:
        rig.cloudflare.script(MODEL, result({}))
        await rig.whole(headers=[(name.encode(), value.encode()) for name, value in theirs.items()])
        headers = rig.cloudflare.requests[0].headers
        assert {name: value for name, value in headers.items() if name.startswith("cf-aig-")} == sent


ESCAPES = [
    "../../../user/tokens",
    "run/../../../../user",
    "run/%2e%2e/%2E%2E/x",
    "run/%252e%252e%252fx",
    "run/..%5cx",
    "run/..\\x",
    "./models/search",
    "run//x",
    "run/x/",
    "",
    "/run/x",
    "run/x?y=1",
    "run/x#y",
    "run/x y",
    "run/\u00e9",
]


@pytest.mark.parametrize("path", ESCAPES)
async def test_a_path_cannot_leave_the_accounts_ai(rig: Rig, path: str) -> None:
    with pytest.raises(InvalidRequest):
        await rig.whole(path)
    assert not rig.cloudflare.requests


async def test_an_address_beyond_reason_is_refused(rig: Rig) -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        await rig.whole(query=b"x" * 70_000)


# ---------------------------------------------------------------- what comes back


async def test_an_answer_comes_back_as_it_is_with_the_headers_about_it(rig: Rig) -> None:
    body = b'{ "result" : {"response":"\\u00e9"}, "success":true }'
    headers = {
        "cf-ai-req-id": "r-1",
        "cf-ai-neurons": "1.98",
        "cf-aig-log-id": "l-1",
        "retry-after": "3",
        "set-cookie": "a=b",
        "server": "cloudflare",
        "cf-ray": "abc",
        "x-request-id": "theirs",
    }
    rig.cloudflare.script(MODEL, answer(200, body, headers=headers, media_type="application/json; charset=UTF-8"))
    whole = await rig.whole()
    assert (whole.status, whole.body) == (200, body)
    assert whole.headers == {
        b"content-type": b"application/json; charset=UTF-8",
        b"cf-ai-req-id": b"r-1",
        b"cf-ai-neurons": b"1.98",
        b"cf-aig-log-id": b"l-1",
        b"retry-after": b"3",
    }
    assert whole.usage == Usage(neurons=1.98), "a header alone tells neurons alone"


def usage_of(value: object, **headers: str) -> Script:
    return answer(200, value, headers={name.replace("_", "-"): text for name, text in headers.items()})


BILLED = Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4, neurons=0.5)
TOLD: dict[str, tuple[Script, Usage | None]] = {
    "of the older shape": (result({"response": "Hi", "usage": USAGE}), COUNTED),
    "of a bare answer": (answer(200, {"choices": [], "usage": USAGE}), COUNTED),
    "of a response": (
        answer(200, {"output": [], "usage": {"input_tokens": 9, "output_tokens": 2}}),
        Usage(prompt_tokens=9, completion_tokens=2),
    ),
    "with neurons": (result({"usage": {**USAGE, "neurons": 0.5}}), BILLED),
    "with neurons in a header": (usage_of({"result": {"usage": USAGE}}, cf_ai_neurons="0.5"), BILLED),
    "with neurons in both": (
        usage_of({"result": {"usage": {**USAGE, "neurons": 0.5}}}, cf_ai_neurons="0.51"),
        BILLED,
    ),
    "with neurons that are no number": (usage_of({"result": {"usage": USAGE}}, cf_ai_neurons="many"), COUNTED),
    "with neurons beyond counting": (usage_of({"result": {"usage": USAGE}}, cf_ai_neurons="inf"), COUNTED),
    "of none": (result({"data": [[1.0]]}), None),
    "of a list": (result([{"label": "POSITIVE", "score": 0.9}]), None),
    "of what is no JSON": (answer(200, b"{", media_type="application/json"), None),
    "of an image": (
        answer(200, b"\x89PNG data: {}", headers={"cf-ai-neurons": "57.6"}, media_type="image/png"),
        Usage(neurons=57.6),
    ),
}


@pytest.mark.parametrize(("script", "usage"), TOLD.values(), ids=TOLD)
async def test_the_usage_of_a_whole_answer_is_read(rig: Rig, script: Script, usage: Usage | None) -> None:
    rig.cloudflare.script(MODEL, script)
    assert (await rig.whole()).usage == usage


def chunk(**fields: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x"}}], **fields}


RUNNING = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
INCREMENT = {"prompt_tokens": 0, "completion_tokens": 1}
LONG = frames({"response": "x" * 1000}) * 100
STREAMS: dict[str, tuple[list[bytes], Usage | None]] = {
    "the older shape": ([LONG, frames({"response": "", "usage": USAGE, "p": "ab"}, "[DONE]")], COUNTED),
    "a long one": ([*[LONG] * 3, LONG[:999], LONG[999:], frames({"response": "", "usage": USAGE})], COUNTED),
    "the newer shape with its tail": (
        [
            frames(chunk(usage={"prompt_tokens": 9, "completion_tokens": 0})),
            frames(chunk(usage=INCREMENT), chunk(usage=INCREMENT)),
            frames({"response": "", "usage": USAGE}, "[DONE]"),
        ],
        COUNTED,
    ),
    "running totals": ([frames(chunk(usage=RUNNING), chunk(), "[DONE]")], COUNTED),
    "increments without a tail": ([frames(chunk(usage=RUNNING), chunk(usage=INCREMENT), "[DONE]")], None),
    "a response": (
        [
            b'event: response.completed\ndata: {"type":"response.completed","response":'
            b'{"usage":{"input_tokens":9,"output_tokens":2}}}\n\n'
        ],
        Usage(prompt_tokens=9, completion_tokens=2),
    ),
    "a tail that lacks its blank line": ([frames({"response": "", "usage": USAGE})[:-2]], COUNTED),
    "no usage": ([LONG, frames("[DONE]")], None),
    "a usage long ago": ([frames({"response": "", "usage": USAGE}), frames(*[{"response": "x"}] * 8)], None),
    "what is no JSON": ([frames({"response": "", "usage": USAGE}, "{", "[DONE]")], COUNTED),
    "a tail in pieces": ([frames({"response": "", "usage": USAGE})[i : i + 7] for i in range(0, 210, 7)], COUNTED),
    "nothing": ([], None),
}


@pytest.mark.parametrize(("pieces", "usage"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_comes_back_as_it_is_and_its_usage_is_read(
    rig: Rig, pieces: list[bytes], usage: Usage | None
) -> None:
    rig.cloudflare.script(MODEL, stream(*pieces))
    whole = await rig.whole()
    assert whole.body == b"".join(pieces)
    assert (whole.usage, whole.headers) == (usage, {b"content-type": b"text/event-stream"})


async def test_a_stream_is_passed_on_piece_by_piece(rig: Rig) -> None:
    second = Step(frames("[DONE]"), asyncio.Event())
    rig.cloudflare.script(MODEL, stream(frames({"response": "x"}), second))
    async with asyncio.timeout(DEADLINE), rig.forward() as answer:
        assert await anext(answer.chunks) == frames({"response": "x"})
        assert second.after is not None
        second.after.set()
        assert await anext(answer.chunks) == frames("[DONE]")


async def test_leaving_ends_the_call_upstream(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "x"}), Step(b"", asyncio.Event())))
    async with asyncio.timeout(DEADLINE):
        async with rig.forward() as answer:
            await anext(answer.chunks)
        await rig.cloudflare.requests[0].gone.wait()


# ---------------------------------------------------------------- what goes wrong


async def test_an_error_comes_back_as_it_is_without_our_secrets() -> None:
    async with passing(**OURS) as rig:
        text = f"AiError: {TOKEN} {GATEWAY_TOKEN} /accounts/{ACCOUNT}/ai"
        rig.cloudflare.script(MODEL, failure(400, 5006, text, cf_ai_req_id=f"r-{TOKEN}"))
        whole = await rig.whole()
        assert whole.status == 400
        assert json.loads(whole.body) == {
            "errors": [{"message": "AiError: *** *** /accounts/***/ai", "code": 5006}],
            "success": False,
            "result": {},
            "messages": [],
        }
        assert whole.headers == {b"content-type": b"application/json", b"cf-ai-req-id": b"r-***"}


REFUSED = {"success": False, "errors": [{"code": 10000, "message": f"{TOKEN} of {ACCOUNT}"}]}
CUT = frames(REFUSED).index(TOKEN.encode())
LEAKS: dict[str, tuple[Script, bytes]] = {
    "a failure inside a success": (answer(200, REFUSED), b'"*** of ***"'),
    "a success": (answer(200, {"result": f"{TOKEN} {GATEWAY_TOKEN} {ACCOUNT}"}), f"*** *** {ACCOUNT}".encode()),
    "a frame": (stream(frames(REFUSED)), b'"*** of '),
    "a frame in pieces": (
        stream(*(frames(REFUSED)[i : i + 1] for i in range(len(frames(REFUSED))))),
        frames(REFUSED).replace(TOKEN.encode(), b"***"),
    ),
    "two pieces": (stream(frames(REFUSED)[: CUT + 5], frames(REFUSED)[CUT + 5 :]), b'"*** of '),
    "a beginning that is none": (stream(b"data: " + TOKEN[:5].encode(), b"!\n\n"), TOKEN[:5].encode() + b"!\n\n"),
    "an end that is a beginning": (stream(b"data: " + TOKEN[:5].encode()), b"data: " + TOKEN[:5].encode()),
    "a text": (stream(f"{GATEWAY_TOKEN}.".encode(), media_type="text/plain"), b"***."),
}


@pytest.mark.parametrize(("script", "passed"), LEAKS.values(), ids=LEAKS)
async def test_no_answer_repeats_our_tokens(script: Script, passed: bytes) -> None:
    async with passing(**OURS) as rig:
        rig.cloudflare.script(MODEL, script)
        body = (await rig.whole()).body
        assert passed in body
        assert TOKEN.encode() not in body and GATEWAY_TOKEN.encode() not in body


PIECES: dict[str, tuple[list[bytes], list[bytes]]] = {
    "a secret in two": ([b"a sec", b"ret b"], [b"a ", b"*** b"]),
    "a secret byte by byte": ([b"s", b"e", b"c", b"r", b"e", b"t", b"."], [b"", b"", b"", b"", b"", b"***", b"."]),
    "a beginning that is none": ([b"a sec", b"ond"], [b"a ", b"second"]),
    "a beginning within a beginning": ([b"ses", b"ecret"], [b"se", b"***"]),
    "an end": ([b"a s", b""], [b"a ", b""]),
    "none": ([b"data: x\n\n", b"y"], [b"data: x\n\n", b"y"]),
}


@pytest.mark.parametrize(("chunks", "passed"), PIECES.values(), ids=PIECES)
def test_only_what_may_become_a_secret_is_held_back(chunks: list[bytes], passed: list[bytes]) -> None:
    clean = SecretFilter([b"secret", b"other"])
    assert [clean.feed(chunk) for chunk in chunks] == passed
    assert b"".join([*passed, clean.close()]) == b"".join(chunks).replace(b"secret", b"***")


async def test_a_piece_that_is_held_back_delays_only_itself(rig: Rig) -> None:
    rest = Step(TOKEN[9:].encode() + b"\n\n", asyncio.Event())
    begin = Step(TOKEN[:9].encode(), asyncio.Event())
    rig.cloudflare.script(MODEL, stream(b"data: ", begin, rest))
    async with asyncio.timeout(DEADLINE), rig.forward() as answer:
        assert await anext(answer.chunks) == b"data: "
        assert begin.after is not None and rest.after is not None
        begin.after.set()
        async with asyncio.TaskGroup() as group:
            ahead = group.create_task(anext(answer.chunks))
            await begin.sent.wait()
            rest.after.set()
        assert ahead.result() == b"***\n\n"


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_that_nobody_knows_is_an_error(status: int) -> None:
    async def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=Once())

    account = Account(account_id=ACCOUNT, api_token=TOKEN)
    native = CloudflareNative(CloudflareCalls(httpx.MockTransport(respond), account))
    with pytest.raises(RelayError) as caught:
        async with native.forward("POST", RUN, b"", (), b"", Call("id")):
            raise AssertionError
    assert caught.value.fault is Fault.UPSTREAM_ERROR


async def test_no_call_is_tried_again(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3040, retry_after="2"), result({}))
    whole = await rig.whole()
    assert (whole.status, whole.headers[b"retry-after"], len(rig.cloudflare.requests)) == (429, b"2", 1)


SPENT: dict[str, Script] = {
    "by a status": failure(429, 3036),
    "inside a success": answer(200, {"success": False, "errors": [{"code": 3036, "message": ""}], "result": {}}),
    "inside a stream": stream(frames({"error": {"code": 3036, "message": "AiError: spent"}})),
}


@pytest.mark.parametrize("script", SPENT.values(), ids=SPENT)
async def test_a_spent_allocation_is_not_asked_for_again_before_midnight(rig: Rig, script: Script) -> None:
    rig.cloudflare.script(MODEL, script, result({}))
    rig.cloudflare.script("v1/embeddings", result({}))
    await rig.whole()
    for path in (RUN, "v1/embeddings"):
        with pytest.raises(RelayError) as caught:
            await rig.whole(path)
        assert caught.value.fault is Fault.QUOTA_EXHAUSTED
    assert len(rig.cloudflare.requests) == 1
    assert (await rig.whole("models/search", method="GET", body=b"")).status == 200, "a list costs nothing"
    assert (await rig.whole(query=b"queueRequest=true")).status == 200, "a batch may have been paid already"
    rig.clock.now += 3601
    assert (await rig.whole()).status == 200


async def test_a_stream_that_breaks_off_raises_after_what_came(rig: Rig) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "x"}), cut=True))
    async with asyncio.timeout(DEADLINE), rig.forward() as answer:
        assert await anext(answer.chunks) == frames({"response": "x"})
        with pytest.raises(RelayError) as caught:
            await anext(answer.chunks)
    assert caught.value.fault is Fault.UPSTREAM_ERROR and answer.usage is None


async def murmur(asked: Asked, send: Send) -> None:
    """A frame, then comments without end."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": frames({"response": "x"}), "more_body": True})
    await murmur_on(asked, send)


async def murmur_on(asked: Asked, send: Send) -> None:
    while not asked.gone.is_set():
        await send({"type": "http.response.body", "body": b": x\n\n", "more_body": True})
        await asyncio.sleep(0)  # the server lets go of the loop only for a slow reader


async def murmur_at_once(asked: Asked, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await murmur_on(asked, send)


SPEECH: dict[str, tuple[list[bytes], list[bool]]] = {
    "frames": ([b"data: x\n\n", b"data: y\n\n"], [True, True]),
    "comments": ([b": x\n", b"\n", b":", b"x"], [False] * 4),
    "a long line": ([b"da", b"ta: x", b"y" * 9, b"\n", b": z\n"], [False, True, True, True, False]),
}


@pytest.mark.parametrize(("chunks", "said"), SPEECH.values(), ids=SPEECH)
def test_data_is_speech_and_comments_are_silence(chunks: list[bytes], said: list[bool]) -> None:
    speech = Speech()
    assert [speech.feed(chunk) for chunk in chunks] == said


LIMITS = {
    "before the first frame, but for comments": (Timeouts(first_byte=0.05, idle=DEADLINE), murmur_at_once),
    "between frames, but for comments": (Timeouts(first_byte=DEADLINE, idle=0.05), murmur),
    "before the first byte": (Timeouts(first_byte=0.05, idle=DEADLINE), held(asyncio.Event(), result({}))),
    "before the first frame": (Timeouts(first_byte=0.05, idle=DEADLINE), stream(Step(b"", asyncio.Event()))),
    "between frames": (
        Timeouts(first_byte=DEADLINE, idle=0.05),
        stream(frames({"response": "x"}), Step(b"", asyncio.Event())),
    ),
}


@pytest.mark.parametrize(("timeouts", "script"), LIMITS.values(), ids=LIMITS)
async def test_silence_has_an_end(timeouts: Timeouts, script: Script) -> None:
    async with passing(timeouts=timeouts) as rig:
        rig.cloudflare.script(MODEL, script)
        with pytest.raises(RelayError) as caught:
            await rig.whole()
        assert caught.value.fault is Fault.UPSTREAM_TIMEOUT


async def test_an_upstream_that_is_not_there_is_an_error() -> None:
    async with open_transport(connect_timeout=DEADLINE) as transport:
        account = Account(account_id=ACCOUNT, api_token=TOKEN, base_url="http://127.0.0.1:1")
        native = CloudflareNative(CloudflareCalls(transport, account))
        with pytest.raises(RelayError) as caught:
            async with native.forward("POST", RUN, b"", (), b"", Call("id")):
                raise AssertionError
    assert caught.value.fault is Fault.UPSTREAM_UNREACHABLE


async def test_a_compressed_answer_is_refused_rather_than_misread(rig: Rig) -> None:
    body = gzip.compress(b"{}")
    rig.cloudflare.script(MODEL, answer(500, body, headers={"content-encoding": "gzip"}))
    with pytest.raises(RelayError, match="compressed"):
        await rig.whole()


async def test_a_transport_without_timers_will_do() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "image/png"}, stream=Once())

    native = CloudflareNative(
        CloudflareCalls(httpx.MockTransport(respond), Account(account_id=ACCOUNT, api_token=TOKEN))
    )
    async with native.forward("POST", RUN, "", (), b"", Call("id")) as answer:
        assert [chunk async for chunk in answer.chunks] == [b"\x89PNG"]
