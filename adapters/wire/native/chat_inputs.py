"""Text generation's native input, to canonical: `prompt` or `messages`, and all that may stand beside them.

Sources: Cloudflare's OpenAPI document (2024-08) for the ranges of the older models, its binding types
(cloudflare/workerd, 2026-08) for the rest. The fields that OpenAI has too are read by the same code as OpenAI's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from adapters.canonical import ChatRequest, ImagePart, Message, TextPart
from adapters.errors import InvalidRequest
from adapters.wire.json_text import encode
from adapters.wire.mismatch import refusal
from adapters.wire.native.blob import read_blob
from adapters.wire.native.tools import offer_of, refuse_any, refuse_descriptions
from adapters.wire.native.turns import link_turns
from adapters.wire.openai_request import INSIDE, read_chat_body
from adapters.wire.openai_types import FIELDS, MOST_TOOLS, MOST_TURNS, ChatBody, Function
from adapters.wire.validation import decode, in_range, whole

DEFAULT_MAX_TOKENS = 256
"""What the older models are cut at unless told otherwise."""
BOUNDS: Mapping[str, tuple[int, int]] = {
    "temperature": (0, 5),
    "top_p": (0, 2),
    "top_k": (1, 50),
    "seed": (1, 9_999_999_999),
    "repetition_penalty": (0, 2),
    "frequency_penalty": (0, 2),
    "presence_penalty": (0, 2),
}
"""The ranges of the older models, both ends included."""
WHOLE = ("top_k", "seed")
VERDICT = "response_verdict"
"""The `native_result` of a safety model, which takes a dialogue alone: texts of these roles."""
DIALOGUE = ("user", "assistant")

Prompt = Annotated[str, msgspec.Meta(min_length=1, max_length=131_072)]
_AnyPrompt = Annotated[str, msgspec.Meta(min_length=1)]
InputKey = Literal["messages", "prompt"]
_Key = Literal["messages", "prompt", "input"]
_KEYS: Mapping[str, tuple[_Key, ...]] = {
    "openai_chat_or_responses": ("messages", "prompt", "input"),
    VERDICT: ("messages",),
}
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_NATIVE = frozenset(("raw", "image", "guided_json"))
_FLAGS = {"true": True, "false": False}
_MAGIC = {b"\x89PNG": "image/png", b"GIF8": "image/gif", b"RIFF": "image/webp"}


class NativeChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat, and what the form of its answer depends on: the input that was used, and whether it was `raw`."""

    request: ChatRequest
    input_key: InputKey
    raw: bool = False


class NativeResponsesRequest(msgspec.Struct, frozen=True):
    """GPT-OSS asked by `input`: the body is one of the Responses API and names the model."""

    body: bytes


def response_shaped(native_result: str | None) -> bool:
    """Whether the model answers with `{"response"}` and takes the older schema; a model not known does not."""
    return native_result is not None and native_result.startswith("response")


def parse_chat_inputs(
    body: bytes | dict[str, Any], *, model: str, native_result: str | None, vllm: bool = False
) -> NativeChatRequest | NativeResponsesRequest:
    """The native input of the model `model`, which vLLM may run. Raises InvalidRequest naming the field.

    `body` is JSON, or what came out of it. A `model` inside it counts for nothing: the path names the model.
    """
    if isinstance(body, bytes):
        body = decode(body if body.strip() else b"{}", _OBJECT)
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected an object.", code="invalid_type")
    try:
        return _read(body, model, native_result, vllm=vllm)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None


def _read(
    fields: dict[str, Any], model: str, native_result: str | None, *, vllm: bool
) -> NativeChatRequest | NativeResponsesRequest:
    given = {name: value for name, value in fields.items() if value is not None}
    key = _input_key(given, _KEYS.get(native_result or "", ("messages", "prompt")))
    if key == "input":
        whole = {name: value for name, value in given.items() if not (name == "stream" and value is True)}
        return NativeResponsesRequest(encode({**whole, "model": model}))  # which is never streamed there
    offer = offer_of(given)
    refuse_descriptions(offer)
    if vllm:
        refuse_any(offer)
    if "reasoning_effort" in fields and "reasoning_effort" not in given:
        given["reasoning_effort"] = "none"  # here null says: do not think
    older = response_shaped(native_result)
    raw = _raw(given.get("raw"))
    unknown = [name[:64] for name in given if name not in FIELDS and name not in _NATIVE]
    unknown += _unknown_inside(given)
    unknown += ["history"] if "history" in given else []
    unknown += ["n"] if older and given.get("n", 1) != 1 else []
    wire = _chat_body(given, key, model, older=older)
    if native_result == VERDICT:
        unknown += ["prompt"] if "prompt" in given else []
        _check_dialogue(wire)
    request = _bounded(wire, tuple(unknown)) if older else read_chat_body(wire, tuple(unknown))
    if raw:
        request = msgspec.structs.replace(request, unsupported=(*request.unsupported, "raw"))
    if "image" in given:
        request = msgspec.structs.replace(request, messages=_with_image(request.messages, given["image"]))
    return NativeChatRequest(request=request, input_key=key, raw=raw)


def _unknown_inside(given: dict[str, Any]) -> list[str]:
    """What is not known inside of fields whose own types are checked later."""
    return [
        f"{name}.{key[:64]}"
        for name, known in INSIDE.items()
        if isinstance(inner := given.get(name), dict)
        for key, value in inner.items()
        if key not in known and value is not None
    ]


def _input_key(given: dict[str, Any], allowed: tuple[_Key, ...]) -> _Key:
    present = [key for key in allowed if key in given]
    if len(present) == 1:
        return present[0]
    names = " or ".join(f"'{key}'" for key in allowed)
    if present:
        raise InvalidRequest(f"oneOf at '/' not met: give only one of {names}.", param=present[1])
    choice = "oneOf at '/' not met: " if len(allowed) > 1 else ""
    raise InvalidRequest(
        f"{choice}required properties missing: {names}.",
        param="messages",
        code="missing_required_parameter",
    )


def _raw(value: Any) -> bool:
    """Cloudflare's own example of it is the text "true"."""
    flag = _FLAGS.get(value, value) if isinstance(value, str) else value
    if not isinstance(flag, bool | None):
        raise InvalidRequest("Invalid type for 'raw': expected a boolean.", param="raw", code="invalid_type")
    return bool(flag)


def _chat_body(given: dict[str, Any], key: InputKey, model: str, *, older: bool) -> ChatBody:
    """The input in OpenAI's form. Raises InvalidRequest where a type is wrong."""
    left_out = {"prompt", "history", "functions", *_NATIVE, *(("n",) if older else ())}
    body = {name: value for name, value in given.items() if name not in left_out}
    body["model"] = model
    if key == "prompt":
        body["messages"] = [{"role": "user", "content": _prompt(given["prompt"], older=older)}]
    else:
        body["messages"] = link_turns(_not_too_long(given, "messages", MOST_TURNS))
    _not_too_long(given, "tools", MOST_TOOLS)
    _not_too_long(given, "functions", MOST_TOOLS)
    if "tools" in given or "functions" in given:
        body["tools"] = _tools(given, "tools" if "tools" in given else "functions")
    if "guided_json" in given and "response_format" not in given:
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": given["guided_json"]}}
    try:
        return msgspec.convert(body, ChatBody)
    except msgspec.ValidationError as exc:
        raise refusal(exc, body, ChatBody) from None


def _check_dialogue(wire: ChatBody) -> None:
    """Raises InvalidRequest for turns that a safety model's schema does not have.

    That the two take turns, its description says too; no schema can, and what Cloudflare answers is not known.
    """
    for i, turn in enumerate(wire.messages or ()):
        at = f"messages[{i}]"
        if turn.role not in DIALOGUE:
            raise InvalidRequest(f"Invalid value for '{at}.role': expected 'user' or 'assistant'.", param=f"{at}.role")
        if not isinstance(turn.content, str):
            message = f"Invalid type for '{at}.content': expected a string."
            raise InvalidRequest(message, param=f"{at}.content", code="invalid_type")


def _not_too_long(given: dict[str, Any], name: str, most: int) -> Any:
    """The field, of which no more is read than can be; its type is somebody else's to check."""
    value = given.get(name)
    if isinstance(value, list) and len(value) > most:
        raise InvalidRequest(
            f"Invalid '{name}': array too long. Expected at most {most} items, but got {len(value)} instead.",
            param=name,
            code="array_above_max_length",
        )
    return value


def _prompt(value: Any, *, older: bool) -> str:
    kind = Prompt if older else _AnyPrompt
    try:
        prompt: str = msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise refusal(exc, value, kind, at="prompt") from None
    return prompt


def _tools(given: dict[str, Any], at: str) -> Any:
    """Tools of either form, and the older `functions` (whose `code` runs at the client), in OpenAI's form."""
    items = given[at]
    if not isinstance(items, list):
        raise InvalidRequest(f"Invalid type for '{at}': expected an array.", param=at, code="invalid_type")
    return [_tool(item, f"{at}[{i}]") for i, item in enumerate(items)]


def _tool(item: Any, at: str) -> Any:
    if isinstance(item, dict) and "function" in item:
        return item
    try:
        function = msgspec.convert(item, Function)
    except msgspec.ValidationError as exc:
        raise refusal(exc, item, Function, at=at) from None
    if not function.name:
        raise InvalidRequest(f"Invalid '{at}.name': empty string.", param=f"{at}.name")
    return {"type": item.get("type") or "function", "function": item}


def _bounded(wire: ChatBody, unknown: tuple[str, ...]) -> ChatRequest:
    """Read with the older models' ranges, which lie otherwise than OpenAI's."""
    request = read_chat_body(msgspec.structs.replace(wire, **dict.fromkeys(BOUNDS)), unknown)
    within = {
        name: (whole if name in WHOLE else in_range)(getattr(wire, name), name, low, high)
        for name, (low, high) in BOUNDS.items()
    }
    limit = request.max_tokens if request.max_tokens is not None else DEFAULT_MAX_TOKENS
    return msgspec.structs.replace(request, max_tokens=limit, **within)


def _with_image(messages: tuple[Message, ...], value: Any) -> tuple[Message, ...]:
    """The image beside the messages as a part of the user's last turn."""
    image = ImagePart(_data_uri(value))
    last = max((i for i, message in enumerate(messages) if message.role == "user"), default=None)
    if last is None:
        raise InvalidRequest("Invalid 'image': there is no user message that it belongs to.", param="image")
    content = messages[last].content
    parts = (TextPart(content),) if isinstance(content, str) else content
    turn = msgspec.structs.replace(messages[last], content=(*parts, image))
    return (*messages[:last], turn, *messages[last + 1 :])


def _data_uri(value: Any) -> str:
    try:
        data = read_blob(value)
    except ValueError as exc:
        raise InvalidRequest(f"Invalid 'image': {exc}.", param="image") from None
    if not data:
        raise InvalidRequest("Invalid 'image': there are no bytes in it.", param="image")
    if isinstance(value, str) and value.startswith("data:"):
        return value
    return f"data:{_MAGIC.get(data[:4], 'image/jpeg')};base64,{base64.b64encode(data).decode()}"
