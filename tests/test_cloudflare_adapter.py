"""The adapter for Cloudflare at its seam: what goes out, what comes back, what it remembers."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import respx

from adapters.base import Call
from adapters.canonical import ChatEvent, ChatRequest, Delta, Finish, Message, Usage
from adapters.catalogue import load_snapshot
from adapters.cloudflare import Cloudflare, NeedsStream
from adapters.cloudflare_calls import Account, CloudflareCalls, Timeouts, affinity_of
from adapters.errors import Fault, RelayError, StreamUnsupported
from adapters.http import exchange, read_body
from tests.support.cloudflare import ACCOUNT, TOKEN, USAGE, frames
from tests.support.relay import MODEL, OPENAI_MODEL
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

BASE = "https://api.cloudflare.com/client/v4"
URL = f"{BASE}/accounts/{ACCOUNT}/ai/run/{MODEL}"
REQUEST = ChatRequest(model=MODEL, messages=(Message(role="user", content="Hi"),), max_tokens=9)
COUNTED = Usage(prompt_tokens=9, completion_tokens=2, cached_tokens=4)
HELLO = {"result": {"response": "Hello", "usage": USAGE}, "success": True, "errors": [], "messages": []}


class Body(httpx.AsyncByteStream):
    """A body that arrives in pieces; `error` breaks it off. `closed` says whether it was let go."""

    def __init__(self, pieces: Iterable[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.closed = True


class Clock:
    def __init__(self, *when: int) -> None:
        self.now = dt.datetime(*when, tzinfo=dt.UTC).timestamp()  # type: ignore[misc, arg-type]  # year, month, ...

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def router() -> respx.Router:
    return respx.Router(assert_all_called=False)


def adapter(router: respx.Router, **options: Any) -> Cloudflare:
    account = options.pop("account", Account(account_id=ACCOUNT, api_token=TOKEN))
    transport = httpx.MockTransport(router.async_handler)
    return Cloudflare(CloudflareCalls(transport, account, **options), model_of=load_snapshot().resolve)


def failing(status: int, code: int, **headers: str) -> httpx.Response:
    body = {"errors": [{"code": code, "message": "AiError: it failed"}], "success": False, "result": {}}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def event_stream(*pieces: bytes, error: Exception | None = None) -> tuple[httpx.Response, Body]:
    body = Body(pieces, error)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body), body


async def events_of(cloudflare: Cloudflare, request: ChatRequest = REQUEST) -> list[list[ChatEvent]]:
    async with cloudflare.stream_chat(request, Call("id")) as batches:
        return [batch async for batch in batches]


# ---------------------------------------------------------------- what goes out


async def test_a_call_carries_credentials_and_says_who_calls(router: respx.Router) -> None:
    route = router.post(URL).respond(json=HELLO)
    result = await adapter(router, hop="abc", user_agent="relay/1").chat(REQUEST, Call("id"))
    assert (result.choices[0].text, result.usage) == ("Hello", COUNTED)
    sent = route.calls.last.request
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["host"] == "api.cloudflare.com"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["accept-encoding"] == "identity", "a compressed stream would come in lumps"
    assert sent.headers["user-agent"] == "relay/1" and sent.headers["x-relay-hop"] == "abc"
    assert "x-session-affinity" not in sent.headers and "cf-aig-gateway-id" not in sent.headers
    assert json.loads(sent.content) == {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "stream": False,
    }


async def test_a_gateway_and_an_affinity_are_headers(router: respx.Router) -> None:
    route = router.post(URL).respond(json=HELLO)
    account = Account(account_id=ACCOUNT, api_token=TOKEN, gateway="my-gw", gateway_token="gw-secret")
    cloudflare = adapter(router, account=account)
    call = Call("id")
    call.affinity = "conversation-1"
    await cloudflare.chat(REQUEST, call)
    await cloudflare.chat(REQUEST, Call("id"))
    first, second = (entry.request.headers for entry in route.calls)
    assert first["cf-aig-gateway-id"] == second["cf-aig-gateway-id"] == "my-gw"
    assert first["cf-aig-authorization"] == "Bearer gw-secret"
    assert first["x-session-affinity"] == "conversation-1" and "x-session-affinity" not in second


URLS = {
    "an id": (MODEL, f"/ai/run/{MODEL}"),
    "an id with all that ids may hold": ("@cf/acme/A_b-1.5:x+y", "/ai/run/@cf/acme/A_b-1.5%3Ax%2By"),
}


@pytest.mark.parametrize(("model", "path"), URLS.values(), ids=URLS)
async def test_the_models_id_is_the_end_of_the_path(router: respx.Router, model: str, path: str) -> None:
    route = router.post(url__startswith=BASE).respond(json=HELLO)
    for _ in range(2):
        await adapter(router).chat(ChatRequest(model=model, messages=REQUEST.messages), Call("id"))
        assert route.calls.last.request.url.raw_path.decode().endswith(path)


async def test_the_openai_form_asks_for_the_usage_of_its_streams(router: respx.Router) -> None:
    response, _ = event_stream(frames("[DONE]"))
    route = router.post(url__startswith=BASE).mock(return_value=response)
    with pytest.raises(RelayError):
        await events_of(adapter(router), ChatRequest(model=OPENAI_MODEL, messages=REQUEST.messages))
    body = json.loads(route.calls.last.request.content)
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}


def test_what_a_caller_is_recognised_by_says_nothing_about_it() -> None:
    assert affinity_of("ann@example.com") == affinity_of("ann@example.com") != affinity_of("bob@example.com")
    assert "ann" not in affinity_of("ann@example.com")


def test_secrets_are_not_shown() -> None:
    assert TOKEN not in repr(Account(account_id=ACCOUNT, api_token=TOKEN, gateway_token=TOKEN))


# ---------------------------------------------------------------- what comes back


async def test_a_stream_comes_in_the_batches_in_which_it_arrived(router: respx.Router) -> None:
    two = frames({"response": "b"}) + frames({"response": "c"})
    response, body = event_stream(frames({"response": "a"}), two, frames({"response": "", "usage": USAGE}, "[DONE]"))
    router.post(URL).mock(return_value=response)
    assert await events_of(adapter(router)) == [
        [Delta("a")],
        [Delta("b"), Delta("c")],
        [Finish(None, COUNTED)],
    ]
    assert body.closed


async def test_leaving_a_stream_early_lets_its_connection_go(router: respx.Router) -> None:
    response, body = event_stream(frames({"response": "a"}), frames({"response": "b"}))
    router.post(URL).mock(return_value=response)
    async with adapter(router).stream_chat(REQUEST, Call("id")) as batches:
        assert await anext(batches) == [Delta("a")]
        assert not body.closed
    assert body.closed


async def test_what_follows_the_terminator_is_read_so_that_the_connection_lives(router: respx.Router) -> None:
    read: list[bytes] = []

    def pieces() -> Iterable[bytes]:
        for piece in (frames({"response": "a"}), frames("[DONE]"), b"\n"):
            read.append(piece)
            yield piece

    router.post(URL).mock(
        return_value=httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(pieces()))
    )
    await events_of(adapter(router))
    assert len(read) == 3


LOST = {
    "a connect timeout": (httpx.ConnectTimeout("x"), Fault.UPSTREAM_UNREACHABLE),
    "a full pool": (httpx.PoolTimeout("x"), Fault.UPSTREAM_UNREACHABLE),
    "no connection": (httpx.ConnectError("x"), Fault.UPSTREAM_UNREACHABLE),
    "a proxy that fails": (httpx.ProxyError("x"), Fault.UPSTREAM_UNREACHABLE),
    "a read timeout": (httpx.ReadTimeout("x"), Fault.UPSTREAM_TIMEOUT),
    "a write timeout": (httpx.WriteTimeout("x"), Fault.UPSTREAM_TIMEOUT),
    "a cut": (httpx.ReadError("x"), Fault.UPSTREAM_ERROR),
    "nonsense": (httpx.RemoteProtocolError("x"), Fault.UPSTREAM_ERROR),
}


@pytest.mark.parametrize(("error", "fault"), LOST.values(), ids=LOST)
async def test_the_clients_exceptions_are_ours_wherever_they_enter(
    router: respx.Router, error: httpx.TransportError, fault: Fault
) -> None:
    secret = type(error)("POST https://api.cloudflare.com/secret/path failed")
    broken_stream, _ = event_stream(frames({"response": "a"}), error=secret)
    broken_body = httpx.Response(200, headers={"content-type": "application/json"}, stream=Body([b"{"], secret))
    route = router.post(URL)
    for outcome in (secret, broken_body, broken_stream):
        route.mock(side_effect=[outcome])
        with pytest.raises(RelayError) as caught:
            await (
                events_of(adapter(router)) if outcome is broken_stream else adapter(router).chat(REQUEST, Call("id"))
            )
        assert caught.value.fault is fault
        assert "secret" not in caught.value.message


async def test_a_body_past_its_bound_is_refused(router: respx.Router) -> None:
    router.get("https://example.com/").mock(return_value=httpx.Response(200, stream=Body([b"x" * 600, b"x" * 600])))
    transport = httpx.MockTransport(router.async_handler)
    async with exchange(transport, "GET", httpx.URL("https://example.com/"), httpx.Headers()) as response:
        with pytest.raises(RelayError) as caught:
            await read_body(response, 1024)
    assert caught.value.fault is Fault.UPSTREAM_ERROR


async def test_a_call_that_waited_too_long_wants_a_stream(router: respx.Router) -> None:
    router.post(URL).mock(return_value=failing(408, 3046))
    with pytest.raises(NeedsStream) as caught:
        await adapter(router).chat(REQUEST, Call("id"))
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(
    ("answer", "remember"),
    [
        (failing(400, 5023), False),
        (httpx.Response(200, json={"result": {}, "success": True}), True),
        (httpx.Response(200, json={"result": None, "success": True}), True),
        (httpx.Response(200, json={"result": {"response": None}, "success": True}), True),
    ],
    ids=["5023", "{}", "null", "no text"],
)
async def test_what_cannot_be_streamed_says_whether_the_model_is_to_blame(
    router: respx.Router, answer: httpx.Response, remember: bool
) -> None:
    router.post(URL).mock(return_value=answer)
    with pytest.raises(StreamUnsupported) as caught:
        await events_of(adapter(router))
    assert caught.value.remember is remember


async def test_a_whole_answer_to_a_stream_request_is_one_batch(router: respx.Router) -> None:
    router.post(URL).respond(json=HELLO)
    assert await events_of(adapter(router)) == [[Delta("Hello"), Finish(None, COUNTED)]]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("first_byte", "left"), [(0.01, 60.0), (60.0, 0.01), (60.0, -1.0)])
async def test_time_runs_out_by_our_limit_or_by_the_clients(
    router: respx.Router, first_byte: float, left: float, streamed: bool
) -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await anyio.Event().wait()
        raise AssertionError

    router.post(URL).mock(side_effect=hang)
    cloudflare = adapter(router, timeouts=Timeouts(first_byte=first_byte))
    call = Call("id", deadline=time.monotonic() + left)
    with anyio.fail_after(DEADLINE), pytest.raises(RelayError) as caught:
        if streamed:
            async with cloudflare.stream_chat(REQUEST, call):
                pytest.fail("there is nothing to enter")
        else:
            await cloudflare.chat(REQUEST, call)
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT


WAITS = {"5": 5.0, "0": 1.0, "-3": 1.0, "31": 30.0, "86400": 30.0, "inf": 30.0, "nan": 1.0, "2.5": 2.5}


@pytest.mark.parametrize(("told", "seconds"), WAITS.items())
async def test_the_wish_to_wait_is_kept_within_what_clients_obey(
    router: respx.Router, told: str, seconds: float
) -> None:
    router.post(URL).mock(return_value=failing(429, 3040, retry_after=told))
    with pytest.raises(RelayError) as caught:
        await adapter(router).chat(REQUEST, Call("id"))
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    "told", [{}, {"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"retry_after": "soon"}], ids=str
)
async def test_without_a_usable_wish_there_is_none(router: respx.Router, told: dict[str, str]) -> None:
    router.post(URL).mock(return_value=failing(429, 971, **told))
    with pytest.raises(RelayError) as caught:
        await adapter(router).chat(REQUEST, Call("id"))
    assert caught.value.fault is Fault.RATE_LIMITED and caught.value.retry_after is None


# ---------------------------------------------------------------- the day's allocation

SPENT = {"errors": [{"code": 3036, "message": "spent"}], "success": False}
EXHAUSTED = {
    "as a status": failing(429, 3036),
    "by its other code": failing(429, 4006),
    "in the body of a success": httpx.Response(200, json=SPENT),
    "in a stream's first frame": httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=frames(SPENT)
    ),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", EXHAUSTED.values(), ids=EXHAUSTED)
async def test_a_spent_account_rests_until_midnight_utc(
    router: respx.Router, answer: httpx.Response, streamed: bool
) -> None:
    clock = Clock(2026, 12, 31, 22, 30)
    route = router.post(URL).mock(side_effect=[answer, httpx.Response(200, json=HELLO)])
    cloudflare = adapter(router, now=clock)

    async def ask() -> None:
        await (events_of(cloudflare) if streamed else cloudflare.chat(REQUEST, Call("id")))

    for minutes in (0, 89):
        clock.now = Clock(2026, 12, 31, 22, 30).now + 60 * minutes
        with pytest.raises(RelayError) as caught:
            await ask()
        assert caught.value.fault is Fault.QUOTA_EXHAUSTED and "00:00 UTC" in caught.value.message
        assert route.call_count == 1
    clock.now = Clock(2027, 1, 1).now
    await ask()
    assert route.call_count == 2


async def test_other_accounts_do_not_rest(router: respx.Router) -> None:
    router.post(URL).mock(return_value=failing(429, 3036))
    other = "f" * 32
    router.post(URL.replace(ACCOUNT, other)).respond(json=HELLO)
    with pytest.raises(RelayError):
        await adapter(router).chat(REQUEST, Call("id"))
    await adapter(router, account=Account(account_id=other, api_token=TOKEN)).chat(REQUEST, Call("id"))


async def test_a_rate_limit_is_no_reason_to_rest(router: respx.Router) -> None:
    route = router.post(URL).mock(side_effect=[failing(429, 3040), httpx.Response(200, json=HELLO)])
    cloudflare = adapter(router)
    with pytest.raises(RelayError):
        await cloudflare.chat(REQUEST, Call("id"))
    await cloudflare.chat(REQUEST, Call("id"))
    assert route.call_count == 2


async def test_strict_mode_refuses_before_anything_is_sent(router: respx.Router) -> None:
    route = router.post(URL).respond(json=HELLO)
    request = ChatRequest(model=MODEL, messages=REQUEST.messages, presence_penalty=-1, unknown=("extra",))
    call = Call("id")
    await adapter(router).chat(request, call)
    assert list(map(str, call.changes)) == ["presence_penalty=clamped", "extra=ignored"]
    with pytest.raises(RelayError) as caught:
        await adapter(router).chat(request, Call("id", strict=True))
    assert (caught.value.param, route.call_count) == ("presence_penalty", 1)


class Pinging(httpx.AsyncByteStream):
    """One frame, then comments for ever."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'data: {"response":"Hi"}\n\n'
        while True:
            await anyio.lowlevel.checkpoint()
            yield b": ping\n\n"


async def test_comments_are_silence(router: respx.Router) -> None:
    router.post(URL).respond(stream=Pinging(), headers={"content-type": "text/event-stream"})
    upstream = adapter(router, timeouts=Timeouts(idle=0.05))
    with pytest.raises(RelayError) as caught:
        async with upstream.stream_chat(REQUEST, Call("id")) as batches:
            async for _ in batches:
                pass
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT


# ---------------------------------------------------------------- whole answers of models that stream regardless


class Endless(httpx.AsyncByteStream):
    """One frame, then another for ever. `closed` says whether it was let go."""

    def __init__(self, first: bytes) -> None:
        self._first = first
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        while True:
            await anyio.lowlevel.checkpoint()
            yield frames({"response": "x"})

    async def aclose(self) -> None:
        self.closed = True


CUT = ChatRequest(model=MODEL, messages=REQUEST.messages, stop=("END",))


@pytest.mark.parametrize(("first_byte", "left"), [(0.05, 60.0), (60.0, 0.05)])
async def test_a_whole_answer_has_one_limit_though_its_model_streams(
    router: respx.Router, first_byte: float, left: float
) -> None:
    body = Endless(frames({"response": "a"}))
    router.post(URL).respond(stream=body, headers={"content-type": "text/event-stream"})
    cloudflare = adapter(router, timeouts=Timeouts(first_byte=first_byte))
    with anyio.fail_after(DEADLINE), pytest.raises(RelayError) as caught:
        await cloudflare.chat(REQUEST, Call("id", deadline=time.monotonic() + left))
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT
    assert body.closed


async def test_a_stop_shortens_a_whole_answer_though_its_model_streams(
    router: respx.Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.answer.USAGE_PATIENCE", 0.02)
    body = Endless(frames({"response": "one END two"}))
    router.post(URL).respond(stream=body, headers={"content-type": "text/event-stream"})
    with anyio.fail_after(DEADLINE):
        result = await adapter(router).chat(CUT, Call("id"))
    (choice,) = result.choices
    assert (choice.text, choice.finish_reason) == ("one ", "stop")
    assert result.usage is not None and result.usage.estimated
    assert body.closed


async def test_the_usage_of_a_whole_answer_that_was_cut_is_waited_for(router: respx.Router) -> None:
    response, _ = event_stream(
        *(frames({"response": text}) for text in ("one E", "ND", " two")),
        frames({"response": "", "usage": USAGE}, "[DONE]"),
    )
    router.post(URL).mock(return_value=response)
    result = await adapter(router).chat(CUT, Call("id"))
    assert (result.choices[0].text, result.usage) == ("one ", COUNTED)


async def test_an_error_never_repeats_the_token(router: respx.Router) -> None:
    router.post(URL).respond(400, json={"errors": [{"code": 5006, "message": f"bad header {TOKEN}"}]})
    with pytest.raises(RelayError) as caught:
        await adapter(router).chat(REQUEST, Call("id"))
    assert TOKEN not in caught.value.message
