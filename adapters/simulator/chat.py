"""The simulator as a chat backend: a request becomes a `Plan`, and the plan is played."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from random import Random

import msgspec

from adapters.base import Call, EventStream
from adapters.canonical import Change, ChatRequest, ChatResult
from adapters.catalogue import CHAT_TASK, Catalogue, Model
from adapters.errors import InvalidRequest
from adapters.simulator import safety
from adapters.simulator.draft import Draft, draft
from adapters.simulator.limits import require_room
from adapters.simulator.offer import current, known
from adapters.simulator.pieces import Pacing, plan_of
from adapters.simulator.plan import Plan, play, play_whole
from adapters.simulator.tokens import count_prompt

SIMULATOR_MODEL = Model(
    id="relay/simulator",
    task=CHAT_TASK,
    status="listed",
    context_window=131_072,
    streaming=True,
    function_calling=True,
    reasoning=True,
    vision=True,
    lora=False,
    async_queue=False,
    partner=False,
    beta=False,
    requires_paid_plan=False,
    reasoning_efforts=("none", "low", "medium", "high"),
)


class Simulator:
    """A chat adapter that plays every chat model of the catalogue; the same request gets the same answer.

    `pace` is the mean time in seconds between two pieces, 0 for no waiting at all; `first_delay` that
    before the first. Retired models fail as they do at Cloudflare unless `allow_retired`.
    """

    name = "simulator"

    def __init__(
        self,
        catalogue: Catalogue | Callable[[], Catalogue],
        *,
        allow_retired: bool = False,
        pace: float = 0.015,
        first_delay: float = 0.1,
    ) -> None:
        self._catalogue = catalogue if callable(catalogue) else lambda: catalogue
        self._allow_retired = allow_retired
        self._pacing = Pacing(first_delay if pace else 0.0, pace)

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        return await play_whole(self._begin(request, call))

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        async with aclosing(play(self._begin(request, call))) as events:
            yield events

    def model(self, name: str) -> Model:
        """The chat model of this name. Raises RelayError for one that the simulator does not answer for."""
        catalogue = self._catalogue()
        model = known(name, catalogue)
        if not model.is_chat:
            raise InvalidRequest(f"The model {model.id} is no chat model (its task is {model.task}).", param="model")
        return model if self._allow_retired else current(model, catalogue)

    def accept(self, request: ChatRequest, model: Model, call: Call) -> None:
        """Say who answers and what of the request cannot be had. Raises InvalidRequest in strict mode."""
        call.accept(self.name, _changes(request, model))

    def plan(self, request: ChatRequest, model: Model, answer: Draft | None = None) -> Plan:
        """The answer to come: `answer`, if it is given. Raises RelayError if the request asks for what cannot be."""
        return plan_answer(request, model, self._pacing, answer)

    def _begin(self, request: ChatRequest, call: Call) -> Plan:
        model = self.model(request.model)
        self.accept(request, model, call)
        return self.plan(request, model)


def plan_answer(request: ChatRequest, model: Model, pacing: Pacing, answer: Draft | None = None) -> Plan:
    """What the simulator answers, or `answer` in its manner. Raises RelayError if the request cannot be met."""
    prompt_tokens = count_prompt(request)
    require_room(request, model, prompt_tokens)
    digest = _digest(request, model)
    answer = answer or draft(request, model, Random(digest))
    # A source of its own: the answer must not depend on whether somebody looks at its probabilities.
    return plan_of(answer, request, prompt_tokens, pacing, Random(f"{digest}:pieces"))


def _digest(request: ChatRequest, model: Model) -> str:
    """All of the request that shapes the answer: how it is delivered and where it is cut does not."""
    shaping = (
        model.id,
        request.messages,
        request.tools,
        request.tool_choice,
        request.response_format,
        request.seed,
        *((request.lora,) if request.lora else ()),
    )
    return hashlib.sha256(msgspec.json.encode(shaping)).hexdigest()


def _has_schema(request: ChatRequest) -> bool:
    return request.response_format is not None and request.response_format.schema is not None


def _changes(request: ChatRequest, model: Model) -> list[Change]:
    unmet = {
        "logit_bias": bool(request.logit_bias),
        "tools": bool(request.tools) and safety.judges(model),
        "response_format.json_schema": _has_schema(request) and safety.judges(model),
        "chat_template_kwargs": bool(request.chat_template_kwargs),
        "reasoning_effort": request.reasoning_effort not in (None, "none") and not model.reasoning,
    }
    changes = [Change(field, "dropped") for field, dropped in unmet.items() if dropped]
    changes += [Change(field, "dropped") for field in request.unsupported]
    return changes + [Change(field, "ignored") for field in request.unknown]
