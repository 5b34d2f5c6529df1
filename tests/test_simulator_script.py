"""Scripts and rules: what can be said, what is refused and how, which request gets which script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Call
from adapters.canonical import (
    Change,
    ChatRequest,
    Delta,
    EmbeddingRequest,
    Finish,
    Message,
    NativeResult,
    Usage,
)
from adapters.catalogue import Model, load_snapshot
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.simulator.chat import SIMULATOR_MODEL, Simulator
from adapters.simulator.director import Director
from adapters.simulator.plan import Piece, Plan
from adapters.simulator.rules import Match, Playbook, Rule, RulesError, parse_playbook, read_playbook
from adapters.simulator.script import AS_USUAL, HEADER, GivenCall, GivenUsage, Script, ScriptedError, parse_header
from adapters.simulator.scripted import ScriptedChat, ScriptedTasks, directed, texts_within
from adapters.simulator.tasks import SimulatedTasks
from adapters.wire.native import inputs
from adapters.wire.native.results import Score, Scores
from proxy.settings import SettingsError, load_settings
from tests.support.relay import settings_for
from tests.support.simulated_time import simulated

pytestmark = pytest.mark.anyio

CATALOGUE = load_snapshot().with_models([SIMULATOR_MODEL])
LLAMA = CATALOGUE.resolve("llama-3.2-1b-instruct")
BART = CATALOGUE.resolve("bart-large-cnn")
SD = CATALOGUE.resolve("stable-diffusion-xl-base-1.0")
BGE = CATALOGUE.resolve("bge-small-en-v1.5")
BGE_M3 = CATALOGUE.resolve("bge-m3")
DISTILBERT = CATALOGUE.resolve("distilbert-sst-2-int8")
SUMMARY = inputs.SummaryInputs("a")
SCORING = inputs.EmbeddingOrScoreInputs(query="a", contexts=[inputs.Context("b")])

# ---------------------------------------------------------------- the header

HEADERS = {
    "a code": (b"error=3036", Script(error=3036)),
    "a code without a fault of its own": (b"error=3043", Script(error=3043)),
    "a code without a status of its own": (b"error=5012", Script(error=5012)),
    "several": (b" delay=1.5;rate = 20 ; cut=3; ", Script(delay=1.5, rate=20, cut=3)),
    "a quoted text": (b'text="Hello; \\"you\\"\\n"; hang=0', Script(text='Hello; "you"\n', hang=0)),
    "a bare text": (b"text=Hello there ; malformed=1", Script(text="Hello there", malformed=1)),
    "a bare text that looks like a number": (b"text=42", Script(text="42")),
    "an empty text": (b'text=""', Script(text="")),
    "letters of any script": ('text="Gr\u00fc\u00dfe"'.encode(), Script(text="Gr\u00fc\u00dfe")),
    "a surrogate that comes alone": (b'text="\\ud800"', Script(text="\ufffd")),
    "calls": (
        b'tool_calls=[{"name":"f","arguments":{"a":[1]}}]; finish_reason=stop',
        Script(tool_calls=[GivenCall("f", {"a": [1]})], finish_reason="stop"),
    ),
    "a result": (b'result={"summary":"Hi"}', Script(result={"summary": "Hi"})),
    "usage": (b'usage={"prompt_tokens":1}', Script(usage=GivenUsage(1, 0))),
    "an unknown code": (
        b"error=777; status=503; message=Out of luck",
        Script(error=777, status=503, message="Out of luck"),
    ),
    "an object": (b' {"error": 3040, "delay": 2}', Script(error=3040, delay=2)),
    "an object with a null": (b'{"error": 3040, "cut": null}', Script(error=3040)),
}


@pytest.mark.parametrize(("header", "script"), HEADERS.values(), ids=HEADERS)
def test_a_header_is_a_script(header: bytes, script: Script) -> None:
    assert parse_header(header) == script


REFUSED = {
    "nothing": (b"", "it says nothing"),
    "an empty object": (b"{}", "it says nothing"),
    "no key": (b"3036", "expected key=value"),
    "no value": (b"cut=", "'cut' has no value"),
    "an empty value before another": (b"cut=;hang=1", "'cut' has no value"),
    "a key twice": (b"cut=1; cut=2", "'cut' is there twice"),
    "no semicolon": (b'text="a" cut=1', "a semicolon is missing after the value of 'text'"),
    "an unknown key": (b"eror=3036", "there is no key 'eror'; known are cut,"),
    "an unknown key of a call": (b'tool_calls=[{"nme":"f"}]', "'tool_calls' has to be a list of calls"),
    "no code": (b"error=soon", "'error' has to be a code of Cloudflare's"),
    "an unknown code": (
        b"error=303",
        "'error' is 303, no code of Cloudflare's that is known; give its 'status' too, or one of 971, 1000, 1001,",
    ),
    "a status alone": (b"status=500", "'status' has no meaning without 'error'"),
    "a message alone": (b"message=Oh", "'message' has no meaning without 'error'"),
    "a status that is none": (b"error=3036; status=200", "'status' has to be an HTTP status from 400 to 599"),
    "an error with an answer": (b"error=3036; text=Hi", "'error' cannot be combined with 'text'"),
    "an error with a cut": (b"cut=1; error=3036", "'error' cannot be combined with 'cut'"),
    "two troubles": (b"hang=1; cut=1", "'cut' cannot be combined with 'hang'"),
    "two other troubles": (b"hang=1; malformed=1", "'malformed' cannot be combined with 'hang'"),
    "answers of two kinds": (b"result=[]; text=Hi", "'result' cannot be combined with 'text'"),
    "a negative delay": (b"delay=-1", "'delay' has to be a number of seconds from 0 to 3600"),
    "a delay without end": (b"delay=inf", "'delay' has to be a number of seconds from 0 to 3600"),
    "no rate": (b"rate=0", "'rate' has to be a number of tokens per second above 0"),
    "a rate that is none": (b"rate=nan", "'rate' has to be"),
    "the chunk before the first": (b"malformed=0", "'malformed' has to be the number of a chunk, from 1"),
    "broken JSON": (b'result={"a":', "the value of 'result' is no JSON"),
    "a number that JSON does not have": (b"result=[NaN]", "the value of 'result' is no JSON"),
    "nested beyond reason": (b"result=" + b"[" * 20_000, "the value of 'result' is no JSON"),
    "a broken object": (b'{"a":', "it begins like a JSON object and is none"),
    "text for a number in an object": (b'{"cut": "1"}', "'cut' has to be a number of chunks from 0"),
    "not UTF-8": (b'text="\xff"', "it has to be UTF-8"),
}


@pytest.mark.parametrize(("header", "words"), REFUSED.values(), ids=REFUSED)
def test_a_header_that_cannot_be_followed_is_refused_by_key(header: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_header(header)
    assert caught.value.param == HEADER
    assert words in caught.value.message


KEYS = st.sampled_from([*Script.__struct_fields__, "eror", ""])
PAIRS = st.tuples(KEYS, st.one_of(st.text(max_size=10), st.integers().map(str), st.floats().map(str))).map("=".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
ANY_HEADER = st.one_of(
    st.binary(max_size=60),
    st.lists(PAIRS, max_size=4).map("; ".join).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.dictionaries(KEYS, JSON, max_size=4).map(lambda value: json.dumps(value).encode()),
)


@given(ANY_HEADER)
def test_any_header_is_a_script_or_a_precise_error(header: bytes) -> None:
    try:
        script = parse_header(header)
    except InvalidRequest as exc:
        assert exc.param == HEADER
        assert len(exc.message) < 500 and exc.message.endswith(".")
    else:
        assert parse_header(json.dumps(_plain(script)).encode()) == script


def _plain(script: Script) -> dict[str, Any]:
    """All of the script, one key at least."""
    return {"text": None, **{key: value for key, value in msgspec.to_builtins(script).items() if value is not None}}


# ---------------------------------------------------------------- the errors that a script asks for

ERRORS = {
    "a day's allocation": (Script(error=3036), Fault.QUOTA_EXHAUSTED, 3036),
    "an upstream's own trouble": (Script(error=3043), Fault.UPSTREAM_ERROR, 3043),
    "our credentials": (Script(error=10000), Fault.UPSTREAM_AUTH, 10000),
    "an unknown code, by its status": (Script(error=777, status=429), Fault.RATE_LIMITED, 777),
    "a code beats its status": (Script(error=3036, status=500), Fault.QUOTA_EXHAUSTED, 3036),
}


@pytest.mark.parametrize(("script", "fault", "code"), ERRORS.values(), ids=ERRORS)
def test_a_scripted_error_means_what_cloudflares_means(script: Script, fault: Fault, code: int) -> None:
    error = scripted(script)
    assert (error.fault, error.upstream_code) == (fault, code)


# Script, what Cloudflare says with it, and its status.
TOLD = {
    "a model": (Script(error=5007), f"No such model {LLAMA.id} or task", 400),
    "a limit": (Script(error=5021), f"maximum context length of {LLAMA.context_window} tokens.", 400),
    "the end of a model that has none": (Script(error=5028), f"deprecated: {LLAMA.id} was deprecated.", 410),
    "the backend's own words": (Script(error=5012), '{"object":"error"', 500),
    "another status": (Script(error=5012, status=422), '{"object":"error"', 422),
    "an unknown code": (Script(error=777, status=418), "Workers AI failed to answer.", 418),
}


@pytest.mark.parametrize(("script", "words", "status"), TOLD.values(), ids=TOLD)
def test_a_scripted_error_has_the_words_of_its_code(script: Script, words: str, status: int) -> None:
    error = scripted(script)
    assert words in error.told
    assert (error.status, error.words) == (status, None)


def test_a_retired_model_is_told_when_it_ended() -> None:
    retired = msgspec.structs.replace(LLAMA, retired_on="2026-05-30")
    error = ScriptedError(Script(error=5028), 5028, retired)
    assert error.told.endswith("was deprecated on 2026-05-30.") and error.message == error.told


def test_a_script_may_have_words_of_its_own() -> None:
    error = scripted(Script(error=8001, message="Out of luck"))
    assert (error.words, error.told, error.message) == ("Out of luck", "Invalid input", "Out of luck")


def scripted(script: Script) -> ScriptedError:
    assert script.error is not None
    return ScriptedError(script, script.error, LLAMA)


# ---------------------------------------------------------------- rules

RULES = """
allocation = 12.5
[[rules]]
match = { model = "llama-*", task = "text generation", contains = "Rain", pattern = "^Will", stream = true }
after = 1
times = 2
error = 3040
[[rules]]
result = [[1]]
"""
PLAYBOOK = Playbook(
    allocation=12.5,
    rules=(
        Rule(
            match=Match(model="llama-*", task="text generation", contains="Rain", pattern="^Will", stream=True),
            after=1,
            times=2,
            error=3040,
        ),
        Rule(result=[[1]]),
    ),
)


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "with a byte-order mark"])
def test_rules_are_read_from_toml(start: str) -> None:
    assert parse_playbook((start + RULES).encode()) == PLAYBOOK


def test_rules_are_read_from_json(tmp_path: Path) -> None:
    file = tmp_path / "rules.JSON"
    match = {"model": "llama-*", "task": "text generation", "contains": "Rain", "pattern": "^Will", "stream": True}
    rules = [{"match": match, "after": 1, "times": 2, "error": 3040}, {"result": [[1]]}]
    file.write_text(json.dumps({"allocation": 12.5, "rules": rules}))
    assert read_playbook(file) == PLAYBOOK


WRONG_RULES = {
    "no TOML": ("[[rules]]\nerror 3036", ["it has to be TOML: ", "line 2"]),
    "not UTF-8": (b"\xff", ["it has to be UTF-8"]),
    "nested beyond reason": ("x=" + "[" * 5000, ["it has to be TOML"]),
    "an unknown key": ("rule = []", ["there is no key 'rule'; known are allocation, rules"]),
    "one table": ("[rules]\nerror=3036", ["'rules' has to be a list: write [[rules]]"]),
    "a negative allocation": ("allocation = -1", ["'allocation' has to be a number of neurons from 0"]),
    "an allocation that is none": ("allocation = true", ["'allocation' has to be"]),
    "no table": ("rules = [1]", ["rule 1: it has to be a table of keys and values"]),
    "the second": ("[[rules]]\n[[rules]]\nerror='x'", ["rule 2: 'error' has to be a code of Cloudflare's"]),
    "an unknown key in one": ("[[rules]]\neror=1", ["rule 1: there is no key 'eror'; known are after, cut"]),
    "keys that exclude each other": ("[[rules]]\nerror=3036\ncut=1", ["rule 1: 'error' cannot be combined with 'cut'"]),
    "no times": ("[[rules]]\ntimes=0", ["rule 1: 'times' has to be a whole number from 1"]),
    "match is no table": ("[[rules]]\nmatch='x'", ["rule 1: 'match' has to be a table of conditions"]),
    "an unknown condition": ("[[rules]]\nmatch={a=1}", ["rule 1: in 'match': there is no key 'a'; known are contains"]),
    "a condition of another type": ("[[rules]]\nmatch={stream='yes'}", ["rule 1: in 'match': 'stream' has to be true"]),
    "a task that is none": (
        "[[rules]]\nmatch={task='chat'}",
        ["rule 1: in 'match': 'task' has to be one of Automatic"],
    ),
    "no pattern": (
        "[[rules]]\nmatch={pattern='('}",
        ["rule 1: in 'match': 'pattern' has to be a regular expression ("],
    ),
}


@pytest.mark.parametrize(("content", "words"), WRONG_RULES.values(), ids=WRONG_RULES)
def test_wrong_rules_are_named(content: str | bytes, words: list[str]) -> None:
    with pytest.raises(RulesError) as caught:
        parse_playbook(content.encode() if isinstance(content, str) else content)
    (problem,) = caught.value.problems
    assert all(word in problem for word in words)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_json_that_holds_no_rules_is_refused(content: str) -> None:
    with pytest.raises(RulesError, match="it has to be"):
        parse_playbook(content.encode(), as_json=True)


def test_all_wrong_rules_are_told_at_once() -> None:
    with pytest.raises(RulesError) as caught:
        parse_playbook(b"[[rules]]\nerror=1\n[[rules]]\ncut=1\n[[rules]]\ncut=-1")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["rule 1", "rule 3"]


MATCHES = {
    "everything": (Match(), "Hello", False, True),
    "an id": (Match(model=LLAMA.id), "", False, True),
    "a part of an id": (Match(model="@cf/META/*-1b-*"), "", False, True),
    "a short name": (Match(model="llama-3.2-?b-instruct"), "", False, True),
    "another model": (Match(model="llama"), "", False, False),
    "the task": (Match(task="text generation"), "", False, True),
    "another task": (Match(task="Translation"), "", False, False),
    "a text in any case": (Match(contains="RAIN"), "Will it rain?", False, True),
    "a text that is not there": (Match(contains="snow"), "Will it rain?", False, False),
    "a pattern": (Match(pattern=r"\brain\W$"), "Will it rain?", False, True),
    "a pattern that is not there": (Match(pattern=r"^rain"), "Will it rain?", False, False),
    "a stream": (Match(stream=True), "", True, True),
    "no stream": (Match(stream=True), "", False, False),
    "all conditions": (Match(stream=False, contains="rain", pattern="snow"), "rain", False, False),
}


@pytest.mark.parametrize(("match", "said", "stream", "holds"), MATCHES.values(), ids=MATCHES)
def test_conditions_hold_or_do_not(match: Match, said: str, stream: bool, holds: bool) -> None:
    assert match.holds(LLAMA, [said], stream) is holds


# ---------------------------------------------------------------- who gets which script


def script_of(director: Director, model: Model = LLAMA, *said: str, header: Script | None = None) -> Script:
    call = Call("test")
    call.script = header
    return director.scene(call, model, said, stream=False).script


def directing(rules: str, **options: Any) -> Director:
    return Director(parse_playbook(rules.encode()), **options)


def test_the_first_rule_that_fits_counts_and_then_the_next() -> None:
    director = directing(
        "[[rules]]\nmatch={contains='a'}\ntimes=2\nafter=1\ncut=1\n[[rules]]\nmatch={contains='a'}\ncut=2"
    )
    assert [script_of(director, LLAMA, said).cut for said in "abaaa"] == [2, None, 1, 1, 2]


def test_without_a_rule_that_fits_all_is_as_usual() -> None:
    assert script_of(directing("[[rules]]\nmatch={contains='a'}\ncut=1"), LLAMA, "b") == AS_USUAL
    assert script_of(Director()) == AS_USUAL


def test_answers_of_a_kind_are_for_models_of_that_kind() -> None:
    director = directing("[[rules]]\ntext='Hi'\n[[rules]]\nresult={summary='Hi'}")
    assert script_of(director, LLAMA).text == "Hi"
    assert script_of(director, BART).result == {"summary": "Hi"}


def test_a_header_beats_the_rules_and_does_not_count() -> None:
    director = directing("allocation=0\n[[rules]]\ntimes=1\ncut=1")
    assert script_of(director, header=Script(hang=1)).hang == 1
    assert script_of(director).error == 3036


@pytest.mark.parametrize(
    ("model", "script", "words"),
    [
        (LLAMA, Script(result={}), "'result' gives no answer of the model '@cf/meta/llama-3.2-1b-instruct'; 'text'"),
        (BART, Script(text="Hi"), "'text' gives no answer of the model '@cf/facebook/bart-large-cnn'; 'result' does"),
        (BART, Script(finish_reason="stop"), "'finish_reason' gives no answer"),
    ],
)
def test_a_header_for_another_kind_of_model_is_refused(model: Model, script: Script, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        script_of(Director(), model, header=script)
    assert caught.value.param == HEADER


def test_one_request_is_decided_once_a_model() -> None:
    director = directing("[[rules]]\ntimes=1\ncut=1")
    call = Call("test")
    first = director.scene(call, LLAMA, (), stream=False)
    assert director.scene(call, LLAMA, (), stream=False) is first and first.script.cut == 1 and first.scripted
    assert not director.scene(call, BART, (), stream=False).scripted


def test_an_allocation_is_used_up_until_midnight_utc() -> None:
    now = [86_400.0 * 20_000 + 80_000]
    director = directing("allocation=5", now=lambda: now[0])
    assert script_of(director) == AS_USUAL
    director.spend(LLAMA, Usage(neurons=4.9))
    assert script_of(director) == AS_USUAL
    director.spend(LLAMA, Usage(neurons=0.1))
    assert script_of(director).error == 3036
    now[0] += 6399
    assert script_of(director).error == 3036
    now[0] += 1
    assert script_of(director) == AS_USUAL


# ---------------------------------------------------------------- playing

HI = Plan((Piece(Delta("Hello"), 0.1), Piece(Delta(" there"), 0.2)), Finish("stop", Usage(prompt_tokens=1)))
TIMES = {
    "as usual": (AS_USUAL, [0.1, 0.2]),
    "a delay": (Script(delay=3), [3, 0.2]),
    "no delay": (Script(delay=0), [0, 0.2]),
    "a rate": (Script(rate=4), [0.1, 0.25]),
    "both": (Script(delay=3, rate=0.5), [3, 2]),
}


@pytest.mark.parametrize(("script", "delays"), TIMES.values(), ids=TIMES)
def test_a_script_sets_the_time(script: Script, delays: list[float]) -> None:
    assert [piece.delay for piece in directed(HI, script).pieces] == delays


def test_an_answer_without_words_takes_its_time_too() -> None:
    assert directed(Plan((), HI.finish), Script(delay=2)).pieces == (Piece(Delta(), 2),)
    assert directed(Plan((), HI.finish), AS_USUAL).pieces == ()


def test_a_script_names_the_end() -> None:
    script = Script(finish_reason="content_filter", usage=GivenUsage(7, 8))
    usage = Usage(prompt_tokens=7, completion_tokens=8)
    assert directed(HI, script).finish == Finish("content_filter", usage)
    assert directed(HI, AS_USUAL).finish == HI.finish


def test_the_texts_of_any_input_are_found() -> None:
    asked = inputs.EmbeddingOrScoreInputs(query="a", contexts=[inputs.Context("b"), inputs.Context("c")])
    assert list(texts_within([asked])) == ["a", "b", "c"]


def chats(director: Director) -> ScriptedChat:
    return ScriptedChat(Simulator(CATALOGUE, pace=0), director)


def tasks(director: Director) -> ScriptedTasks:
    simulated = SimulatedTasks(lambda: CATALOGUE, allow_retired=True)
    return ScriptedTasks(simulated, simulated, director, model_of=CATALOGUE.resolve)


def calling(header: str = "", *, native: bool = False) -> Call:
    call = Call("test")
    call.script = parse_header(header.encode()) if header else None
    call.native = native
    return call


def ask(said: str = "Hello", **fields: Any) -> ChatRequest:
    return ChatRequest(model=LLAMA.id, messages=(Message(role="user", content=said),), **fields)


async def test_a_chat_answers_what_it_is_given() -> None:
    call = calling('text="Hi"; tool_calls=[{"name":"f","arguments":{"a":1}}]; usage={"prompt_tokens":3}')
    result = await chats(Director()).chat(ask(), call)
    (choice,) = result.choices
    assert choice.text == "Hi"
    assert [(c.name, c.arguments) for c in choice.tool_calls] == [("f", '{"a":1}')]
    assert choice.finish_reason == "tool_calls"
    assert result.usage == Usage(prompt_tokens=3)
    assert (call.upstream, call.changes) == ("simulator", ())


async def test_max_tokens_cuts_a_given_answer() -> None:
    (choice,) = (await chats(Director()).chat(ask(max_tokens=1), calling('text="Hello there"'))).choices
    assert (choice.text, choice.finish_reason) == ("Hello", "length")


async def test_a_rule_is_matched_by_what_was_said_last() -> None:
    director = directing("[[rules]]\nmatch={contains='rain'}\ntext='Yes.'")
    (choice,) = (await chats(director).chat(ask("Will it rain?"), calling())).choices
    assert choice.text == "Yes."


async def test_answers_use_the_allocation_up() -> None:
    chat = chats(directing("allocation=0.0001"))
    await chat.chat(ask(), calling())
    with pytest.raises(ScriptedError) as caught:
        await chat.chat(ask(), calling())
    assert caught.value.fault is Fault.QUOTA_EXHAUSTED


async def test_models_that_the_simulator_does_not_answer_for_fail_as_ever() -> None:
    request = ChatRequest(model=BART.id, messages=())
    with pytest.raises(InvalidRequest, match="no chat model"):
        await chats(Director()).chat(request, calling("error=3036"))


WHOLE = {
    "a cut": ("cut=1", Fault.UPSTREAM_ERROR, "The connection to the upstream broke."),
    "nonsense": ("malformed=1", Fault.UPSTREAM_ERROR, "not JSON"),
    "a hang": ("hang=0", Fault.UPSTREAM_TIMEOUT, "did not answer in time"),
    "a delay beyond the limit": ("delay=10", Fault.UPSTREAM_TIMEOUT, "did not answer in time"),
    "an error": ("error=3040; delay=0.001", Fault.RATE_LIMITED, "rate limiting"),
    "an error that comes too late": ("error=3040; delay=10", Fault.UPSTREAM_TIMEOUT, "did not answer in time"),
}


@pytest.mark.parametrize(("header", "fault", "words"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("task", ["chat", "embeddings", "another task"])
async def test_whole_answers_go_wrong(task: str, header: str, fault: Fault, words: str) -> None:
    director = Director(first_byte=0.01)
    with pytest.raises(RelayError, match=words) as caught:
        if task == "chat":
            await chats(director).chat(ask(), calling(header))
        elif task == "embeddings":
            await tasks(director).embed(EmbeddingRequest(model=BGE.id, texts=("a",)), calling(header))
        else:
            await tasks(director).run(BART, inputs.SummaryInputs("a"), calling(header))
    assert caught.value.fault is fault


@pytest.mark.parametrize("trouble", ["cut", "malformed"])
async def test_on_the_native_wire_the_bytes_of_a_whole_answer_are_spoiled(trouble: str) -> None:
    for work in (
        lambda call: chats(Director()).chat(ask(), call),
        lambda call: tasks(Director()).run(BART, inputs.SummaryInputs("a"), call),
    ):
        call = calling(f"{trouble}=1", native=True)
        await work(call)
        assert call.scene is not None and call.scene.spoil == trouble


STREAMS = {
    "a cut": ("cut=1", ["Hello"], Fault.UPSTREAM_ERROR, "ended the stream before"),
    "a cut at once": ("cut=0", [], Fault.UPSTREAM_ERROR, "ended the stream before"),
    "a cut after all": ("cut=9", ["Hello", " there"], Fault.UPSTREAM_ERROR, "ended the stream before"),
    "nonsense": ("malformed=2", ["Hello"], Fault.UPSTREAM_ERROR, "a frame that cannot be read"),
    "a hang": ("hang=1", ["Hello"], Fault.UPSTREAM_TIMEOUT, "fell silent in the middle"),
    "a hang at once": ("hang=0", [], Fault.UPSTREAM_TIMEOUT, "did not answer in time"),
    "slower than patience": ("rate=0.01", ["Hello"], Fault.UPSTREAM_TIMEOUT, "fell silent in the middle"),
}


@pytest.mark.parametrize(("header", "texts", "fault", "words"), STREAMS.values(), ids=STREAMS)
@simulated
async def test_streams_go_wrong(header: str, texts: list[str], fault: Fault, words: str) -> None:
    director = Director(first_byte=0.01, idle=0.01)
    seen = []
    with pytest.raises(RelayError, match=words) as caught:
        async with chats(director).stream_chat(ask(), calling(f'text="Hello there"; {header}')) as batches:
            async for batch in batches:
                seen += [event.text for event in batch if isinstance(event, Delta)]
    assert (seen, caught.value.fault) == (texts, fault)


@pytest.mark.parametrize(
    ("header", "spoiled"),
    [("cut=1", " there"), ("malformed=1", "Hello"), ("malformed=9", None), ("hang=9", None)],
)
async def test_on_the_native_wire_the_answer_goes_on(header: str, spoiled: str | None) -> None:
    call = calling(f'text="Hello there"; {header}', native=True)
    first = None
    async with chats(Director()).stream_chat(ask(), call) as batches:
        async for batch in batches:
            if call.scene is not None and call.scene.spoil and first is None:
                first = batch[0]
    assert first is not None
    assert first.text == spoiled if isinstance(first, Delta) else spoiled is None


async def test_other_tasks_answer_what_they_are_given() -> None:
    call = calling('result={"summary":"Short."}; usage={"completion_tokens":2}')
    result = await tasks(Director()).run(BART, inputs.SummaryInputs("A long text."), call)
    assert isinstance(result, NativeResult) and result.value.summary == "Short."
    assert result.usage == Usage(completion_tokens=2)


async def test_embeddings_answer_what_they_are_given() -> None:
    request = EmbeddingRequest(model=BGE.id, texts=("a",))
    result = await tasks(Director()).embed(request, calling('result={"data":[[1,0.5]]}'))
    assert result.vectors == [[1, 0.5]]
    assert len((await tasks(Director()).embed(request, calling())).vectors[0]) == 384


async def test_a_rule_is_matched_by_the_texts_of_a_task() -> None:
    director = directing("[[rules]]\nmatch={contains='rain'}\nresult={summary='Wet.'}")
    work = tasks(director)
    told = [(await work.run(BART, inputs.SummaryInputs(said), calling())).value.summary for said in ("Rain!", "Sun!")]
    assert told[0] == "Wet." and told[1] != "Wet."


@pytest.mark.parametrize(
    ("model", "asked", "result", "param", "words"),
    [
        (SD, inputs.DiffusionInputs("a", width=256, height=256), "{}", "result", "answers with bytes"),
        (BART, SUMMARY, '{"text":1}', "result.summary", "Missing required parameter: 'result.summary' (a string)."),
        (BART, SUMMARY, '{"summary":1}', "result.summary", "expected a string, but got an integer instead."),
        (BART, SUMMARY, "[]", "result", "Invalid type for 'result': expected an object, but got an array instead."),
        (
            DISTILBERT,
            inputs.TextInputs("a"),
            '[{"label":"A","score":1},{"label":"B","score":"x"}]',
            "result[1].score",
            "expected a number, but got a string instead.",
        ),
        (BGE_M3, SCORING, '{"response":[{"id":0}]}', "result.response[0].score", "(a number)."),
        (BGE_M3, SCORING, '{"response":[[1]],"shape":[1,"x"]}', "result.shape[1]", "expected an integer, but got a s"),
        (BGE_M3, SCORING, "5", "result", "expected an object, but got a string instead."),
    ],
)
async def test_a_result_of_another_form_is_refused_by_its_path(
    model: Model, asked: Any, result: str, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await tasks(Director()).run(model, asked, calling(f"result={result}"))
    assert caught.value.param == param
    assert caught.value.message.startswith("The script's 'result' does not fit")
    assert words in caught.value.message


async def test_a_result_of_several_kinds_is_the_one_that_its_keys_tell() -> None:
    result = await tasks(Director()).run(BGE_M3, SCORING, calling('result={"response":[{"id":0,"score":1}]}'))
    assert result.value == Scores([Score(0, 1)])


@pytest.mark.parametrize(
    ("result", "param", "words"),
    [
        ("[1]", "result", "expected an object, but got an array instead."),
        ('{"data":[[1],["x"]]}', "result.data[1][0]", "expected a number, but got a string instead."),
    ],
)
async def test_vectors_that_are_none_are_refused_by_their_path(result: str, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await tasks(Director()).embed(EmbeddingRequest(model=BGE.id, texts=("a",)), calling(f"result={result}"))
    assert caught.value.param == param
    assert words in caught.value.message


def test_a_script_that_nobody_plays_is_ignored_and_said_to_be() -> None:
    call = calling("error=3036")
    call.accept("cloudflare", ())
    assert call.changes == (Change(HEADER, "ignored"),)


# ---------------------------------------------------------------- the setting


def test_a_file_of_rules_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    settings = settings_for(tmp_path, script="rules.toml")
    assert settings.script == tmp_path / "rules.toml"
    assert settings.warnings == ()


def test_beside_cloudflare_it_has_little_to_say(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (warning,) = settings_for(tmp_path, "http://127.0.0.1:1", script="rules.toml").warnings
    assert warning.startswith("--script is for the simulator")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[rules]]\ncut=-1", "rule 1: 'cut' has to be a number of chunks from 0"),
        (None, "it cannot be read (No such file"),
    ],
)
def test_a_wrong_file_is_a_wrong_setting(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "rules.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {"RELAY_SCRIPT": "rules.toml"}, tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"RELAY_SCRIPT: {file}: {words}")
