"""Grammars that keep an answer to JSON, to a schema, or to calls of tools, by llguidance."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import Any

import llguidance
import numpy

from adapters.canonical import ChatRequest, JsonFormat, NamedTool
from adapters.errors import InvalidRequest, RelayError
from adapters.local.serving import answer_grammar
from adapters.local.serving.call_arguments import Arguments, Check
from adapters.local.serving.calls.syntax import CallSyntax
from adapters.local.serving.lark import Lark
from adapters.local.serving.recent import Recent
from adapters.local.serving.schemas import schema_text
from adapters.local.serving.trial import compiled
from adapters.local.serving.trials import Trials
from adapters.local.serving.turns import TurnFormat

_COMPILED = 64
"""Grammars that are kept; a large one takes some megabytes."""
_RESERVE, _A_MASK = 2.0, 0.01
"""Seconds of processor time that the masks of one answer may take: in all, and beside that each. Everybody's next token
waits for them, and a trial sees no more than how an answer begins."""
_SCHEMA = "response_format.json_schema.schema"
_NAME = re.compile(r"[\w.:/$@+-]{1,128}")
"""What all families can write and their readers read; OpenAI itself takes fewer."""
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


class GrammarFailed(Exception):
    """A token came that the grammar does not allow, or its limits were reached. Says nothing of the answer."""


class AnswerConstraint:
    """A `Constraint` of the engine: the state of one answer, and one mask that is written anew for each token."""

    def __init__(self, matcher: Any, vocabulary: int, words: int) -> None:
        """`words` are what the matcher writes; it may know more tokens than the model, which has `vocabulary`."""
        self._matcher = matcher
        self._written: Any = numpy.zeros(words, dtype=numpy.int32)
        self._place = self._written.ctypes.data, self._written.nbytes
        self._mask = self._written[: (vocabulary + 31) // 32]
        self._left = _RESERVE

    def mask(self) -> Any:
        """32-bit words. Raises GrammarFailed."""
        began = time.thread_time()
        self._matcher.unsafe_compute_mask_ptr(*self._place)
        self._left += _A_MASK - (time.thread_time() - began)
        if self._left < 0 or self._matcher.is_error():
            raise GrammarFailed
        return self._mask

    def advance(self, token: int) -> bool:
        """Raises GrammarFailed."""
        if not self._matcher.consume_token(token):
            raise GrammarFailed
        return bool(self._matcher.is_stopped())


class Grammar:
    """A compiled grammar, of which each answer takes a constraint of its own."""

    def __init__(self, matcher: Any, vocabulary: int, words: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._words = words

    def constraint(self) -> AnswerConstraint:
        return AnswerConstraint(self._matcher.deep_copy(), self._vocabulary, self._words)


class Compiler:
    """llguidance for one model's tokenizer, with grammars tried elsewhere first. For all threads.

    Raises ValueError for a tokenizer that llguidance does not know.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stop_ids: frozenset[int]) -> None:
        backend = tokenizer.backend_tokenizer
        added = backend.get_added_tokens_decoder()
        self._vocabulary = vocabulary
        width = max(vocabulary, backend.get_vocab_size(), *(id + 1 for id in added), 0)
        ends = sorted(stop_ids) or [tokenizer.eos_token_id]
        source = backend.to_str()
        self._tokenizer = llguidance.LLTokenizer(source, n_vocab=width, eos_token=ends)
        self._words = (width + 31) // 32
        self._trials = Trials(source, width, ends)
        self._grammars: Recent[Grammar] = Recent(_COMPILED)
        self.special = {token.content: id for id, token in added.items() if self._tokenizer.is_special_token(id)}
        """What the compiler does not take for text: special tokens, and others that look like a marker."""

    def fault(self, schema: str, owner: str) -> str:
        """Why answers cannot be kept to the schema, in our words; "" if they can. Raises RelayError."""
        return self._trials.fault('{"grammars":[{"json_schema":' + schema + "}]}", owner)

    def grammar(self, text: str, owner: str) -> Grammar:
        """Raises ValueError with the reason why it cannot be had, RelayError."""
        if (found := self._grammars.get(text)) is not None:
            return found
        if fault := self._trials.fault(text, owner):
            raise ValueError(fault)
        grammar = Grammar(compiled(self._tokenizer, text), self._vocabulary, self._words)
        self._grammars.put(text, grammar)
        return grammar

    def close(self) -> None:
        self._trials.close()


class Grammars:
    """What the answers of one model must follow. For all threads; `close` it.

    A first grammar takes a second, a large schema two: none of it is for an event loop.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, stop_ids: frozenset[int]) -> None:
        """`tokenizer` is a fast one of `transformers`; `vocabulary` is how many tokens the model chooses from."""
        self._source = (tokenizer, vocabulary, stop_ids)
        self._lock = threading.Lock()
        self._compiler: Compiler | None = None

    def grammar(self, request: ChatRequest, turn: TurnFormat, owner: str = "") -> Grammar | None:
        """The grammar of the answers to a request, in their turn format; `None` where they are free.

        New ones are tried by turns among their owners. Raises InvalidRequest for what cannot be enforced, naming the
        field, and RelayError where too many wait to be tried.
        """
        form = None if request.forces_tool else request.response_format
        if turn.calls is None and form is None:
            return None
        field = "response_format" if turn.calls is None else "tools"
        try:
            return _grammar(self._opened(field), request, turn, form, owner)
        except RelayError as exc:
            exc.param = exc.param or field  # whoever has too many that wait: it is not the engine that is full
            raise

    def close(self) -> None:
        with self._lock:
            if self._compiler is not None:
                self._compiler.close()
                self._compiler = None

    def _opened(self, param: str) -> Compiler:
        with self._lock:
            if self._compiler is None:
                try:
                    self._compiler = Compiler(*self._source)
                except ValueError:
                    message = f"Invalid '{param}': this model's tokenizer does not allow for grammars."
                    raise InvalidRequest(message, param=param, code="unsupported_parameter") from None
            return self._compiler


def _grammar(
    compiler: Compiler, request: ChatRequest, turn: TurnFormat, form: JsonFormat | None, owner: str
) -> Grammar:
    lark = Lark(compiler.special)
    check = partial(compiler.fault, owner=owner)
    offers = _offers(check, request, lark, turn.calls) if turn.calls is not None else {}
    several = request.parallel_tool_calls is not False and not isinstance(request.tool_choice, NamedTool)
    if form is not None:
        schema = _document_schema(check, form)
        start = answer_grammar.document(lark, turn, schema, offers, several=several)
    elif request.forces_tool:
        start = answer_grammar.forced(lark, turn, offers, several=several)
    else:
        start = answer_grammar.optional(lark, turn, offers, several=several)
    try:
        return compiler.grammar(lark.grammar(start), owner)
    except ValueError as exc:  # each part is fine, and all together are too much
        raise _refused("tools" if offers else _SCHEMA, str(exc)) from None


def _document_schema(check: Check, form: JsonFormat) -> str:
    try:
        text = schema_text(_ANY_OBJECT if form.schema is None else form.schema)
    except ValueError as exc:
        raise _refused(_SCHEMA, str(exc)) from None
    if fault := check(text):
        raise _refused(_SCHEMA, fault)
    return text


def _offers(check: Check, request: ChatRequest, lark: Lark, syntax: CallSyntax) -> dict[str, str]:
    """The arguments of the tools that may be called.

    Schemas are enforced where the caller insists on a call or on strictness, or else as far as that is possible.
    """
    choice = request.tool_choice
    arguments = Arguments(lark, syntax, check)
    offers: dict[str, str] = {}
    for i, tool in enumerate(request.tools):
        if isinstance(choice, NamedTool) and tool.name != choice.name:
            continue
        if not _NAME.fullmatch(tool.name):
            at = f"tools[{i}].function.name"
            raise InvalidRequest(
                f"Invalid '{at}': it must be of letters, digits and any of '_.:/$@+-', 128 at most.", param=at
            )
        if not (tool.strict or (request.forces_tool and tool.strict is None)):
            offers[tool.name] = arguments.lenient(tool.parameters)
            continue
        try:
            offers[tool.name] = arguments.enforced(tool.parameters)
        except ValueError as exc:
            raise _refused(f"tools[{i}].function.parameters", str(exc)) from None
    if not offers:
        raise InvalidRequest("Invalid 'tool_choice': it names none of the tools.", param="tool_choice")
    return offers


def _refused(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': answers cannot be kept to this schema: {why}.", param=param)
