"""One function behind every entrance: a model's native input to its answer, whatever backend has the model."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from adapters.base import Call, EventStream
from adapters.canonical import (
    Change,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    Finish,
    Media,
    NativeResult,
    Usage,
)
from adapters.catalogue import Catalogue, Model
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.neurons import neurons_of
from adapters.wire import sse
from adapters.wire.json_text import NotJson, decode_repaired, encode, loads
from adapters.wire.native import inputs as types
from adapters.wire.native import results
from adapters.wire.native.blob import Blob
from adapters.wire.native.chat_answer import dump_native_chat
from adapters.wire.native.chat_inputs import (
    NativeChatRequest,
    NativeResponsesRequest,
    parse_chat_inputs,
    response_shaped,
)
from adapters.wire.native.chat_stream import ChatChunkStreamEncoder, ResponseStreamEncoder
from adapters.wire.native.forms import Form, form_of
from adapters.wire.native.multipart import fields_of, parse_multipart
from adapters.wire.native.payload import Payload, read_inputs
from adapters.wire.native.tools import offer_in, refuse_any, refuse_descriptions
from adapters.wire.openai_answer import Stamp
from adapters.wire.openai_chat import ChatStreamEncoder, dump_chat_result, parse_chat_request
from adapters.wire.openai_embeddings import dump_embedding_result, parse_embedding_request
from adapters.wire.openai_responses import ID_PREFIX, dump_responses_result, parse_responses_request
from adapters.wire.workers_ai_codes import words_of
from wrangler_compat.answers import Binary, Inferred, Json, Stream, Through, Whole, known
from wrangler_compat.batch import Batches
from wrangler_compat.lora import Adapters
from wrangler_compat.naming import no_such_model, not_for_task, resolved
from wrangler_compat.seams import Forward, Headers

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FOR_RESPONSES = "openai_chat_or_responses"
_DESCRIBER = "@cf/llava-hf/llava-1.5-7b-hf"
_SCHEMA_IN_STREAM = 5023


class Backend(Protocol):
    """Every model of the catalogue, whoever has it. All raise RelayError."""

    def chat(self, request: ChatRequest, call: Call) -> Awaitable[ChatResult]: ...

    def stream_chat(self, request: ChatRequest, call: Call) -> AbstractAsyncContextManager[EventStream]: ...

    def embed(self, request: EmbeddingRequest, call: Call) -> Awaitable[EmbeddingResult]: ...

    def run_task(self, model: Model, inputs: Any, call: Call) -> Awaitable[NativeResult]: ...


class ForwardOf(Protocol):
    """How to reach the Cloudflare that has a model; `None` for a model that another backend answers for."""

    def __call__(self, model: Model) -> Forward | None: ...


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One run as an entrance took it in.

    `model` is any name that the catalogue knows. `query` and `headers` are for Cloudflare, if the request goes there;
    `queue` says that a batch is meant, `owner` whose it is.
    """

    model: str
    payload: Payload
    query: bytes = b""
    headers: Headers = ()
    queue: bool = False
    owner: str = ""


class Runner:
    """Runs models. One instance serves all entrances.

    `check` raises RelayError for a model that shall not be run, before anybody looks at its input: Cloudflare tells
    of a retired model even if the input is wrong too. `adapters` are the LoRA adapters that chats can name; without
    them nobody asks, and neither does anybody where Cloudflare has the model: it has its own.
    """

    def __init__(
        self,
        catalogue: Callable[[], Catalogue],
        backend: Backend,
        forward_of: ForwardOf,
        check: Callable[[Model], object] = lambda model: None,
        adapters: Adapters | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._backend = backend
        self._forward_of = forward_of
        self._check = check
        self._adapters = adapters
        self.batches = Batches(self.infer)

    def run(self, ask: Ask, call: Call) -> Inferred:
        """What will answer; nothing is asked of any backend before it is sent. Raises RelayError."""
        model = self.model(ask.model)
        call.model = model.id
        forward = self._forward_of(model)
        if forward is not None:
            path = f"run/{quote(model.id, safe='@/')}"
            return Through(forward("POST", path, ask.query, ask.headers, ask.payload.body, call))
        if model.status == "unknown":
            raise no_such_model(self._catalogue(), ask.model)
        self._check(model)
        batch = self._batch(model, ask)
        return known(batch) if batch is not None else self.infer(model, ask.payload, call)

    def model(self, name: str) -> Model:
        """The model of a name as callers write it. Raises RelayError if it fits none, or several."""
        return resolved(self._catalogue(), name)

    def knows(self, name: str) -> bool:
        """Whether there is a model of this name, or several."""
        try:
            self.model(name)
        except RelayError as exc:
            return exc.fault is not Fault.MODEL_NOT_FOUND
        return True

    def infer(self, model: Model, payload: Payload, call: Call) -> Inferred:
        """One input to one answer, of a backend that is not Cloudflare. Raises InvalidRequest naming the field."""
        if model.native_result == "websocket":
            raise InvalidRequest(f"The model '{model.id}' speaks over a WebSocket alone, which is not emulated.")
        if model.is_chat:
            return self._chat(model, payload, call)
        form = form_of(model.native_result, model.task, model.input_kinds)
        if form is None:
            raise not_for_task(model.id)
        return self._task(model, form, payload, call)

    async def describe(self, image: bytes, media_type: str, language: str) -> str:
        """What an image shows, for documents that become Markdown. Raises RelayError."""
        asked = types.DescriptionInputs(image=Blob(image), prompt=f"Describe this image. Language: {language}.")
        result = await self._backend.run_task(self.model(_DESCRIBER), asked, Call("tomarkdown"))
        description: str = result.value.description
        return description

    def _not_for_responses(self, name: str) -> RelayError:
        served = " and ".join(m.id for m in self._catalogue() if m.native_result == _FOR_RESPONSES and not m.is_retired)
        return not_for_task(name, f": ai/v1/responses serves {served} alone")

    def _offered(self, name: str) -> Model:
        """The model; one that only Cloudflare can know counts where Cloudflare answers. Raises RelayError."""
        model = self.model(name)
        if model.status == "unknown" and self._forward_of(model) is None:
            raise no_such_model(self._catalogue(), name)
        return model

    def _batch(self, model: Model, ask: Ask) -> Json | None:
        """The answer to a batch's submission or to a question for one; `None` for what is neither.

        The question is known by its one field: the binding asks it without a flag.
        """
        if not ask.queue and b'"request_id"' not in ask.payload.body:
            return None
        try:
            fields = decode_repaired(ask.payload.body, _FIELDS.decode)[0]
            id = loads(fields["request_id"]) if "request_id" in fields else None
        except (NotJson, msgspec.ValidationError):
            return None  # whoever reads it for the model says what is wrong
        if ask.queue and "requests" in fields:
            return self.batches.submit(model, ask.payload.body, ask.owner)
        if isinstance(id, str) and (ask.queue or set(fields) <= {"request_id", "options"}):
            return self.batches.poll(id, ask.owner, model)
        return None

    # ------------------------------------------------------------ OpenAI's forms

    def openai_chat(self, body: bytes, call: Call) -> Inferred:
        """`/v1/chat/completions`. Raises InvalidRequest naming the field."""
        offer = offer_in(body)
        refuse_descriptions(offer)
        request = parse_chat_request(body)
        model = self._offered(request.model)
        stamp = _stamp(request.model, "chatcmpl-")
        if model.vllm and self._forward_of(model) is None:
            refuse_any(offer)
        if request.stream:
            events = _priced_events(self._events(request, model, call), model, call)
            return Stream(ChatStreamEncoder(request, stamp), events)

        async def work() -> Json:
            result = _priced(await self._backend.chat(await self._fitted(request, model), call), model, call)
            return _json(dump_chat_result(result, request, stamp), model, result.usage)

        return Whole(work)

    def openai_embeddings(self, body: bytes, call: Call) -> Whole:
        """`/v1/embeddings`. Raises InvalidRequest naming the field."""
        wish = parse_embedding_request(body)
        model = self._offered(wish.request.model)

        async def work() -> Json:
            result = await self._backend.embed(wish.request, call)
            return _json(dump_embedding_result(result, wish, wish.request.model), model, result.usage)

        return Whole(work)

    def openai_responses(self, body: bytes, call: Call) -> Whole:
        """`/v1/responses`, which Cloudflare has for GPT-OSS alone and never streams. Raises RelayError."""
        name = parse_responses_request(body).model
        model = self.model(name)
        if model.native_result != _FOR_RESPONSES:
            raise self._not_for_responses(name)
        return Whole(lambda: self._responses(model, body, call))

    # ------------------------------------------------------------ chat

    def _chat(self, model: Model, payload: Payload, call: Call) -> Inferred:
        asked = parse_chat_inputs(
            _chat_fields(payload), model=model.id, native_result=model.native_result, vllm=bool(model.vllm)
        )
        if isinstance(asked, NativeResponsesRequest):
            return Whole(lambda: self._responses(model, asked.body, call))
        if not asked.request.stream:
            return Whole(lambda: self._whole_chat(model, asked, call))
        events = self._events(asked.request, model, call)
        padding = secrets.randbelow(64)
        if response_shaped(model.native_result):
            _refuse_schema(asked.request, model)
            encoder = ResponseStreamEncoder(_stamp(model.id), padding=padding)
            return Stream(encoder, events)
        priced = _priced_events(events, model, call)
        return Stream(ChatChunkStreamEncoder(_stamp(model.id), padding=padding), priced)

    async def _fitted(self, request: ChatRequest, model: Model) -> ChatRequest:
        """With the adapter that it names, by its one name. Raises RelayError for one that the model cannot use."""
        if not request.lora or self._adapters is None or self._forward_of(model) is not None:
            return request
        return await self._adapters.fitted(request, model, request.lora)

    @asynccontextmanager
    async def _events(self, request: ChatRequest, model: Model, call: Call) -> AsyncIterator[EventStream]:
        async with self._backend.stream_chat(await self._fitted(request, model), call) as batches:
            yield batches

    async def _whole_chat(self, model: Model, asked: NativeChatRequest, call: Call) -> Json:
        request = await self._fitted(asked.request, model)
        result = _priced(await self._backend.chat(request, call), model, call)
        body = dump_native_chat(result, asked, native_result=model.native_result, stamp=_stamp(model.id))
        return _json(body, model, result.usage)

    async def _responses(self, model: Model, body: bytes, call: Call) -> Json:
        request = parse_responses_request(body)
        result = _priced(await self._backend.chat(request, call), model, call)
        return _json(dump_responses_result(result, request, _stamp(model.id, ID_PREFIX)), model, result.usage)

    # ------------------------------------------------------------ everything else

    def _task(self, model: Model, form: Form, payload: Payload, call: Call) -> Inferred:
        reading = read_inputs(form, payload)
        answer = self._answer(model, reading.inputs, call)
        ignored = tuple(Change(name, "ignored") for name in reading.unknown)

        async def work() -> Json | Binary:
            call.replaced = ignored  # here, for a list of entries is read before any of them is tried
            return await answer.work()

        return Whole(work)

    def _answer(self, model: Model, inputs: types.Inputs, call: Call) -> Whole:
        match inputs:
            case types.EmbeddingInputs(text=text):
                return Whole(lambda: self._embed(model, text, call, pooling=inputs.pooling))
            case types.QueryEmbeddingInputs():
                texts = inputs.text or inputs.documents or inputs.queries or []
                asking = inputs.queries is not None
                return Whole(lambda: self._embed(model, texts, call, instruction=inputs.instruction, query=asking))
            case types.EmbeddingOrScoreInputs(query=None, text=str() | list() as text):
                return Whole(lambda: self._embed(model, text, call, truncate=bool(inputs.truncate_inputs)))
            case types.EmbeddingOrScoreInputs(query=None, contexts=list() as contexts):
                cut = bool(inputs.truncate_inputs)
                return Whole(lambda: self._embed_contexts(model, contexts, call, truncate=cut))
            case types.MoondreamInputs(stream=True, task="query" | "caption"):
                return Whole(lambda: self._framed(model, inputs, call))
        return Whole(lambda: self._run_task(model, inputs, call))

    async def _embed(self, model: Model, text: str | list[str], call: Call, **fields: Any) -> Json:
        result = await self._backend.embed(_embedding(model, text, **fields), call)
        shown = results.Embeddings(shape=_shape(result), data=result.vectors, pooling=result.pooling)
        return _json(encode(shown), model, result.usage)

    async def _embed_contexts(self, model: Model, contexts: list[types.Context], call: Call, *, truncate: bool) -> Json:
        """bge-m3's other form: its embeddings of contexts are called `response`."""
        asked = _embedding(model, [context.text for context in contexts], truncate=truncate)
        result = await self._backend.embed(asked, call)
        shown = results.ContextEmbeddings(response=result.vectors, shape=_shape(result), pooling=result.pooling)
        return _json(encode(shown), model, result.usage)

    async def _run_task(self, model: Model, inputs: types.Inputs, call: Call) -> Json | Binary:
        result = await self._backend.run_task(model, inputs, call)
        if isinstance(result.value, Media):
            return Binary(result.value, neurons_of(model, result.usage))
        return _json(encode(result.value), model, result.usage)

    async def _framed(self, model: Model, inputs: types.Inputs, call: Call) -> Binary:
        """Moondream's stream, which is its default. Its pieces are not established: here the answer is one."""
        result = await self._backend.run_task(model, inputs, call)
        frames = sse.dump_data(encode(result.value)) + sse.dump_data(sse.DONE)
        return Binary(Media(frames, "text/event-stream"), neurons_of(model, result.usage))


_ACCOUNTS = frozenset(("cloudflare", "simulator"))


def _chat_fields(payload: Payload) -> bytes | dict[str, Any]:
    """The fields of a chat: JSON as it is, those of a form, or an image beside the rest."""
    kind = payload.content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return {**payload.params, **fields_of(parse_multipart(payload.body, payload.content_type))}
    if kind.startswith("image/"):
        return {**payload.params, "image": base64.b64encode(payload.body).decode()}
    return payload.body


def _embedding(model: Model, text: str | list[str], **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest(model=model.id, texts=(text,) if isinstance(text, str) else tuple(text), **fields)


def _shape(result: EmbeddingResult) -> list[int]:
    return [len(result.vectors), len(result.vectors[0]) if result.vectors else 0]


def _priced(result: ChatResult, model: Model, call: Call) -> ChatResult:
    """The same answer, its usage with neurons: none where it was no account that answered, or one made believe."""
    usage = result.usage or Usage(estimated=True)
    return msgspec.structs.replace(result, usage=_with_neurons(usage, model, call))


def _with_neurons(usage: Usage, model: Model, call: Call) -> Usage:
    neurons = round(neurons_of(model, usage), 4) if call.upstream in _ACCOUNTS else 0.0
    return msgspec.structs.replace(usage, neurons=neurons)


@asynccontextmanager
async def _priced_events(
    stream: AbstractAsyncContextManager[EventStream], model: Model, call: Call
) -> AsyncIterator[EventStream]:
    """The same stream, the usage at its end with neurons as in `_priced`."""

    async def batches(source: EventStream) -> EventStream:
        async for batch in source:
            if isinstance(end := batch[-1], Finish) and end.usage is not None:
                batch = [*batch[:-1], msgspec.structs.replace(end, usage=_with_neurons(end.usage, model, call))]
            yield batch

    async with stream as source:
        yield batches(source)


def _refuse_schema(request: ChatRequest, model: Model) -> None:
    """As Cloudflare does where an older model's stream shall follow a schema. Raises RelayError."""
    if request.response_format is not None and request.response_format.schema is not None:
        words = words_of(_SCHEMA_IN_STREAM, model=model.id)
        raise RelayError(Fault.RESPONSE_FORMAT, words, param="response_format", upstream_code=_SCHEMA_IN_STREAM)


def _json(body: bytes, model: Model, usage: Usage | None) -> Json:
    return Json(body, usage, neurons_of(model, usage))


def _stamp(model: str, prefix: str = "") -> Stamp:
    return Stamp(
        id=prefix + secrets.token_hex(16),
        created=int(time.time()),
        model=model,
        fingerprint="fp_" + hashlib.sha256(model.encode()).hexdigest()[:10],
    )
