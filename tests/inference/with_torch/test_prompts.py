"""Requests to prompts: by the model's template, and with nothing of the caller's taken for a control token."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from adapters.canonical import ChatRequest, ImagePart, Message, Tool, ToolCall
from adapters.errors import InvalidRequest
from adapters.local.serving.prompts import Prompts
from adapters.local.serving.turns import Thought
from tests.inference.with_torch.vocabularies import END, KINDS, MARKERS, SPECIAL
from tests.inference.with_torch.vocabularies import tokenizer as trained
from tests.support.effort import soon

CHATML = """\
{%- if tools %}<s>system
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
<tool_call>{}</tool_call><|im_end|>
{%- endif %}
{%- for message in messages %}<s>{{ message.role }}{{ ' ' ~ message.name if message.name else '' }}
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{ message.content | trim }}
{%- for call in message.tool_calls %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{%- endfor %}
{%- if add_generation_prompt %}<s>assistant {{ note }}
{%- if enable_thinking is defined and enable_thinking %}<think>
{%- elif enable_thinking is defined %}<think></think>{% endif %}
{%- endif %}"""
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
ESCAPES = [chr(code) for code in (*range(0x1D000, 0x1D0F6), *range(0xF0000, 0xFFFFE))]
"""All that may stand for a character of the caller's."""
FORGERIES = (*SPECIAL, *MARKERS, "<|im_start|>", "[INST]")
REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Hi"),))


def tokenizer(kind: str = "byte-level", special: tuple[str, ...] = ()) -> Any:
    """The same one for the same arguments, however they were given: training is not."""
    return trained(kind, special)


def prompts(template: Any = CHATML, kind: str = "byte-level", special: tuple[str, ...] = ()) -> Prompts:
    return Prompts(tokenizer(kind, special), chat_template=template)


def asked(*contents: str, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=tuple(Message(role="user", content=text) for text in contents), **fields)


def controls(ids: list[int], kind: str = "byte-level") -> list[str]:
    """The control tokens of a prompt, in order; the one for what is unknown is none."""
    known = tokenizer(kind).added_tokens_decoder
    return [known[id].content for id in ids if id in known and known[id].content != "<unk>"]


# ---------------------------------------------------------------- the template's own way

ORDINARY = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<["), max_size=30)


@pytest.mark.parametrize("kind", KINDS)
@given(
    content=ORDINARY | st.sampled_from(["a <b> c", "x[1] < y[2]", "<|im_|end|>", "<think", "</ think>"]), data=st.data()
)
def test_ordinary_text_is_tokenised_as_the_tokenizer_itself_does(kind: str, content: str, data: st.DataObject) -> None:
    answer = data.draw(ORDINARY)
    rendered = prompts(kind=kind).render(
        ChatRequest(
            model="m",
            messages=(
                Message(role="system", content=content),
                Message(role="assistant", content=answer, tool_calls=(ToolCall("1", "f", json.dumps({"a": content})),)),
                Message(role="user", content=content, name="Ann"),
            ),
        )
    )
    want = tokenizer(kind).apply_chat_template(
        [
            {"role": "system", "content": content},
            {
                "role": "assistant",
                "content": answer,
                "tool_calls": [{"function": {"name": "f", "arguments": {"a": content}}}],
            },
            {"role": "user", "content": content, "name": "Ann"},
        ],
        chat_template=CHATML,
        add_generation_prompt=True,
    )["input_ids"]
    assert rendered.ids == want


def test_a_model_with_a_template_for_tools_uses_it_for_tools() -> None:
    one = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer, eos_token=END)
    one.chat_template = {"default": "plain {{ messages[0].content }}", "tool_use": "{{ tools[0].function.name }}"}
    rendered = Prompts(one)
    with_tools = asked("Hi", tools=(Tool(name="now", parameters={}),))
    assert [one.decode(rendered.render(request).ids) for request in (REQUEST, with_tools)] == ["plain Hi", "now"]


def test_tools_that_may_not_be_called_are_not_told() -> None:
    tools = (Tool(name="now", parameters={}),)
    told, untold = (
        prompts().render(asked("Hi", tools=tools)),
        prompts().render(asked("Hi", tools=tools, tool_choice="none")),
    )
    assert told.turn.calls is not None and told.turn.tools == tools and "<tool_call>" in controls(told.ids)
    assert untold.turn.calls is None and untold.turn.tools == ()
    assert untold.ids == prompts().render(REQUEST).ids


def test_threads_do_not_disturb_each_other() -> None:
    one = prompts()
    requests = [asked(f"{i} <|im_end|> " * (i + 1)) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one.render, requests)) == [one.render(request) for request in requests]


# ---------------------------------------------------------------- forgeries

SOUP = st.lists(
    st.sampled_from(FORGERIES) | st.text(alphabet="<|[]>/_imendthk \U000f0000\U000f0001", max_size=4), max_size=8
)
TEXT = SOUP.map("".join)


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT))
def test_no_text_of_the_callers_becomes_a_control_token(kind: str, texts: tuple[str, ...]) -> None:
    def request(name: str, content: str, thought: str, key: str, value: str, told: str, note: str) -> ChatRequest:
        return ChatRequest(
            model="m",
            messages=(
                Message(role="user", content=content, name=name or None),
                Message(
                    role="assistant",
                    reasoning=thought or "t",
                    tool_calls=(ToolCall("1", name, json.dumps({key: value})),),
                ),
                Message(role="assistant", reasoning="t", tool_calls=(ToolCall("1", "f", value),)),
                Message(role="tool", tool_call_id="1", content=content),
            ),
            tools=(Tool(name="f", description=told, parameters={key: [value]}),),
            chat_template_kwargs={"note": note},
        )

    ids = prompts(kind=kind).render(request(*texts)).ids
    assert controls(ids, kind) == controls(prompts(kind=kind).render(request(*"abcdefg")).ids, kind)


@given(text=TEXT)
def test_what_is_kept_from_being_a_control_token_is_still_there_as_text(text: str) -> None:
    ids = prompts(PLAIN + END).render(asked(text)).ids
    assert tokenizer().decode(ids) == text + END
    assert controls(ids) == [END]


@pytest.mark.parametrize(
    ("template", "request_"),
    [
        ("{{ messages[0].name }}{{ messages[0].content }}", [Message(role="user", name="<|im_", content="end|>")]),
        ("{{ messages[0].content | replace('-', '') }}", [Message(role="user", content="<-|im_end|>")]),
        ("{{ messages[0].content.split('|')[1] }}|im_end|>", [Message(role="user", content="x|<|y")]),
        ("{{ messages[0].content | reverse }}", [Message(role="user", content=END[::-1])]),
    ],
    ids=["strings joined", "something taken out", "joined with the template's", "turned round"],
)
def test_no_template_makes_a_control_token_of_the_callers_text(template: str, request_: list[Message]) -> None:
    ids = prompts(template).render(ChatRequest(model="m", messages=tuple(request_))).ids
    assert ids and controls(ids) == []


ODD = "a <|im_end|> \u00e9 [x] <s> 'b' <b \U0001f600 \\ \\<x \\\\[y \\U0001d000 \\ud834\\udc01 %F0%9D%80%82"
PRINTED: dict[str, tuple[str, str]] = {
    "Python's repr": ("{{ messages[0].content | list }}", repr(list(ODD))),
    "Python's repr of a turn": ("{{ messages[0] }}", repr({"role": "user", "content": ODD})),
    "a repr in a repr": ("{{ [[messages[0].content] | string] }}", repr([repr([ODD])])),
    "JSON": ("{{ messages[0].content | tojson }}", json.dumps(ODD, ensure_ascii=False)),
    "JSON in ASCII": ("{{ messages[0].content | tojson(ensure_ascii=True) }}", json.dumps(ODD)),
    "JSON in JSON": (
        "{{ messages[0].content | tojson(ensure_ascii=True) | tojson(ensure_ascii=True) }}",
        json.dumps(json.dumps(ODD)),
    ),
    "ASCII": ("{{ '%a' | format(messages[0].content) }}", ascii(ODD)),
    "a URL": ("{{ messages[0].content | urlencode }}", quote(ODD)),
    "its length": ("{{ messages[0].content | length }}", str(len(ODD))),
}


@pytest.mark.parametrize(("template", "text"), PRINTED.values(), ids=PRINTED)
def test_however_a_template_prints_the_callers_text_it_is_the_callers(template: str, text: str) -> None:
    ids = prompts(template).render(asked(ODD)).ids
    assert tokenizer().decode(ids) == text and controls(ids) == []


LONG = {
    "backslashes": "\\" * 500_000,
    "beginnings of one": "%f" * 200_000,
    "halves of one": "\\ud834" * 100_000,
    "all but a few": "".join(map(ascii, ESCAPES[:-50])),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_time_grows_with_the_text_alone_whatever_looks_like_an_escape(text: str) -> None:
    """Were each looked at to the end of the text, this would take many minutes."""
    assert tokenizer().decode(prompts(PLAIN).render(asked(text)).ids) == text


@pytest.mark.parametrize("word", ["role", "_end_", "end.", "<|x|>"])
def test_no_url_makes_a_control_token_of_the_callers_text(word: str) -> None:
    """Though letters and some marks look in it as they do elsewhere."""
    known = tokenizer("byte-level", (word,))
    ids = prompts("{{ messages[0].content | urlencode }}", special=(word,)).render(asked(f"a {word} b")).ids
    assert known.convert_tokens_to_ids(word) not in ids
    assert known.decode(ids) == quote(f"a {word} b")


def test_names_of_variables_may_be_long() -> None:
    made = prompts(PLAIN)
    request = asked("Hi", chat_template_kwargs={f"v{i}" + "x" * 2_000_000: 1 for i in range(24)})
    with soon():  # to look for each of them as for a pattern takes a minute
        assert len(made.changes(request)) == 1


def test_control_tokens_that_touch_the_callers_are_the_templates() -> None:
    ids = prompts("<s>{{ messages[0].content }}<|im_end|>", special=("<s><|",)).render(asked("<|im_end|>")).ids
    assert controls(ids) == ["<s>", END]


def test_control_tokens_that_overlap_are_all_kept_from_the_caller() -> None:
    special = ("ba>", "a>", "a>b<c", "<c")
    one = prompts(PLAIN, special=special)
    ids = one.render(asked("ba>b<cba>a><c")).ids
    backend = tokenizer("byte-level", special)
    assert backend.decode(ids) == "ba>b<cba>a><c"
    assert not set(ids) & set(backend.added_tokens_decoder)


def test_private_characters_of_the_callers_pass() -> None:
    text = "\U0001d000\U000f0000a\U0001d001<|im_end|>\U000f0002"
    assert tokenizer().decode(prompts(PLAIN).render(asked(text)).ids) == text


def test_a_caller_who_uses_all_private_characters_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        prompts().render(asked("".join(ESCAPES)))
    assert caught.value.param == "messages"


def test_a_special_token_that_is_a_word_is_kept_from_the_caller_alone() -> None:
    special = ("EOT", "END OF")
    one = prompts("EOT {{ messages[0].content }}", special=special)
    ids = one.render(asked("the EOT, the END OF EOTs; E")).ids
    backend = tokenizer("byte-level", special)
    assert backend.decode(ids) == "EOT the EOT, the END OF EOTs; E"
    assert backend.convert_tokens_to_ids("END OF") not in ids
    assert ids.count(backend.convert_tokens_to_ids("EOT")) == 1


def test_a_special_token_may_look_like_a_name_that_the_template_asks_for() -> None:
    special = ("_end_", "tool", "user", "me", "able")
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}"
    )
    request = asked("the _end_ of me", chat_template_kwargs={"able_tool": "x"})
    call = Message(role="assistant", tool_calls=(ToolCall("c_end_", "f", '{"user": 1}'),))
    one = prompts(template + "{{ able_tool }}", special=special)
    ids = one.render(msgspec.structs.replace(request, messages=(*request.messages, call))).ids
    backend = tokenizer("byte-level", special)
    calls = '[{"id": "c_end_", "type": "function", "function": {"name": "f", "arguments": {"user": 1}}}]'
    assert backend.decode(ids) == f"user:the _end_ of meassistant:{calls}x"
    own = [backend.convert_ids_to_tokens(id) for id in ids if id in backend.convert_tokens_to_ids(list(special))]
    assert own == ["user", "me", "me"]  # the role, and in "name" and "arguments": nothing of the caller's


@pytest.mark.parametrize("text", ["<", "<unused", "<unused1><", "<unused9"])
def test_thousands_of_control_tokens_cost_no_time(text: str) -> None:
    many = prompts(PLAIN, special=tuple(f"<unused{i}>" for i in range(6000)))
    content = text * (400_000 // len(text))
    with soon():  # a list of alternatives takes 40 s
        ids = many.render(asked(content)).ids
    assert tokenizer("byte-level", tuple(f"<unused{i}>" for i in range(6000))).decode(ids) == content


def test_of_control_tokens_that_begin_alike_the_longest_is_kept_from_the_caller() -> None:
    special = ("<a>", "<a>b", "<a>bc", "<a", "<")
    ids = prompts(PLAIN + "<a>bc<a>b<a>", special=special).render(asked("<a>bc <a>b <a> <a <")).ids
    backend = tokenizer("byte-level", special)
    assert [id for id in ids if id in backend.convert_tokens_to_ids(list(special[:4]))] == (
        backend.convert_tokens_to_ids(["<a>bc", "<a>b", "<a>"])
    )


def test_words_and_blanks_that_were_added_to_a_vocabulary_stay_what_they_are() -> None:
    made = Tokenizer.from_str(tokenizer().backend_tokenizer.to_str())
    made.add_tokens([AddedToken(text, normalized=False) for text in ("BRCA1", "\n\n", "ß")])
    one = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)
    ids = Prompts(one, chat_template=PLAIN).render(asked("a BRCA1\n\nß")).ids
    assert ids == one("a BRCA1\n\nß", add_special_tokens=False)["input_ids"]
    assert set(one.convert_tokens_to_ids(["BRCA1", "\n\n", "ß"])) <= set(ids)


def folding() -> Any:
    """A tokenizer that reads other spellings of its control tokens' texts, too."""
    made = Tokenizer(models.BPE(vocab={chr(code): code - 32 for code in range(32, 127)}, merges=[]))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken("<end>", normalized=True)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def test_another_spelling_of_a_control_token_is_refused_where_the_tokenizer_folds_it() -> None:
    one = Prompts(folding(), chat_template=PLAIN + "<end>")
    one.render(asked("<end>"))
    with pytest.raises(InvalidRequest, match="control token") as caught:
        one.render(asked("secret \uff1cend\uff1e"))
    assert "secret" not in caught.value.message


# ---------------------------------------------------------------- how the answer reads

THINK = Thought("<think>", "</think>")
GPT_OSS = (
    "<|start|>{% if tools %}{% endif %}{{ messages[-1].content }}<|end|><|start|>assistant{# <|channel|><|message|> #}"
)
GEMMA = "{{ messages[-1].content }}<|turn>model\n{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}"


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"note": "<think>"}}, False),
    ],
    ids=str,
)
def test_a_prompt_that_opens_a_thought_says_so(fields: dict[str, Any], thinking: bool) -> None:
    turn = prompts().render(asked("Hi <think>", **fields)).turn
    assert (turn.thought, turn.thinking) == (THINK, thinking)


def test_a_thought_may_be_marked_by_a_token_and_words() -> None:
    one = prompts(GEMMA, special=("<|channel>", "<channel|>"))
    backend = tokenizer("byte-level", ("<|channel>", "<channel|>"))
    turn = one.render(REQUEST).turn
    assert turn.thought == Thought("<|channel>thought\n", "<channel|>")
    assert turn.marker_ids == set(backend.convert_tokens_to_ids(["<|channel>", "<channel|>"]))
    assert not turn.thinking


def test_markers_are_kept_where_they_mean_something() -> None:
    special = ("<tool_call>", "</tool_call>", "<think>", "</think>")
    one, backend = prompts(special=special), tokenizer("byte-level", special)
    tools = (Tool(name="now", parameters={}),)
    texts = [
        {backend.convert_ids_to_tokens(id) for id in one.render(request).turn.marker_ids}
        for request in (REQUEST, asked("Hi", tools=tools))
    ]
    assert texts == [{"<think>", "</think>"}, set(special)]


def test_channels_are_marked_with_tools_and_without() -> None:
    special = ("<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|call|>")
    backend = tokenizer("byte-level", special)
    stop = backend.convert_tokens_to_ids("<|call|>")
    one = Prompts(backend, chat_template=GPT_OSS, stop_ids=frozenset({stop}))
    for request in (REQUEST, asked("Hi", tools=(Tool(name="now", parameters={}),))):
        turn = one.render(request).turn
        assert turn.harmony and turn.thought is None and not turn.thinking
        assert turn.marker_ids == set(backend.convert_tokens_to_ids(special)) - {stop}
        assert (turn.calls is None) == (not request.tools)


SAID = ChatRequest(
    model="m",
    messages=(
        Message(role="user", content="Hi", name="Ann"),
        Message(role="assistant", content="Ho", reasoning="Hm"),
        Message(role="user", content="Hi"),
    ),
)
FEW, MANY = ({f"{name}{i}": 1 for i in range(count)} for name, count in (("few", 3), ("many", 30)))
OSS_TURNS = """\
{#- <|channel|><|message|> #}{% for message in messages %}{% if message.tool_calls %}
{%- if message.content and message.thinking %}{{ raise_exception("not both") }}{% endif %}{{ message.thinking }}
{%- endif %}{% endfor %}"""
UNREAD: dict[str, tuple[str, ChatRequest, set[str]]] = {
    "effort: a switch": (CHATML, asked("Hi", reasoning_effort="high"), {"reasoning_effort=clamped"}),
    "effort: another switch": (
        "{% if thinking %}{% endif %}",
        asked("Hi", reasoning_effort="low"),
        {"reasoning_effort=clamped"},
    ),
    "effort: none, by a switch": (CHATML, asked("Hi", reasoning_effort="none"), set()),
    "effort: as it is": ("{{ reasoning_effort }}", asked("Hi", reasoning_effort="high"), set()),
    "effort: not at all": (PLAIN, asked("Hi", reasoning_effort="none"), {"reasoning_effort=dropped"}),
    "variables that are read": (CHATML, asked("Hi", chat_template_kwargs={"enable_thinking": True, "note": 1}), set()),
    "variables that are not": (
        PLAIN,
        asked("Hi", chat_template_kwargs=FEW),
        {f"chat_template_kwargs.{name}=ignored" for name in FEW},
    ),
    "too many to be told": (PLAIN, asked("Hi", chat_template_kwargs=MANY), {"chat_template_kwargs=ignored"}),
    "names and reasoning that are shown": (CHATML, SAID, set()),
    "names and reasoning that are not": (PLAIN, SAID, {"messages[].name=dropped", "messages[].reasoning=dropped"}),
    "reasoning under another name, beside calls": (OSS_TURNS, SAID, {"messages[].name=dropped"}),
    "no such turns": (PLAIN, asked("Hi", "Ho"), set()),
}


@pytest.mark.parametrize(("template", "request_", "changes"), UNREAD.values(), ids=UNREAD)
def test_what_a_template_has_no_use_for_is_told(template: str, request_: ChatRequest, changes: set[str]) -> None:
    assert set(map(str, prompts(template).changes(request_))) == changes


def test_the_effort_itself_reaches_the_template() -> None:
    ids = prompts("{{ reasoning_effort }}").render(asked("Hi", reasoning_effort="high")).ids
    assert tokenizer().decode(ids) == "high"


# ---------------------------------------------------------------- peculiar templates

CALLS = (ToolCall("call_1", "f", '{"a": 1}'), ToolCall("call_2", "g", "{}"))
HISTORY = (
    Message(role="user", content="Hi"),
    Message(role="assistant", content="c", reasoning="t", tool_calls=CALLS),
    Message(role="tool", tool_call_id="call_1", content="r"),
)
MISTRAL = """{% for message in messages %}{% for call in message.tool_calls %}{% if call.id | length != 9 %}
{{ raise_exception('no') }}{% endif %}{{ call.id }} {% endfor %}{% endfor %}"""
ONE_CALL = """{% for message in messages %}{% if message.tool_calls %}{% if message.tool_calls | length != 1 %}
{{ raise_exception('no') }}{% endif %}{{ message.tool_calls[0].function.name }} {% endif %}{% endfor %}"""
TEXT_ARGUMENTS = "{{ 'x' + messages[1]['tool_calls'][0]['function']['arguments'] + 'y' }}"
OSS = "{# <|channel|><|message|> #}{{ messages[1].reasoning_content ~ '/' ~ messages[1].content }}"
PECULIAR = {
    "ids of nine characters": (MISTRAL, "000000000 000000001 "),
    "one call a turn": (ONE_CALL, "f g "),
    "arguments as text": (TEXT_ARGUMENTS, 'x{"a": 1}y'),
    "one voice beside a call": (OSS, "t\n\nc/"),
}


@pytest.mark.parametrize(("template", "want"), PECULIAR.values(), ids=PECULIAR)
def test_a_template_gets_the_turns_as_it_wants_them(template: str, want: str) -> None:
    ids = prompts(template).render(ChatRequest(model="m", messages=HISTORY)).ids
    assert tokenizer().decode(ids) == want


def test_tools_are_told_in_the_systems_turn_where_the_template_looks_for_them_there() -> None:
    phi = "{% for message in messages %}{{ message['tools'] if 'tools' in message else '-' }}{% endfor %}"
    ids = prompts(phi).render(asked("Hi", tools=(Tool(name="f", parameters={}),))).ids
    assert tokenizer().decode(ids) == '[{"name":"f","description":"","parameters":{}}]-'
    assert tokenizer().decode(prompts(phi).render(REQUEST).ids) == "-"


# ---------------------------------------------------------------- refusals

REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ tools }}"
)
QUOTING = "{{ raise_exception('Cannot read ' ~ messages[0].content) }}"
DEEP: dict[str, Any] = {}
for _ in range(2000):
    DEEP = {"a": DEEP}
SYSTEM = ChatRequest(model="m", messages=(Message(role="system", content="secret"),))
IMAGE = ChatRequest(model="m", messages=(Message(role="user", content=(ImagePart("data:,secret"),)),))
REFUSALS: dict[str, tuple[str, ChatRequest, str, str]] = {
    "the template's own words": (REFUSING, SYSTEM, "messages", "refuses them: System role not supported."),
    "words that quote the caller": (QUOTING, SYSTEM, "messages", "refuses them."),
    "a template that fails": ("{{ messages[0].content.x.y }}", SYSTEM, "messages", "refuses them."),
    "no template": ("", REQUEST, "messages", "no chat template"),
    "an image": (CHATML, IMAGE, "messages[0].content[0]", "no images"),
    "tools where there are none": (PLAIN, asked("Hi", tools=(Tool(name="f", parameters={}),)), "tools", "takes none"),
    "tools without an end": (
        CHATML,
        asked("Hi", tools=(Tool(name="f", parameters=DEEP),)),
        "tools",
        "nested too deeply",
    ),
}
VARIABLES: dict[str, dict[str, Any]] = {
    "tools": {"tools": []},
    "messages": {"messages": []},
    "tokenize": {"tokenize": True},
    "chat_template": {"chat_template": "{{ 1 }}"},
    "eos_token": {"eos_token": "x"},
    "_private": {"_private": 1},
    "no name": {"a b": 1},
}
for _name, _given in VARIABLES.items():
    REFUSALS[f"the variable {_name}"] = (
        CHATML,
        asked("Hi", chat_template_kwargs=_given),
        "chat_template_kwargs",
        "may not set",
    )
for _value in ("false", 0, None):
    REFUSALS[f"thinking: {_value!r}"] = (
        CHATML,
        asked("Hi", chat_template_kwargs={"enable_thinking": _value}),
        "chat_template_kwargs.enable_thinking",
        "must be true or false",
    )


@pytest.mark.parametrize(("template", "request_", "param", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_the_template_does_not_take_is_refused_by_its_name(
    template: str, request_: ChatRequest, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prompts(template).render(request_)
    assert caught.value.param == param
    assert words in caught.value.message and "secret" not in caught.value.message


def test_a_tokenizer_without_a_backend_is_refused_at_once() -> None:
    class Slow:
        chat_template = PLAIN

    with pytest.raises(ValueError, match="Slow is no fast tokenizer"):
        Prompts(Slow())
