"""Answers of every family, told apart into reasoning, text and calls wherever they are cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import Delta, Tool, ToolCall
from adapters.local.serving.calls.deepseek import DEEPSEEK, DEEPSEEK_FENCED
from adapters.local.serving.calls.gemma import GEMMA
from adapters.local.serving.calls.glm import GLM_LINE, GLM_TAGS
from adapters.local.serving.calls.harmony import HARMONY
from adapters.local.serving.calls.hermes import HERMES
from adapters.local.serving.calls.llama import LLAMA
from adapters.local.serving.calls.mistral import MISTRAL_LIST, MISTRAL_NAMED
from adapters.local.serving.calls.phi import PHI
from adapters.local.serving.calls.qwen_tags import QWEN_TAGS
from adapters.local.serving.calls.syntax import CallSyntax
from adapters.local.serving.turns import Thought, TurnFormat
from adapters.wire.json_text import dump_text
from adapters.wire.tool_calls import join_tool_calls

WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "hourly": {"type": "boolean"},
            "unit": {"type": ["string", "null"]},
            "any": {},
            "odd": True,
            "odder": {"type": 3},
        },
    },
)
TOOLS = (WEATHER, Tool(name="now", parameters={"type": "object"}), Tool(name="loose", parameters={"properties": 3}))
THINK = Thought("<think>", "</think>")
OSLO = '{"city": "Oslo"}'


class Read(NamedTuple):
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    reasoning: str = ""


def call(arguments: str = OSLO, name: str = "get_weather") -> tuple[str, str]:
    return name, arguments


def read(turn: TurnFormat, pieces: Iterable[str]) -> Read:
    """What the deltas come to; checks what each of them has to keep."""
    parser = turn.parser()
    deltas = [*(delta for piece in pieces for delta in parser.feed(piece)), *parser.end()]
    assert all(bool(delta.text) + bool(delta.reasoning) + bool(delta.tool_calls) == 1 for delta in deltas)
    calls = [piece for delta in deltas for piece in delta.tool_calls]
    named = [piece.index for piece in calls if piece.name is not None]
    assert named == list(range(len(named)))
    assert [piece.index for piece in calls] == sorted(piece.index for piece in calls)
    assert all(piece.id is None and (piece.name is not None or piece.arguments) for piece in calls)
    assert parser.called == bool(named)
    whole: tuple[ToolCall, ...] = join_tool_calls(calls)
    return Read(
        "".join(delta.text for delta in deltas),
        tuple((one.name, one.arguments) for one in whole),
        "".join(delta.reasoning for delta in deltas),
    )


def every_cut(text: str) -> Iterable[list[str]]:
    yield [text]
    yield list(text)
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]


def same_everywhere(turn: TurnFormat, text: str, want: Read) -> None:
    for pieces in every_cut(text):
        assert read(turn, pieces) == want, pieces


HERMES_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
MARKED: dict[str, tuple[CallSyntax, str, Read]] = {
    "hermes: one": (HERMES, HERMES_CALL, Read(calls=(call(),))),
    "hermes: text before": (HERMES, f"Let me see.\n\n{HERMES_CALL}", Read("Let me see.", (call(),))),
    "hermes: text after": (HERMES, f"{HERMES_CALL}\n\nDone. <ok>", Read("Done. <ok>", (call(),))),
    "hermes: text between": (HERMES, f"{HERMES_CALL} and {HERMES_CALL}", Read("and", (call(), call()))),
    "hermes: two": (HERMES, f"{HERMES_CALL}\n{HERMES_CALL}\n", Read(calls=(call(), call()))),
    "hermes: no end marker between": (
        HERMES,
        HERMES_CALL.removesuffix("</tool_call>") + HERMES_CALL,
        Read(calls=(call(), call())),
    ),
    "hermes: a list": (
        HERMES,
        '<tool_call>[{"name": "now", "arguments": {}}, {"name": "now"}]</tool_call>',
        Read(calls=(call("{}", "now"), call("{}", "now"))),
    ),
    "hermes: arguments first": (
        HERMES,
        '<tool_call>{"arguments": {"city": "}\\"{"}, "name": "get_weather"}</tool_call>',
        Read(calls=(call('{"city":"}\\"{"}'),)),
    ),
    "hermes: arguments as a string": (
        HERMES,
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}</tool_call>',
        Read(calls=(call('{"city":"Oslo"}'),)),
    ),
    "hermes: arguments null": (
        HERMES,
        '<tool_call>{"name": "now", "arguments": null}</tool_call>',
        Read(calls=(call("{}", "now"),)),
    ),
    "hermes: arguments empty": (
        HERMES,
        '<tool_call>{"name": "now", "arguments": ""}</tool_call>',
        Read(calls=(call("{}", "now"),)),
    ),
    "hermes: nested in function": (
        HERMES,
        '<tool_call>{"function": {"name": "now", "arguments": {}}}</tool_call>',
        Read(calls=(call("{}", "now"),)),
    ),
    "hermes: keys after the arguments": (
        HERMES,
        '<tool_call>{"name": "now", "arguments": {"a": [1, {}]}, "id": "x{"}</tool_call>ok',
        Read("ok", (call('{"a": [1, {}]}', "now"),)),
    ),
    "hermes: a name with escapes": (
        HERMES,
        '<tool_call>{"name": "n\\u006fw", "arguments": {}}</tool_call>',
        Read(calls=(call("{}", "now"),)),
    ),
    "hermes: cut off in the arguments": (
        HERMES,
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Os',
        Read(calls=(call('{"city": "Os'),)),
    ),
    "hermes: cut off in the end marker": (HERMES, HERMES_CALL[:-4], Read(calls=(call(),))),
    "hermes: cut off in the name": (
        HERMES,
        'I <tool_call>{"name": "get_w',
        Read('I <tool_call>{"name": "get_w'),
    ),
    "hermes: cut off in the begin marker": (HERMES, "So <tool_c", Read("So <tool_c")),
    "hermes: cut off behind the begin marker": (HERMES, "So <tool_call>\n", Read("So <tool_call>\n")),
    "hermes: no JSON": (HERMES, "<tool_call>hm</tool_call> x", Read("<tool_call>hm</tool_call> x")),
    "hermes: broken JSON": (
        HERMES,
        "a <tool_call>{name: now}</tool_call> b",
        Read("a <tool_call>{name: now}</tool_call> b"),
    ),
    "hermes: JSON without a name": (
        HERMES,
        '<tool_call>{"arguments": {}}</tool_call>',
        Read('<tool_call>{"arguments": {}}</tool_call>'),
    ),
    "hermes: an empty name": (
        HERMES,
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        Read('<tool_call>{"name": "", "arguments": {}}</tool_call>'),
    ),
    "hermes: a name that is no JSON": (
        HERMES,
        '<tool_call>{"name": "\\q", "arguments": {}}</tool_call>',
        Read('<tool_call>{"name": "\\q", "arguments": {}}</tool_call>'),
    ),
    "hermes: arguments that are a list": (
        HERMES,
        '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
        Read('<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
    ),
    "hermes: arguments that are text": (
        HERMES,
        '<tool_call>{"name": "now", "arguments": "now"}</tool_call>',
        Read('<tool_call>{"name": "now", "arguments": "now"}</tool_call>'),
    ),
    "hermes: a call behind a broken one": (
        HERMES,
        f"<tool_call>{{}}</tool_call>{HERMES_CALL}",
        Read("<tool_call>{}</tool_call>", (call(),)),
    ),
    "hermes: a broken call behind a call": (
        HERMES,
        '<tool_call>[{"name": "now", "arguments": {}}, {"no": 1}]</tool_call>',
        Read(', {"no": 1}]</tool_call>', (call("{}", "now"),)),
    ),
    "hermes: rubbish in the list": (
        HERMES,
        '<tool_call>[{"name": "now", "arguments": {}}, oops]',
        Read(",oops]", (call("{}", "now"),)),
    ),
    "hermes: only a bracket": (HERMES, "<tool_call>[", Read("<tool_call>[")),
    "hermes: text alone": (HERMES, " Hello <b> {x} \n", Read(" Hello <b> {x} \n")),
    "hermes: nothing": (HERMES, "", Read()),
    "mistral, list: one": (
        MISTRAL_LIST,
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}}]',
        Read(calls=(call(),)),
    ),
    "mistral, list: two, with ids": (
        MISTRAL_LIST,
        'Hm.[TOOL_CALLS][{"name": "now", "arguments": {}, "id": "abcdefghi"}, {"name": "now", "arguments": {"a": 1}}]',
        Read("Hm.", (call("{}", "now"), call('{"a": 1}', "now"))),
    ),
    "mistral, list: text after": (
        MISTRAL_LIST,
        '[TOOL_CALLS][{"name": "now", "arguments": {}}] [so]',
        Read("[so]", (call("{}", "now"),)),
    ),
    "mistral, named: two": (
        MISTRAL_NAMED,
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]now[ARGS]{}',
        Read(calls=(call(), call("{}", "now"))),
    ),
    "mistral, named: with an id": (
        MISTRAL_NAMED,
        '[TOOL_CALLS]get_weather[CALL_ID]abc123DEF[ARGS]{"city": "Oslo"}',
        Read(calls=(call(),)),
    ),
    "mistral, named: without a marker for the arguments": (
        MISTRAL_NAMED,
        'I see. [TOOL_CALLS] get_weather{"city": "Oslo"} ',
        Read("I see.", (call(),)),
    ),
    "mistral, named: cut off": (
        MISTRAL_NAMED,
        '[TOOL_CALLS]get_weather[ARGS]{"city": "O',
        Read(calls=(call('{"city": "O'),)),
    ),
    "mistral, named: no call": (MISTRAL_NAMED, "[TOOL_CALLS] or what {x}", Read("[TOOL_CALLS] or what {x}")),
    "deepseek: two": (
        DEEPSEEK,
        "Look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>" + OSLO + "<｜tool▁call▁end｜>"
        "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>\n",
        Read("Look.", (call(), call("{}", "now"))),
    ),
    "deepseek, fenced: one": (
        DEEPSEEK_FENCED,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n" + OSLO + "\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        Read(calls=(call(),)),
    ),
    "phi: a list": (
        PHI,
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]<|/tool_call|>',
        Read(calls=(call(),)),
    ),
    "phi: an object": (
        PHI,
        'So: <|tool_call|>{"name": "get_weather", "arguments": {"city": "Oslo"}}<|/tool_call|>',
        Read("So:", (call(),)),
    ),
    "llama: bare": (LLAMA, '{"name": "get_weather", "parameters": {"city": "Oslo"}}', Read(calls=(call(),))),
    "llama: with a type": (
        LLAMA,
        '\n\n{"type": "function", "name": "get_weather", "parameters": {"city": "Oslo"}}',
        Read(calls=(call(),)),
    ),
    "llama: two": (
        LLAMA,
        '{"name": "get_weather", "parameters": {"city": "Oslo"}}; {"name": "now", "parameters": {}}',
        Read(calls=(call(), call("{}", "now"))),
    ),
    "llama: behind the marker": (
        LLAMA,
        'Let me.\n<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}',
        Read("Let me.", (call(),)),
    ),
    "llama: bare, then behind the marker": (
        LLAMA,
        '{"name": "now", "parameters": {}}\n<|python_tag|>{"name": "now", "parameters": {}}',
        Read(calls=(call("{}", "now"), call("{}", "now"))),
    ),
    "llama: text after": (
        LLAMA,
        '{"name": "now", "parameters": {}} is what I call.',
        Read("is what I call.", (call("{}", "now"),)),
    ),
    "llama: JSON for the user": (
        LLAMA,
        '{"name": "Alice", "parameters": {"a": 1}}',
        Read('{"name": "Alice", "parameters": {"a": 1}}'),
    ),
    "llama: other JSON": (LLAMA, ' [1, {"a": 2}]', Read(' [1, {"a": 2}]')),
    "llama: arguments first, of no function": (
        LLAMA,
        '{"parameters": {}, "name": "Alice"}',
        Read('{"parameters": {}, "name": "Alice"}'),
    ),
    "llama: code": (LLAMA, "<|python_tag|>print(1)", Read("<|python_tag|>print(1)")),
    "llama: text": (LLAMA, " Yes. {", Read(" Yes. {")),
    "llama: blanks": (LLAMA, " \n", Read(" \n")),
    "llama: cut off": (
        LLAMA,
        '{"name": "get_weather", "parameters": {"city',
        Read(calls=(call('{"city'),)),
    ),
    "llama: cut off in the name": (LLAMA, ' {"name": "get', Read(' {"name": "get')),
    "glm, line: one": (GLM_LINE, "get_weather\n" + OSLO, Read(calls=(call(),))),
    "glm, line: blanks around": (GLM_LINE, "\nget_weather \n " + OSLO + "\n", Read(calls=(call(),))),
    "glm, line: text after": (GLM_LINE, "now\n{} then", Read("then", (call("{}", "now"),))),
    "glm, line: a name and text": (GLM_LINE, "now\nis the time", Read("now\nis the time")),
    "glm, line: a name alone": (GLM_LINE, "now", Read("now")),
    "glm, line: a name in text": (GLM_LINE, "nowadays {", Read("nowadays {")),
    "glm, line: text": (GLM_LINE, "\n Yes.\n{", Read("\n Yes.\n{")),
    "glm, tags: one": (
        GLM_TAGS,
        "Hm.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Os\n<lo></arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
        Read("Hm.", (call('{"city": "Os\\n<lo>", "days": 3}'),)),
    ),
    "glm, tags: two, close together": (
        GLM_TAGS,
        "<tool_call>now</tool_call><tool_call>get_weather<arg_key>any</arg_key><arg_value>[1]</arg_value></tool_call>",
        Read(calls=(call("{}", "now"), call('{"any": [1]}'))),
    ),
    "glm, tags: a value that never begins": (
        GLM_TAGS,
        "<tool_call>now<arg_key>a</arg_key> so",
        Read("so", (call("{}", "now"),)),
    ),
    "qwen, tags: one": (
        QWEN_TAGS,
        "Hm.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n\n</parameter>\n<parameter=days>\n3\n"
        "</parameter>\n<parameter=hourly>\nTrue\n</parameter>\n</function>\n</tool_call>",
        Read("Hm.", (call('{"city": "Oslo\\n", "days": 3, "hourly": true}'),)),
    ),
    "qwen, tags: two": (
        QWEN_TAGS,
        "<tool_call>\n<function=now>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
        Read(calls=(call("{}", "now"), call())),
    ),
    "qwen, tags: values of every kind": (
        QWEN_TAGS,
        "<tool_call>\n<function=get_weather>\n<parameter=unit>\n5\n</parameter>\n<parameter=any>\n{'a': None}\n"
        "</parameter>\n<parameter=odd>\nplain words\n</parameter>\n<parameter=odder>\n\n</parameter>\n"
        "<parameter=new>TRUE</parameter></function>\n</tool_call>",
        Read(calls=(call('{"unit": "5", "any": {"a":null}, "odd": "plain words", "odder": "", "new": true}'),)),
    ),
    "qwen, tags: null where it may be": (
        QWEN_TAGS,
        "<tool_call>\n<function=get_weather>\n<parameter=unit>\nnull\n</parameter>\n</function>\n</tool_call>",
        Read(calls=(call('{"unit": null}'),)),
    ),
    "qwen, tags: a function without a usable schema": (
        QWEN_TAGS,
        "<tool_call>\n<function=loose>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
        Read(calls=(call('{"a": 1}', "loose"),)),
    ),
    "qwen, tags: something else among the parameters": (
        QWEN_TAGS,
        "<tool_call>\n<function=now>\n<parameter=a>\n1\n</parameter>\nwell",
        Read("well", (call('{"a": 1}', "now"),)),
    ),
    "qwen, tags: cut off in a text": (
        QWEN_TAGS,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOs\n</para",
        Read(calls=(call('{"city": "Os\\n</para'),)),
    ),
    "qwen, tags: cut off in a number": (
        QWEN_TAGS,
        "<tool_call>\n<function=get_weather>\n<parameter=days>\n1",
        Read(calls=(call('{"days": 1'),)),
    ),
    "qwen, tags: cut off in a key": (
        QWEN_TAGS,
        "<tool_call>\n<function=get_weather>\n<parameter=da",
        Read(calls=(call("{}"),)),
    ),
    "qwen, tags: cut off in the name": (QWEN_TAGS, "<tool_call>\n<function=get", Read("<tool_call>\n<function=get")),
    "gemma: one": (
        GEMMA,
        'Hm. <|tool_call>call:get_weather{city:<|"|>Os"lo,{}<|"|>,days:3,any:[true,<|"|>a<|"|>,{b:null}]}<tool_call|>',
        Read("Hm.", (call('{"city":"Os\\"lo,{}","days":3,"any":[true,"a",{"b":null}]}'),)),
    ),
    "gemma: quoted keys and bare words": (
        GEMMA,
        '<|tool_call>call:get_weather{<|"|>city<|"|>:Oslo, days : 3}<tool_call|>',
        Read(calls=(call('{"city":"Oslo","days":3}'),)),
    ),
    "gemma: two": (
        GEMMA,
        "<|tool_call>call:now{}<tool_call|><|tool_call>call:now{a:1}<tool_call|>",
        Read(calls=(call("{}", "now"), call('{"a":1}', "now"))),
    ),
    "gemma: cut off in a text": (
        GEMMA,
        '<|tool_call>call:get_weather{city:<|"|>Os"<|',
        Read(calls=(call('{"city":"Os\\"<|'),)),
    ),
    "gemma: cut off in a number": (GEMMA, "<|tool_call>call:now{days:1", Read(calls=(call('{"days":1', "now"),))),
    "gemma: no call": (GEMMA, "<|tool_call>what", Read("<|tool_call>what")),
}


@pytest.mark.parametrize(("syntax", "text", "want"), MARKED.values(), ids=MARKED)
def test_calls_are_told_from_text_wherever_it_is_cut(syntax: CallSyntax, text: str, want: Read) -> None:
    same_everywhere(TurnFormat(calls=syntax, tools=TOOLS), text, want)


SYNTAXES = [
    *(HERMES, LLAMA, MISTRAL_LIST, MISTRAL_NAMED, DEEPSEEK, DEEPSEEK_FENCED, PHI, GLM_LINE, GLM_TAGS, QWEN_TAGS),
    *(GEMMA, HARMONY),
]


def written(syntax: CallSyntax, calls: list[tuple[str, dict[str, Any]]]) -> str:
    """Calls as the syntax describes them: what a grammar makes a model write."""
    ones = []
    for name, arguments in calls:
        if syntax.arguments == "json":
            body = json.dumps(arguments)
        elif syntax.arguments == "gemma":
            items = [
                f'{k}:<|"|>{v}<|"|>' if isinstance(v, str) else f"{k}:{dump_text(v)}" for k, v in arguments.items()
            ]
            body = f"{{{','.join(items)}}}"
        else:
            tags = syntax.tags
            assert tags is not None
            texts = {key: value if isinstance(value, str) else dump_text(value) for key, value in arguments.items()}
            body = "".join(f"{tags.open}{key}{tags.between}{text}{tags.close}" for key, text in texts.items())
        ones.append(f"{syntax.head}{name}{syntax.middle}{body}{syntax.tail}")
    return f"{syntax.opening}{syntax.separator.join(ones)}{syntax.closing}"


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@given(
    calls=st.lists(st.sampled_from([("get_weather", {"city": "Ås", "days": 3}), ("now", {})]), min_size=1, max_size=3)
)
def test_what_a_syntax_describes_is_what_its_reader_takes(
    syntax: CallSyntax, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    if syntax is GLM_LINE:
        calls = calls[:1]  # an answer is one call there
    text = written(syntax, calls)
    turn = TurnFormat(calls=syntax, tools=TOOLS, harmony=syntax is HARMONY)
    for pieces in ([text], list(text)):
        got = read(turn, pieces)
        assert [(name, json.loads(arguments)) for name, arguments in got.calls] == calls
        assert got.text == got.reasoning == ""


HARMONIES: dict[str, tuple[str, Read]] = {
    "thought, then answer": (
        "<|channel|>analysis<|message|>Hm <|x.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
        Read("Yes.", reasoning="Hm <|x."),
    ),
    "answer alone": ("<|channel|>final<|message|>Yes.", Read("Yes.")),
    "a call": (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
        '<|constrain|>json<|message|>{"city": "Oslo"}<|call|>',
        Read(calls=(call(),), reasoning="Hm."),
    ),
    "a call whose recipient comes first": (
        '<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>',
        Read(calls=(call(),)),
    ),
    "the recipient at once": (
        ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Oslo"}',
        Read(calls=(call(),)),
    ),
    "a preamble and two calls": (
        "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant<|channel|>commentary to=functions.now "
        "<|message|>{}<|call|><|start|>assistant<|channel|>commentary to=functions.now<|message|>{}<|call|>",
        Read("I will look.", (call("{}", "now"), call("{}", "now"))),
    ),
    "another tool's recipient": ("<|channel|>commentary to=browser<|message|>open", Read("open")),
    "no end of the thought": (
        "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Yes.",
        Read("Yes.", reasoning="Hm."),
    ),
    "no header": ("Yes. <|channel|>", Read("Yes. <|channel|>")),
    "cut off in a header": ("<|channel|>final<|message|>Yes.<|end|><|start|>assis", Read("Yes.")),
    "cut off in a mark": ("<|channel|>final<|message|>Yes.<|e", Read("Yes.<|e")),
    "cut off at the first mark": ("<|cha", Read("<|cha")),
    "a header without an end": ("<|start|>" + "x" * 600 + "<|end|>", Read("<|start|>" + "x" * 600)),
    "nothing": ("", Read()),
}


@pytest.mark.parametrize(("text", "want"), HARMONIES.values(), ids=HARMONIES)
def test_channels_are_told_apart_wherever_they_are_cut(text: str, want: Read) -> None:
    same_everywhere(TurnFormat(harmony=True, calls=HARMONY, tools=TOOLS), text, want)


def test_without_tools_a_call_in_a_channel_is_text() -> None:
    text = "<|channel|>commentary to=functions.now<|message|>{}<|call|>"
    same_everywhere(TurnFormat(harmony=True), text, Read("{}"))


CHANNEL = Thought("<|channel>thought\n", "<channel|>")
THOUGHTS: dict[str, tuple[TurnFormat, str, Read]] = {
    "thought, text, call": (
        TurnFormat(thought=THINK, calls=HERMES, tools=TOOLS),
        f"<think>\nHm, {HERMES_CALL}?\n</think>\n\nSo.\n{HERMES_CALL}",
        Read("So.", (call(),), f"Hm, {HERMES_CALL}?\n"),
    ),
    "the prompt opened the thought": (
        TurnFormat(thought=THINK, thinking=True),
        "Hm.\n</think>\n\nYes.",
        Read("Yes.", reasoning="Hm.\n"),
    ),
    "the prompt opened the thought, and so does the model": (
        TurnFormat(thought=THINK, thinking=True),
        "\n<think>\nHm.</think>Yes.",
        Read("Yes.", reasoning="Hm."),
    ),
    "a thought that never ends": (
        TurnFormat(thought=THINK, thinking=True, calls=HERMES, tools=TOOLS),
        "Hm </thi",
        Read(reasoning="Hm </thi"),
    ),
    "a thought that hardly begins": (TurnFormat(thought=THINK, thinking=True), "<th", Read(reasoning="<th")),
    "no thought": (TurnFormat(thought=THINK), "Yes. <think>", Read("Yes. <think>")),
    "other markers": (
        TurnFormat(thought=CHANNEL),
        "<|channel>thought\nHm.<channel|>Yes.",
        Read("Yes.", reasoning="Hm."),
    ),
    "a call straight behind the thought": (
        TurnFormat(thought=THINK, calls=LLAMA, tools=TOOLS),
        '<think>Hm.</think>\n\n{"name": "now", "parameters": {}}',
        Read(calls=(call("{}", "now"),), reasoning="Hm."),
    ),
    "nothing to look for": (TurnFormat(), f"<think>a</think>{HERMES_CALL}", Read(f"<think>a</think>{HERMES_CALL}")),
}


@pytest.mark.parametrize(("turn", "text", "want"), THOUGHTS.values(), ids=THOUGHTS)
def test_reasoning_comes_first(turn: TurnFormat, text: str, want: Read) -> None:
    same_everywhere(turn, text, want)


def test_a_turn_tells_whether_it_may_hold_reasoning() -> None:
    turns = (TurnFormat(), TurnFormat(thought=THINK), TurnFormat(harmony=True))
    assert [turn.reasoning for turn in turns] == [False, True, True]


def pieces_of(deltas: list[Delta]) -> list[tuple[str | None, str]]:
    return [(piece.name, piece.arguments) for delta in deltas for piece in delta.tool_calls]


def test_a_name_is_told_at_once_and_arguments_as_they_come() -> None:
    parser = TurnFormat(calls=HERMES, tools=TOOLS).parser()
    assert parser.feed('<tool_call>\n{"name": "get_weather", "arguments": ') == []
    assert pieces_of(parser.feed('{"ci')) == [("get_weather", ""), (None, '{"ci')]
    assert pieces_of(parser.feed('ty": "Os')) == [(None, 'ty": "Os')]


def test_values_that_are_text_are_told_as_they_come() -> None:
    parser = TurnFormat(calls=QWEN_TAGS, tools=TOOLS).parser()
    assert pieces_of(parser.feed("<tool_call>\n<function=get_weather>")) == [("get_weather", "")]
    assert pieces_of(parser.feed("\n<parameter=city>\nOs")) == [(None, '{"city": "Os')]


@pytest.mark.parametrize(
    ("syntax", "begin"),
    [
        (HERMES, '<tool_call>{"a": "'),
        (QWEN_TAGS, "<tool_call>"),
        (MISTRAL_NAMED, "[TOOL_CALLS]"),
        (GEMMA, "<|tool_call>"),
    ],
    ids=lambda value: getattr(value, "name", "begin"),
)
def test_what_never_becomes_a_call_is_given_back_before_the_end(syntax: CallSyntax, begin: str) -> None:
    text = begin + "x" * 70_000
    parser = TurnFormat(calls=syntax, tools=TOOLS).parser()
    deltas: list[Delta] = []
    for at in range(0, len(text), 100):
        deltas += parser.feed(text[at : at + 100])
    assert "".join(delta.text for delta in deltas) == text
    assert parser.end() == [] and not parser.called


MANY, PIECE = 60_000, " " * 50
"""Pieces and their length: were each to cost what came before it, this would take many minutes."""
AT_LENGTH = {
    "in a text": (HERMES, "Hm."),
    "at the start": (LLAMA, ""),
    "at the start of a thought": (None, ""),
    "behind a name in a line": (GLM_LINE, "now\n"),
    "in a call": (HERMES, "<tool_call>"),
    "behind an opening brace": (HERMES, "<tool_call>{"),
    "before arguments": (HERMES, '<tool_call>{"name": "now", '),
    "in arguments": (HERMES, '<tool_call>{"name": "now", "arguments": {'),
    "in a text of the arguments": (HERMES, '<tool_call>{"name": "now", "arguments": {"a": "'),
    "between calls": (HERMES, '<tool_call>{"name": "now", "arguments": {}}'),
    "between calls of a list": (MISTRAL_LIST, '[TOOL_CALLS][{"name": "now", "arguments": {}}'),
    "in a name": (MISTRAL_NAMED, "[TOOL_CALLS]now"),
    "behind a name": (DEEPSEEK, "<｜tool▁call▁begin｜>now"),
    "in a key": (QWEN_TAGS, "<tool_call><function=now><parameter="),
    "in a value": (QWEN_TAGS, "<tool_call><function=get_weather><parameter=days>"),
    "in a value that is text": (QWEN_TAGS, "<tool_call><function=get_weather><parameter=city>"),
    "between tags": (GLM_TAGS, "<tool_call>now<arg_key>a</arg_key>"),
    "in a word": (GEMMA, "<|tool_call>call:now{a:1"),
    "in a channel": (HARMONY, "<|channel|>final<|message|>"),
    "in the head of a channel": (HARMONY, "<|channel|>"),
}


@pytest.mark.parametrize("blank", [" ", "\n", "x"])
@pytest.mark.parametrize(("syntax", "begin"), AT_LENGTH.values(), ids=AT_LENGTH)
def test_time_grows_with_the_text_alone_wherever_it_goes_on_and_on(
    syntax: CallSyntax | None, begin: str, blank: str
) -> None:
    turn = TurnFormat(thought=THINK if syntax is None else None, calls=syntax, tools=TOOLS, harmony=syntax is HARMONY)
    parser = turn.parser()
    told = parser.feed(begin)
    for _ in range(MANY):
        told += parser.feed(blank * len(PIECE))
    told += parser.end()
    assert sum(len(delta.text) for delta in told) < MANY * len(PIECE) + 100


MARKS = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|tool_call>",
    "<tool_call|>",
    "call:",
    '<|"|>',
    "<think>",
]
MARKS += [
    "</think>",
    "<function=now>",
    "<parameter=a>",
    "</parameter>",
    "</function>",
    "<arg_key>",
    "</arg_key>",
    "now",
]
MARKS += [
    "<arg_value>",
    "</arg_value>",
    '{"name": "now", "arguments": {"a": 1}}',
    '{"name": "now", "parameters": {}}',
    "{}",
]
MARKS += [
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "analysis",
    "final",
    " to=functions.now",
    "<|tool_call|>",
]
MARKS += [
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    '"',
    "\\",
    "\n",
    " ",
    "é",
]
SOUP = st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=12).map("".join)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@given(text=SOUP, data=st.data())
def test_any_text_reads_the_same_however_it_is_cut(syntax: CallSyntax, text: str, data: st.DataObject) -> None:
    thought = None if syntax is HARMONY else data.draw(st.sampled_from([None, THINK]))
    turn = TurnFormat(thought=thought, calls=syntax, tools=TOOLS, harmony=syntax is HARMONY)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(turn, parts) == read(turn, [text]) == read(turn, list(text))


@pytest.mark.parametrize("syntax", SYNTAXES[:-1], ids=lambda syntax: syntax.name)
@given(text=st.text(alphabet=st.characters(exclude_characters="<[{", codec="utf-8")))
def test_plain_text_passes_as_it_is(syntax: CallSyntax, text: str) -> None:
    assert read(TurnFormat(calls=syntax, tools=TOOLS), [text]) == Read(text)


@pytest.mark.parametrize("syntax", SYNTAXES[:-1], ids=lambda syntax: syntax.name)
@given(text=SOUP)
def test_where_no_call_is_read_no_text_is_lost(syntax: CallSyntax, text: str) -> None:
    got = read(TurnFormat(calls=syntax, tools=TOOLS), [text])
    around = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
    if not got.calls and not any(mark in text for mark in around):
        assert got.text == text
