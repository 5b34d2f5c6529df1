"""Chat over the engine: a request becomes jobs, their tokens become events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import anyio
import anyio.to_thread

from adapters.answer import collect
from adapters.canonical import Change, ChatEvent, ChatRequest, ChatResult, Message, TextPart, Usage
from adapters.errors import InvalidRequest
from adapters.local.inference.errors import InferenceError
from adapters.local.inference.request import Constraint, Job, siblings
from adapters.local.inference.stats import Stats
from adapters.local.inference.stream import JobStream
from adapters.local.serving.answer import Answer
from adapters.local.serving.sampling import sampling_of
from adapters.wire.changes import Changes

_LONG = 8192
"""Characters of turns; to make tokens of more takes a thread, so that nobody's stream stands still meanwhile."""
_MANY = 64
"""Turns, likewise."""
_GRAMMARS = 96
"""Requests with grammars in threads at once. They may wait for seconds, for each other and not in the way of prompts;
of those whose grammars have to be tried, `trials` lets in fewer, so that there is always a thread for all others."""


class Batcher(Protocol):
    """`adapters.local.inference.engine.Engine`, as far as it is used here."""

    @property
    def context(self) -> int: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def dead(self) -> bool: ...

    def submit_all(self, jobs: Sequence[Job]) -> list[JobStream]: ...

    def stats(self) -> Stats: ...


class Draft(NamedTuple):
    """A request as the model takes it."""

    ids: list[int]
    answer: Callable[[], Answer]
    """Makes the reader of one answer."""
    constraint: Callable[[], Constraint] | None
    """Makes the grammar of one answer, where it has one."""
    changes: tuple[Change, ...] = ()
    """What of the request makes no difference to this model, or less than was asked for."""


class Writer(Protocol):
    """Makes drafts, in several threads at once; `adapters.local.serving.drafts.Drafts`."""

    def draft(self, request: ChatRequest, tenant: str) -> Draft:
        """`tenant` shares what takes long with the others by turns. Raises RelayError."""


class OpenAnswer:
    """An answer that the engine is working on. It has to be read to the end or cancelled."""

    def __init__(self, stream: JobStream, answer: Answer) -> None:
        self._stream = stream
        self._answer = answer

    async def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """Events as they come, the last of them the finish; no finish for one that was cancelled.

        What has come together goes out together. Raises InferenceError.
        """
        async for step in self._stream:
            events = self._answer.feed((step, *self._stream.arrived()))
            if self._answer.stopped:
                self._stream.cancel()
            if events:
                yield events
            if self._answer.finish is not None:
                return

    def cancel(self) -> None:
        """Free its place in the engine; harmless where it has ended."""
        self._stream.cancel()


class Begun(NamedTuple):
    """A request that the engine has taken."""

    answers: list[OpenAnswer]
    """As many as were asked for."""
    changes: list[Change]
    """What the caller is to be told."""


class ChatService:
    """One model's answers. Raises RelayError and InferenceError."""

    def __init__(self, engine: Batcher, writer: Writer, *, defaults: Mapping[str, float], stop_ids: frozenset[int]):
        """`defaults` is how the model's authors want it sampled, `stop_ids` are its end tokens."""
        self.engine = engine
        self._writer = writer
        self._defaults = defaults
        self._stop_ids = stop_ids
        self._grammars = anyio.CapacityLimiter(_GRAMMARS)

    async def begin(self, request: ChatRequest, tenant: str = "") -> Begun:
        """The answers, once the engine has taken them. `tenant` is who asks."""
        if request.lora is not None:
            raise InvalidRequest("This engine has no LoRA adapters.", param="lora", code="unsupported_parameter")
        sampling = sampling_of(request, self._defaults, self.engine.vocabulary)
        draft = await self._draft(request, tenant)
        constraints = [draft.constraint() for _ in range(request.n)] if draft.constraint is not None else []
        job = Job(
            prompt_ids=draft.ids,
            max_tokens=request.max_tokens or self.engine.context,
            sampling=sampling,
            stop_ids=self._stop_ids,
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
            constraint=constraints[0] if constraints else None,
            salt=tenant,
        )
        streams = self.engine.submit_all(siblings(job, request.n, constraints))
        answers = [OpenAnswer(stream, draft.answer()) for stream in streams]
        return Begun(answers, self._changes(request, draft))

    def _changes(self, request: ChatRequest, draft: Draft) -> list[Change]:
        changes = Changes(request)
        most = self.engine.context - len(draft.ids)
        changes.clamped("max_tokens", request.max_tokens, 0, most)
        return [*changes.list, *draft.changes]

    async def _draft(self, request: ChatRequest, tenant: str) -> Draft:
        if request.tools or request.response_format:
            return await anyio.to_thread.run_sync(self._writer.draft, request, tenant, limiter=self._grammars)
        if _is_long(request):
            return await anyio.to_thread.run_sync(self._writer.draft, request, tenant)
        return self._writer.draft(request, tenant)


def _is_long(request: ChatRequest) -> bool:
    turns = request.messages
    return bool(request.chat_template_kwargs) or len(turns) > _MANY or sum(map(_length, turns)) > _LONG


def _length(message: Message) -> int:
    content = message.content
    parts = [content] if isinstance(content, str) else [part.text for part in content if isinstance(part, TextPart)]
    calls = [text for call in message.tool_calls for text in (call.name, call.arguments, call.id)]
    return sum(len(text or "") for text in (*parts, *calls, message.reasoning, message.name, message.tool_call_id))


async def gathered(answers: Sequence[OpenAnswer]) -> ChatResult:
    """All answers to one prompt, whole. Raises InferenceError for all if one fails."""
    if len(answers) == 1:
        return collect(await _events(answers[0]))
    try:
        async with asyncio.TaskGroup() as group:  # beside each other, so that each ends at its stop string
            tasks = [group.create_task(_events(answer)) for answer in answers]
    except* InferenceError as failures:
        raise _first(failures) from None
    results = [collect(task.result()) for task in tasks]
    usages = [result.usage or Usage() for result in results]
    usage = Usage(
        prompt_tokens=usages[0].prompt_tokens,
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=usages[0].cached_tokens,
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )
    return ChatResult(choices=tuple(result.choices[0] for result in results), usage=usage)


def _first(failures: BaseExceptionGroup[InferenceError]) -> InferenceError:
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure


async def _events(answer: OpenAnswer) -> list[ChatEvent]:
    return [event async for batch in answer.batches() for event in batch]
