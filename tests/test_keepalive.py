"""Keep-alives: what a waiting client sees, and that they promise nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.cloudflare import USAGE, Script, Step, failure, frames, held, hello, result, stream
from tests.support.raw_http import chat_request, connected, dechunked
from tests.support.relay import MODEL, asking, calling, relaying
from tests.support.simulated_time import simulated
from tests.support.streams import CHAT, broken, chunks, listening, payloads, text_of

INTERVAL = 0.03
FORMS = {"chunk": b'"delta":{}', "comment": b": keep-alive\n\n"}
BOTH = pytest.mark.parametrize("form", FORMS)
TAIL = frames({"response": "", "usage": USAGE}, "[DONE]")


@BOTH
@simulated
async def test_after_one_interval_of_silence_the_answer_is_committed_and_kept_alive(tmp_path: Path, form: str) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL, keepalive_form=form) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, held(release, hello))
        async with listening(client) as listener:
            assert listener.response.status_code == 200
            await listener.until(FORMS[form])
            listener.body = b""
            await listener.until(FORMS[form])  # and again
            release.set()
            parts = chunks(await listener.rest())
    deltas = [part["choices"][0]["delta"] for part in parts]
    words = [delta for delta in deltas[:-1] if delta]
    assert words == [{"role": "assistant", "content": ""}, {"content": "Hello"}, {"content": " there"}]
    assert len({part["id"] for part in parts}) == 1


@BOTH
@simulated
async def test_gaps_are_filled_too(tmp_path: Path, form: str) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL, keepalive_form=form) as rig, calling(rig.url) as client:
        rig.cloudflare.script(
            MODEL, stream(frames({"response": "Hel"}), Step(frames({"response": "lo"}) + TAIL, release))
        )
        async with listening(client) as listener:
            await listener.until(b'"Hel"')
            listener.body = listener.body.partition(b'"Hel"')[2].partition(b"\n\n")[2]
            await listener.until(FORMS[form])
            release.set()
            assert text_of(chunks(await listener.rest())) == "lo"


@BOTH
@simulated
async def test_an_error_after_a_keep_alive_goes_in_band_and_closes_the_connection(tmp_path: Path, form: str) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL, keepalive_form=form) as rig:
        rig.cloudflare.script(MODEL, held(release, failure(403, 5035)))
        async with connected(rig.relay.port) as connection:
            await connection.send(chat_request(asking(stream=True)))
            assert (await connection.head()).status == 200
            begun = await connection.until(FORMS[form])
            release.set()
            body, _ = dechunked(begun + await connection.to_end())
    parts, error = broken(body)
    assert error["code"] == "plan_required" and text_of(parts) == ""


@simulated
async def test_keep_alives_do_not_stand_in_the_way_of_another_try(tmp_path: Path) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, held(release, failure(429, 3040)), hello)
        async with listening(client) as listener:
            await listener.until(FORMS["chunk"])
            release.set()
            assert text_of(chunks(await listener.rest())) == "Hello there"
        assert len(rig.cloudflare.runs) == 2


@BOTH
@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "x-stainless-timeout"])
@pytest.mark.parametrize("mode", ["auto", "synthetic"])
@simulated
async def test_a_client_that_hears_keep_alives_waits_longer_than_its_sdk_says(
    tmp_path: Path, mode: str, name: str, form: str
) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL, keepalive_form=form) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, held(release, hello))
        async with listening(client, headers={name: str(2 * INTERVAL), "x-relay-stream": mode}) as listener:
            for _ in range(4):
                listener.body = b""
                await listener.until(FORMS[form])
            release.set()
            assert text_of(chunks(await listener.rest())) == "Hello there"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "before the first keep-alive"])
@simulated
async def test_a_client_that_hears_nothing_waits_no_longer_than_its_sdk_says(tmp_path: Path, streamed: bool) -> None:
    async with relaying(tmp_path, keepalive=INTERVAL if not streamed else 5) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, held(asyncio.Event(), hello))
        response = await client.post(
            CHAT, json=asking(stream=streamed), headers={"x-stainless-read-timeout": str(2 * INTERVAL)}
        )
        assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("mode", ["auto", "synthetic"])
@simulated
async def test_switched_off_nothing_is_said_before_the_first_event(tmp_path: Path, mode: str) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL, keepalive_form="off") as rig:
        rig.cloudflare.script(MODEL, held(release, failure(403, 5035)))
        async with connected(rig.relay.port) as connection:
            await connection.send(chat_request(asking(stream=True), x_relay_stream=mode))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(8 * INTERVAL):
                    await connection.head()
            release.set()
            head, body = await connection.answer()
    assert head.status == 403 and json.loads(body)["error"]["code"] == "plan_required"


@simulated
async def test_a_synthetic_stream_is_kept_alive_while_the_whole_answer_is_awaited(tmp_path: Path) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL, keepalive_form="comment") as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, held(release, result({"response": "Hi", "usage": USAGE})))
        async with listening(client, headers={"x-relay-stream": "synthetic"}) as listener:
            await listener.until(FORMS["comment"])
            release.set()
            parts = chunks(await listener.rest())
    assert text_of(parts) == "Hi" and len(parts) == 3


@simulated
async def test_a_whole_answer_is_waited_for_in_silence(tmp_path: Path) -> None:
    release = asyncio.Event()
    async with relaying(tmp_path, keepalive=INTERVAL) as rig:
        rig.cloudflare.script(MODEL, held(release, failure(403, 5035)))
        async with connected(rig.relay.port) as connection:
            await connection.send(chat_request(asking()))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4 * INTERVAL):
                    await connection.head()
            release.set()
            assert (await connection.head()).status == 403


@simulated
async def test_a_quick_stream_holds_no_keep_alive(tmp_path: Path) -> None:
    scripts: list[Script] = [hello, stream(frames({"response": "a"}), frames({"response": "b"}) + TAIL)]
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, *scripts)
        for _ in scripts:
            body = (await client.post(CHAT, json=asking(stream=True))).content
            assert FORMS["comment"] not in body
            deltas = [part["choices"][0]["delta"] for part in chunks(body)]
            assert [delta for delta in deltas if not delta] == [{}], "only the stop chunk is empty"
            assert payloads(body)[-1] == "[DONE]"
