"""Decides which script a request gets: the caller's own, the day's allocation, or the first rule that fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import anyio

from adapters.base import Call
from adapters.canonical import Usage
from adapters.catalogue import Model
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.neurons import neurons_of
from adapters.simulator.rules import Playbook
from adapters.simulator.script import AS_USUAL, EXHAUSTED, HEADER, Scene, Script

_DAY = 86_400  # seconds; Cloudflare's day is that of UTC
_LATE = "Workers AI did not answer in time."
_SILENCE = "The upstream fell silent in the middle of its answer."
_OUT_OF_NEURONS = Script(error=EXHAUSTED)


class Director:
    """Keeps count: how often each rule has fitted, and what the day has cost. One per process.

    `first_byte` and `idle` are the relay's own limits, in seconds; `now` is Unix time.
    """

    def __init__(
        self,
        playbook: Playbook | None = None,
        *,
        first_byte: float = 130,
        idle: float = 60,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._playbook = playbook or Playbook()
        self._fitted = [0] * len(self._playbook.rules)
        self._first_byte = first_byte
        self._idle = idle
        self._now = now
        self._day = 0
        self._spent = 0.0

    def scene(self, call: Call, model: Model, texts: Sequence[str], *, stream: bool) -> Scene:
        """How a request is answered, decided once: all that the relay tries for it is one request.

        Raises InvalidRequest if the caller's script is not for this kind of model.
        """
        if call.scene is None or call.scene.model != model.id:
            call.scene = Scene(model.id, self._script(call, model, texts, stream), self._idle)
        return call.scene

    def spend(self, model: Model, usage: Usage | None) -> None:
        """Note what an answer costs."""
        self._turn_the_day()
        self._spent += neurons_of(model, usage)

    def patience(self, call: Call) -> float:
        """Seconds for the first piece, or for the whole of an answer that is not streamed."""
        return max(0.0, min(self._first_byte, call.remaining()))

    async def wait(self, seconds: float, call: Call, *, begun: bool = False) -> None:
        """Let time pass before a piece; `begun` says that others came before it. Raises RelayError past the limit."""
        limit = self._idle if begun else self.patience(call)
        if seconds > 0:
            await anyio.sleep(min(seconds, limit))
        if seconds > limit:
            raise RelayError(Fault.UPSTREAM_TIMEOUT, _SILENCE if begun else _LATE)

    def _script(self, call: Call, model: Model, texts: Sequence[str], stream: bool) -> Script:
        if call.script is not None:
            return _fitting(call.script, model)
        self._turn_the_day()
        if self._playbook.allocation is not None and self._spent >= self._playbook.allocation:
            return _OUT_OF_NEURONS
        for at, rule in enumerate(self._playbook.rules):
            if not rule.concerns(model, texts, stream):
                continue
            past = self._fitted[at] - rule.after
            if rule.times is not None and past >= rule.times:
                continue
            self._fitted[at] += 1
            if past >= 0:
                return rule.script()
        return AS_USUAL

    def _turn_the_day(self) -> None:
        today = int(self._now() // _DAY)
        if today != self._day:
            self._day, self._spent = today, 0.0


def _fitting(script: Script, model: Model) -> Script:
    """The caller's script. Raises InvalidRequest if it gives an answer of another kind than the model does."""
    key = script.chat_key if not model.is_chat else "result" if script.result is not None else None
    if key is None:
        return script
    instead = "'text' or 'tool_calls'" if model.is_chat else "'result'"
    raise InvalidRequest(
        f"Invalid header '{HEADER}': '{key}' gives no answer of the model '{model.id}'; {instead} does.", param=HEADER
    )
