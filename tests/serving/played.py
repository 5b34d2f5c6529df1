"""An engine whose tokens are characters and whose answers are played, and a server around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from adapters.canonical import Change, ChatRequest, Delta, ToolCallDelta
from adapters.local.inference.errors import EngineDead, InferenceError
from adapters.local.inference.request import Finish, FinishReason, Job, Step, Token
from adapters.local.inference.stats import Stats
from adapters.local.inference.stream import JobStream
from adapters.local.serving.answer import Answer
from adapters.local.serving.app import Model
from adapters.local.serving.chat import ChatService, Draft
from adapters.local.serving.stops import StopWatch

VOCABULARY = 128
CONTEXT = 200
END = 0
"""The end token; the others are the characters of ASCII."""


def steps(text: str, reason: FinishReason | None = "stop", **finish: Any) -> list[Step]:
    """A token a character, and the end token before the end where it stopped by itself."""
    tokens = [Token(ord(character), -0.5, ((ord(character), -0.5), (33, -2.0))) for character in text]
    told = [Step(token) for token in tokens]
    if reason is None:
        return told
    counts = {"prompt_tokens": 7, "cached_tokens": 3, "completion_tokens": len(text)} | finish
    return [*told, Step(Token(END, -0.1) if reason == "stop" else None, Finish(reason, **counts))]


class PlayedJob:
    """One job that was submitted; the test says what becomes of it."""

    def __init__(self, job: Job, on_cancel: Callable[[], None]) -> None:
        self.job = job
        self.cancelled = asyncio.Event()
        self._on_cancel = on_cancel
        self.stream = JobStream(asyncio.get_running_loop(), self._cancel)
        self.over = False

    def say(self, *played: Step) -> None:
        for step in played:
            self.over = self.over or step.finish is not None
            self.stream.put(step)

    def _cancel(self) -> None:
        if not self.over:
            self.cancelled.set()
            self.say(Step(None, Finish("cancelled", 7, 3, 0)))
            self._on_cancel()


class PlayedEngine:
    """A Batcher. A job is answered with `answers`, in turn, or not at all where there is none left."""

    def __init__(self, *answers: list[Step]) -> None:
        self.context = CONTEXT
        self.vocabulary = VOCABULARY
        self.dead = False
        self.refusal: InferenceError | None = None
        self.jobs: list[PlayedJob] = []
        self.arrived = asyncio.Event()
        self._answers = list(answers)

    def submit_all(self, jobs: Sequence[Job]) -> list[JobStream]:
        if self.refusal is not None:
            self.dead = isinstance(self.refusal, EngineDead)
            raise self.refusal
        played = [PlayedJob(job, self.arrived.set) for job in jobs]
        for each in played:
            if self._answers:
                each.say(*self._answers.pop(0))
        self.jobs += played
        self.arrived.set()
        return [each.stream for each in played]

    def stats(self) -> Stats:
        return Stats(running=sum(not job.over for job in self.jobs), waiting=2, cache_use=0.25)

    async def job(self, index: int = 0) -> PlayedJob:
        """The job of this number, once it is there."""
        while len(self.jobs) <= index:
            self.arrived.clear()
            await self.arrived.wait()
        return self.jobs[index]


class Characters:
    """Tokens to text; `~` is the first half of a character that the next token completes."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, id: int) -> str:
        if chr(id) == "~":
            self._half = "~"
            return ""
        text, self._half = self._half + chr(id), ""
        return text

    def end(self) -> str:
        return "?" if self._half else ""


class Marks:
    """A parser: `[` and `]` are around reasoning, `{` and `}` around a call of `f`."""

    def __init__(self) -> None:
        self._within = ""
        self.called = False
        self._calls = 0

    def feed(self, text: str) -> list[Delta]:
        if not self._within and not set(text) & set("[{"):
            return [Delta(text=text)]
        return [delta for character in text for delta in self._one(character)]

    def end(self) -> list[Delta]:
        return [Delta(text="!")] if self._within == "[" else []

    def _one(self, character: str) -> list[Delta]:
        if character in "[{":
            self._within = character
            if character == "[":
                return []
            self.called = True
            self._calls += 1
            return [Delta(tool_calls=(ToolCallDelta(self._calls - 1, name="f"),))]
        if character in "]}":
            self._within = ""
            return []
        if self._within == "[":
            return [Delta(reasoning=character)]
        if self._within == "{":
            return [Delta(tool_calls=(ToolCallDelta(self._calls - 1, arguments=character),))]
        return [Delta(text=character)]


def entry(token: Token) -> dict[str, Any]:
    return {"token": chr(token.id), "bytes": list(chr(token.id).encode()), "logprob": token.logprob}


def answer(*, stop: tuple[str, ...] = (), logprobs: bool = False, thinking: bool = False) -> Answer:
    return Answer(
        text=Characters(),
        parser=Marks(),
        stops=StopWatch(stop) if stop else None,
        silent=frozenset({END}),
        thinking=thinking,
        entry=entry if logprobs else None,
    )


class Everything:
    """A constraint without constraints."""

    def mask(self) -> Any:
        return [True] * VOCABULARY

    def advance(self, token: int) -> bool:
        return False


class PlayedWriter:
    """A Writer: a prompt is the bytes of its turns."""

    def __init__(self) -> None:
        self.constraints = 0
        self.changes: tuple[Change, ...] = ()

    def draft(self, request: ChatRequest, tenant: str) -> Draft:
        text = "".join(turn.content for turn in request.messages if isinstance(turn.content, str))
        return Draft(
            ids=[ord(character) % VOCABULARY for character in text],
            answer=lambda: answer(stop=request.stop, logprobs=request.logprobs),
            constraint=self._constraint if request.response_format else None,
            changes=self.changes,
        )

    def _constraint(self) -> Everything:
        self.constraints += 1
        return Everything()


def chatting(engine: PlayedEngine, writer: PlayedWriter | None = None, **defaults: float) -> Model:
    service = ChatService(engine, writer or PlayedWriter(), defaults=defaults, stop_ids=frozenset({END}))
    return Model(("tiny", "small"), chat=service)
