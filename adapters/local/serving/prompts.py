"""Chat requests to the tokens of a prompt, by the model's own chat template."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

from adapters.canonical import Change, ChatRequest, Message, Tool, ToolCall
from adapters.errors import InvalidRequest
from adapters.local.serving.control_tokens import ControlTokens, Disguise
from adapters.local.serving.conversation import (
    check_parts,
    dump_messages,
    dump_tools,
    in_one_voice,
    one_call_each,
    renumbered,
    with_tools_told,
)
from adapters.local.serving.families import family_of
from adapters.local.serving.turns import TurnFormat

_NINE = re.compile(r"length\s*(?:!=|==|<)\s*9\b")
"""Mistral's templates take no ids of calls but those of nine letters and digits."""
_ONE_CALL = re.compile(r"tool_calls\s*\|\s*length\s*!=\s*1|tool_calls\[0\]")
_TEXT_ARGUMENTS = re.compile(r"\+\s*[\w.\[\]'\"]*\barguments['\"]?\]?\s*\+")
_THINKING = re.compile(r"\.thinking\b|\[['\"]thinking['\"]\]")
"""gpt-oss' templates call so what the others call `reasoning_content`."""
_TOLD_TOOLS = re.compile(r"\[['\"]tools['\"]\]")
_SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates let reasoning be switched on and off."""
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_CODE = re.compile(rf"\{{[{{%](?:{_QUOTED}|[^'\"])*?[%}}]\}}", re.DOTALL)
_KWARGS = "chat_template_kwargs"
_FEW = 8
"""Unread variables that are told one by one."""
_PROBE = "zqprobezq"
_A = Message(role="user", content="a")
_FREE = frozenset(("arguments", "parameters"))
"""What lies in these has keys of the caller's own."""
_FIXED = frozenset(("role", "type"))
"""What lies in these is one of a few words that templates look for."""


class Prompt(NamedTuple):
    ids: list[int]
    turn: TurnFormat
    """How the answer reads that this prompt asks for."""


class Prompts:
    """One model's chat template. `render` may be called by several threads at once."""

    def __init__(
        self, tokenizer: Any, *, stop_ids: frozenset[int] = frozenset(), chat_template: str | None = None
    ) -> None:
        """`tokenizer` is one of transformers', `chat_template` the operator's own in place of the model's.

        Raises ValueError for a tokenizer that is no fast one.
        """
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._template = chat_template
        self._source = _source(chat_template or tokenizer.chat_template)
        self._words = _words(self._source)
        self._family = family_of(self._source)
        self._told_tools = bool(_TOLD_TOOLS.search(self._source)) and not self._reads("tools")
        self._takes_tools = self._told_tools or self._reads("tools")
        self._text_arguments = bool(_TEXT_ARGUMENTS.search(self._source))
        self._thinking = bool(_THINKING.search(self._source))
        self._nine = bool(_NINE.search(self._source))
        self._one_call = bool(_ONE_CALL.search(self._source))
        self._controls = ControlTokens(tokenizer)
        self._switches = tuple(name for name in _SWITCHES if self._reads(name))
        self._reserved = {
            *inspect.signature(tokenizer.apply_chat_template).parameters,
            *tokenizer.special_tokens_map,
            "messages",
        }

    def changes(self, request: ChatRequest) -> tuple[Change, ...]:
        """What of the request this template has no use for, or a cruder one than was asked for."""
        changes: list[Change] = []
        effort = request.reasoning_effort
        if effort is not None and not self._reads("reasoning_effort"):
            if not self._switches:
                changes.append(Change("reasoning_effort", "dropped"))
            elif effort != "none":  # more or less of it cannot be said, on or off can
                changes.append(Change("reasoning_effort", "clamped"))
        if any(turn.name for turn in request.messages if turn.role != "tool") and not self._tells_names:
            changes.append(Change("messages[].name", "dropped"))
        if any(turn.reasoning for turn in request.messages) and not self._tells_reasoning:
            changes.append(Change("messages[].reasoning", "dropped"))
        unread = [name for name in request.chat_template_kwargs or () if not self._reads(name)]
        if len(unread) > _FEW:
            changes.append(Change(_KWARGS, "ignored"))
        else:
            changes += [Change(f"{_KWARGS}.{name[:64]}", "ignored") for name in unread]
        return tuple(changes)

    @cached_property
    def _tells_names(self) -> bool:
        """Whether the name of a turn reaches the model; as its own template shows."""
        named = Message(role="user", content="b", name=_PROBE)
        return self._tells((named,), (_A, Message(role="assistant", content="a", name=_PROBE), named))

    @cached_property
    def _tells_reasoning(self) -> bool:
        """Whether the reasoning of an earlier turn ever reaches the model: in some templates beside a call alone."""
        thought = Message(role="assistant", content="b", reasoning=_PROBE)
        called = Message(role="assistant", reasoning=_PROBE, tool_calls=(ToolCall("000000001", "f", "{}"),))
        result = Message(role="tool", content="c", tool_call_id="000000001")
        return self._tells((_A, thought), (_A, thought, _A), (_A, called, result))

    def _tells(self, *conversations: tuple[Message, ...]) -> bool:
        """Whether the template shows the model the probe in one of these."""
        for messages in conversations:
            with suppress(InvalidRequest):
                turns = self._messages(messages)
                if _PROBE in self._rendered({"messages": turns, "tools": None, "variables": {}}):
                    return True
        return False

    def render(self, request: ChatRequest) -> Prompt:
        """Raises InvalidRequest for what the template does not take: it names the field."""
        tools = request.tools if request.tool_choice != "none" else ()
        if not self._source:
            raise InvalidRequest("This model has no chat template, so it cannot chat.", param="messages")
        if tools and not self._takes_tools:
            raise InvalidRequest(
                "Invalid 'tools': this model's chat template takes none.", param="tools", code="unsupported_parameter"
            )
        messages = self._messages(request.messages)
        if tools and self._told_tools:
            messages = with_tools_told(messages, tools)
        told, variables = dump_tools(tools), self._variables(request)
        try:
            disguise = self._controls.disguise(_strings([messages, told, variables]))
            hidden = {
                "messages": _hidden(messages, disguise),
                "tools": _hidden(told, disguise),
                "variables": {name: disguise.hide(value) for name, value in variables.items()},
            }
        except RecursionError:
            raise InvalidRequest("Invalid 'tools': nested too deeply.", param="tools") from None
        rendered = self._rendered(hidden)
        return Prompt(self._controls.encode(rendered, disguise), self._turn(rendered, tools))

    def _messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The turns, in the form that this template's peculiarities ask for."""
        check_parts(messages)
        if self._nine:
            messages = renumbered(messages)
        if self._one_call:
            messages = one_call_each(messages)
        if self._family.harmony:
            messages = in_one_voice(messages)
        turns = dump_messages(messages, self._family.thought, text_arguments=self._text_arguments)
        if self._thinking:
            turns = [
                turn | {"thinking": turn["reasoning_content"]} if "reasoning_content" in turn else turn
                for turn in turns
            ]
        return turns

    def _rendered(self, given: dict[str, Any]) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                given["messages"],
                tools=given["tools"] or None,
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
                **given["variables"],
            )
        except Exception as exc:  # noqa: BLE001 - a template is a program that meets the caller's values
            raise InvalidRequest(
                f"Invalid 'messages': the model's chat template refuses them{self._reason(exc)}.", param="messages"
            ) from None
        assert isinstance(text, str)
        return text

    def _reason(self, exc: Exception) -> str:
        """The template's own words, if they are its own: they might quote the conversation."""
        words = str(exc).strip()
        return f": {words.rstrip('.')}" if words and words in self._source else ""

    def _turn(self, rendered: str, tools: tuple[Tool, ...]) -> TurnFormat:
        thought = self._family.thought
        calls = self._family.calls if tools else None
        texts = [*(self._family.calls.markers if calls or self._family.harmony else ())]
        if thought is not None:
            texts += [thought.open, thought.close]
        return TurnFormat(
            thought=thought,
            thinking=thought is not None and rendered.rstrip().endswith(thought.open.rstrip()),
            calls=calls,
            tools=tools,
            harmony=self._family.harmony,
            marker_ids=self._controls.ids_of(texts) - self._stop_ids,
        )

    # ---------------------------------------------------------------- variables

    def _variables(self, request: ChatRequest) -> dict[str, Any]:
        """What the template is told beside the turns. The caller's own variables go before the effort's."""
        variables: dict[str, Any] = {}
        if request.reasoning_effort is not None:
            variables |= dict.fromkeys(self._switches, request.reasoning_effort != "none")
            variables["reasoning_effort"] = request.reasoning_effort
        for name, value in (request.chat_template_kwargs or {}).items():
            self._check_variable(name, value)
            variables[name] = value
        return variables

    def _check_variable(self, name: str, value: Any) -> None:
        if not name.isidentifier() or name.startswith("_") or name in self._reserved:
            raise InvalidRequest(f"Invalid '{_KWARGS}': it may not set {name[:100]!r}.", param=_KWARGS)
        if name in _SWITCHES and not isinstance(value, bool):
            at = f"{_KWARGS}.{name}"
            raise InvalidRequest(f"Invalid '{at}': must be true or false.", param=at)

    def _reads(self, variable: str) -> bool:
        return variable in self._words


def _source(template: Any) -> str:
    """The text of all templates: some models have a second one for tools."""
    return "\n".join(template.values()) if isinstance(template, dict) else template or ""


def _words(template: str) -> frozenset[str]:
    """What the template does, as the words of it that may be names of variables, without what it says."""
    code = " ".join(re.sub(_QUOTED, "", block, flags=re.DOTALL) for block in _CODE.findall(template))
    return frozenset(re.findall(r"(?<![.\w])\w+", code))


def _strings(value: Any) -> list[str]:
    """All strings in a JSON value, keys among them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []


def _hidden(value: Any, disguise: Disguise) -> Any:
    """Turns or tools with stand-ins in what the caller wrote, and in nothing that templates look for: a special token
    may be called `role`, or begin with the `_` of `tool_calls`."""
    if isinstance(value, list):
        return [_hidden(item, disguise) for item in value]
    if not isinstance(value, dict):
        return disguise.hide(value)
    return {
        key: item if key in _FIXED else disguise.hide(item) if key in _FREE else _hidden(item, disguise)
        for key, item in value.items()
    }
