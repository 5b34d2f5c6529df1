"""Requests as the model takes them: the tokens of the prompt, the grammar of the answer, and how that is to be read."""

from __future__ import annotations

from functools import partial
from typing import Any

from adapters.canonical import ChatRequest
from adapters.local.inference.request import Token
from adapters.local.serving.answer import Answer
from adapters.local.serving.chat import Draft
from adapters.local.serving.detokenizer import Detokenizer, TokenTexts
from adapters.local.serving.grammars import Grammars
from adapters.local.serving.logprobs import logprob_entry
from adapters.local.serving.prompts import Prompts
from adapters.local.serving.stops import StopWatch
from adapters.local.serving.turns import TurnFormat


class Drafts:
    """A Writer for one model. `tokenizer` is a fast one of transformers'; `close` it."""

    def __init__(self, tokenizer: Any, *, vocabulary: int, stop_ids: frozenset[int]) -> None:
        """Raises ValueError for a tokenizer that cannot be used."""
        self._prompts = Prompts(tokenizer, stop_ids=stop_ids)
        self._texts = TokenTexts(tokenizer)
        self._grammars = Grammars(tokenizer, vocabulary, stop_ids)
        self._stop_ids = stop_ids

    def draft(self, request: ChatRequest, tenant: str) -> Draft:
        """Raises InvalidRequest naming the field, and RelayError where too many of the tenant's grammars wait."""
        prompt = self._prompts.render(request)
        grammar = self._grammars.grammar(request, prompt.turn, tenant)
        return Draft(
            ids=prompt.ids,
            answer=partial(self._answer, request, prompt.turn),
            constraint=None if grammar is None else grammar.constraint,
            changes=self._prompts.changes(request),
        )

    def close(self) -> None:
        self._grammars.close()

    def _answer(self, request: ChatRequest, turn: TurnFormat) -> Answer:
        text = Detokenizer(self._texts, turn.marker_ids)
        return Answer(
            text=text,
            parser=turn.parser(),
            stops=StopWatch(request.stop) if request.stop else None,
            silent=self._stop_ids - turn.marker_ids,
            thinking=turn.thinking,
            entry=partial(self._entry, text) if request.logprobs else None,
        )

    def _entry(self, text: Detokenizer, token: Token) -> dict[str, Any] | None:
        if text.drops(token.id):
            return None
        return logprob_entry(token, self._texts, opening=not text.opened)
