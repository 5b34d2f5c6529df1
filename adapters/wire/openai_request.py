"""OpenAI's chat request, to canonical: every field checked, an error names the one at fault.

Source: OpenAI's API reference and what its clients of 2026-10 were seen to send.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from adapters.canonical import (
    ChatRequest,
    JsonFormat,
)
from adapters.errors import InvalidRequest
from adapters.wire.openai_messages import read_messages
from adapters.wire.openai_tools import read_tool, read_tool_choice, read_tools
from adapters.wire.openai_types import (
    FIELDS,
    CallOptions,
    ChatBody,
    ResponseFormat,
)
from adapters.wire.validation import decode, decode_repaired, in_range, whole

OLD_FORM_MODEL = "default"
"""What a body of the older form asks for when it names no model."""

_BODY = msgspec.json.Decoder(ChatBody)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_INT64 = 2**63
_NEVER = 2**31 - 1

RANGES: Mapping[str, tuple[int, int]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 100),
}
"""Of the numbers, both ends included."""
WHOLE_RANGES: Mapping[str, tuple[int, int]] = {
    "max_completion_tokens": (1, _NEVER),
    "max_tokens": (1, _NEVER),
    "top_k": (-1, _NEVER),  # engines write "off" as 0 or as -1
    "seed": (-_INT64, _INT64 - 1),
    "n": (1, 128),
    "top_logprobs": (0, 20),
}
"""Of the whole numbers, both ends included."""
INSIDE: Mapping[str, frozenset[str]] = {
    "options": frozenset(field.encode_name for field in msgspec.structs.fields(CallOptions)),
    "reasoning": frozenset(("effort", "enabled", "max_tokens", "exclude")),  # OpenAI's, and three of OpenRouter's
}
"""The fields that are known inside of fields."""


def parse_chat_request(body: bytes) -> ChatRequest:
    """A request body to canonical. Raises InvalidRequest naming the field."""
    wire, body = decode_repaired(body, _BODY)
    return read_chat_body(wire, _unknown_fields(body, wire))


def _unknown_fields(body: bytes, wire: ChatBody) -> tuple[str, ...]:
    known = FIELDS if wire.messages is None else FIELDS - {"prompt", "history"}
    given = decode(body, _KEYS)
    unknown = [key[:64] for key, value in given.items() if key not in known and bytes(value) != b"null"]
    for name, inside in INSIDE.items():
        if getattr(wire, name) is not None:
            unknown += _inside(name, decode(bytes(given[name]), _KEYS), inside)
    return tuple(unknown)


def _inside(name: str, given: dict[str, msgspec.Raw], known: Collection[str]) -> list[str]:
    return [f"{name}.{key[:64]}" for key, value in given.items() if key not in known and bytes(value) != b"null"]


def _unsupported(wire: ChatBody) -> tuple[str, ...]:
    """What was given, can alter the answer, and is honoured by nothing here."""
    reasoning = wire.reasoning or {}
    effort = reasoning.get("effort")
    given = {
        "verbosity": wire.verbosity is not None,
        "web_search_options": wire.web_search_options is not None,
        "reasoning.enabled": reasoning.get("enabled") is not None,
        "reasoning.max_tokens": reasoning.get("max_tokens") is not None,
        "reasoning.exclude": bool(reasoning.get("exclude")),
        "reasoning.effort": None not in (effort, wire.reasoning_effort) and effort != wire.reasoning_effort,
        "functions": bool(wire.tools and wire.functions),
        "function_call": wire.tool_choice is not None and wire.function_call is not None,
        "messages[].reasoning": any(
            turn.reasoning and not isinstance(turn.reasoning, str) for turn in wire.messages or ()
        ),
    }
    return tuple(name for name, is_given in given.items() if is_given)


def read_chat_body(wire: ChatBody, unknown: tuple[str, ...]) -> ChatRequest:
    """A body whose types have been checked to canonical. Raises InvalidRequest naming the field."""
    legacy = wire.functions is not None
    tools = read_tools(wire.tools or (), "tools")
    if legacy and not tools:
        tools = tuple(read_tool(function, f"functions[{i}]") for i, function in enumerate(wire.functions or ()))
    choice, tools = read_tool_choice(wire, tools)
    _refuse_audio(wire)
    limit = "max_completion_tokens" if wire.max_completion_tokens is not None else "max_tokens"
    return ChatRequest(
        model=_model(wire),
        messages=read_messages(wire),
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        max_tokens=_whole(wire, limit),
        temperature=_number(wire, "temperature"),
        top_p=_number(wire, "top_p"),
        top_k=_top_k(wire),
        min_p=_number(wire, "min_p"),
        seed=_whole(wire, "seed"),
        frequency_penalty=_number(wire, "frequency_penalty"),
        presence_penalty=_number(wire, "presence_penalty"),
        repetition_penalty=_number(wire, "repetition_penalty"),
        stop=_stop(wire.stop),
        n=_n(wire),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        legacy_functions=legacy and not wire.tools,
        response_format=_response_format(wire.response_format),
        logprobs=bool(wire.logprobs),
        top_logprobs=_top_logprobs(wire),
        logit_bias=_logit_bias(wire),
        reasoning_effort=_reasoning_effort(wire),
        chat_template_kwargs=wire.chat_template_kwargs or None,
        lora=wire.lora,
        reject_if_busy=bool(wire.options and wire.options.rejectIfBusy),
        affinity=wire.prompt_cache_key or wire.user,
        unsupported=_unsupported(wire),
        unknown=unknown,
    )


def _model(wire: ChatBody) -> str:
    if wire.model is not None and wire.model.strip():
        return wire.model
    if wire.model is None and wire.messages is None and wire.prompt is not None:
        return OLD_FORM_MODEL
    raise InvalidRequest("You must provide a model parameter.", param="model", code="missing_required_parameter")


def _number(wire: ChatBody, name: str) -> float | None:
    return in_range(getattr(wire, name), name, *RANGES[name])


def _whole(wire: ChatBody, name: str) -> int | None:
    return whole(getattr(wire, name), name, *WHOLE_RANGES[name])


def _top_k(wire: ChatBody) -> int | None:
    count = _whole(wire, "top_k")
    return count if count and count > 0 else None


def _n(wire: ChatBody) -> int:
    n = _whole(wire, "n") or 1
    if n > 1 and wire.stream:
        raise InvalidRequest("A stream carries one answer: 'n' must be 1 when 'stream' is true.", param="n")
    return n


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > 4:
        raise InvalidRequest(
            f"Invalid 'stop': array too long. Expected at most 4 items, but got {len(stops)} instead.",
            param="stop",
            code="array_above_max_length",
        )
    return tuple(text for text in stops if text)


def _top_logprobs(wire: ChatBody) -> int | None:
    count = _whole(wire, "top_logprobs")
    if count and not wire.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    return count


def _logit_bias(wire: ChatBody) -> dict[str, float] | None:
    for token, bias in (wire.logit_bias or {}).items():
        if not -100 <= bias <= 100:  # its name is only made where it is told: there may be thousands
            in_range(bias, f"logit_bias.{token[:32]}", -100, 100)
    return wire.logit_bias or None


def _reasoning_effort(wire: ChatBody) -> str | None:
    if wire.reasoning_effort is not None:
        return wire.reasoning_effort
    effort = (wire.reasoning or {}).get("effort")
    if effort is not None and not isinstance(effort, str):
        raise InvalidRequest(
            "Invalid type for 'reasoning.effort': expected a string.", param="reasoning.effort", code="invalid_type"
        )
    return effort


def _refuse_audio(wire: ChatBody) -> None:
    if wire.modalities and "audio" in wire.modalities:
        raise InvalidRequest("Only the modality 'text' is available for chat.", param="modalities")


def _response_format(wire: ResponseFormat | None) -> JsonFormat | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return JsonFormat()
    if wire.type != "json_schema":
        raise InvalidRequest(
            "Invalid value for 'response_format.type': supported values are 'text', 'json_object' and 'json_schema'.",
            param="response_format.type",
        )
    body = wire.json_schema
    if not body:
        raise InvalidRequest(
            "Missing required parameter: 'response_format.json_schema'.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
    # Cloudflare's own documentation puts the bare schema here; OpenAI's has it one level down.
    schema = body.get("schema", body if "name" not in body else None)
    if not isinstance(schema, dict):
        raise InvalidRequest(
            "Invalid 'response_format.json_schema.schema': expected a JSON Schema object.",
            param="response_format.json_schema.schema",
            code="missing_required_parameter" if schema is None else "invalid_type",
        )
    if schema is body:
        return JsonFormat(schema=schema)
    name, strict = body.get("name"), body.get("strict")
    return JsonFormat(
        name=name if isinstance(name, str) else None, schema=schema, strict=strict if isinstance(strict, bool) else None
    )
