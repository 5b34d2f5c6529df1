"""What the simulator says: a few plain sentences about the message it got."""

from __future__ import annotations

import re
from random import Random

from adapters.canonical import ChatRequest, ImagePart, Message
from adapters.simulator.tokens import parts, text_of

_READ = 65_536
"""Characters of a message, from its end, that are looked at."""
_QUOTED_WORDS = 12
_WORD = 40
"""Characters of one word that are repeated."""

_OPENINGS = (
    "This text comes from the relay's built-in simulator{place}.",
    "No model was run: the relay's built-in simulator answers{place}.",
    "The relay's built-in simulator is speaking here{place}.",
)
_CLOSINGS = (
    "The same request always gets this same answer, so a test can rely on it.",
    "A real model would go into the matter here; this text only shows that the whole way there and back works.",
    "It is long enough to watch a stream arrive word by word, and short enough not to be in the way.",
    "Send another message to see another answer, or the same one to see this again.",
    "Everything around the text is as it would be with a real model: the pieces, the finish reason, the token counts.",
)
_WORDS = re.compile(r"(?P<begins>(?:^|[.!?\n])\s*)?(?P<word>\w[\w'@/-]*(?:\.\w[\w'@/-]*)*)")
COMMON_WORDS = frozenset(
    "a about all an and any are as at be been but by call can could did do does for from give had has have he her his "
    "how i if in into is it its just let like make me my need no not of on or our out please she show so some tell "
    "than that the their them then there these they this to use using want was we were what when where which who "
    "why will with would you your".split()
)


def last_user_message(request: ChatRequest) -> Message | None:
    return next((message for message in reversed(request.messages) if message.role == "user"), None)


def last_user_text(request: ChatRequest) -> str:
    """The end of what the user said last; `""` if nothing."""
    message = last_user_message(request)
    return "" if message is None else text_of(message)[-_READ:]


def results_since_user(request: ChatRequest) -> list[Message]:
    """The tool results that have come in since the user last spoke."""
    found: list[Message] = []
    for message in reversed(request.messages):
        if message.role == "user":
            break
        if message.role == "tool":
            found.append(message)
    return found[::-1]


def salient_words(text: str, but: str = "") -> list[str]:
    """The words that a caller would pass on to a function, names first; none of those in `but`."""
    passed_over = COMMON_WORDS | set(re.findall(r"\w+", but.casefold().replace("_", " ")))
    names: list[str] = []
    others: list[str] = []
    for found in _WORDS.finditer(text[-_READ:]):
        begins, word = found["begins"] is not None, found["word"][:_WORD]
        if word.casefold() not in passed_over and "_" not in word:
            # A capital marks a name, save where a sentence begins.
            (names if word[0].isupper() and not begins else others).append(word)
    return list(dict.fromkeys(names + others))


def quote(text: str) -> str:
    """The last words of a text, on one line."""
    words = text.split()
    tail = " ".join(word[-_WORD:] for word in words[-_QUOTED_WORDS:])
    return f"... {tail}" if len(words) > _QUOTED_WORDS else tail


def answer(request: ChatRequest, instead_of: str | None, rng: Random) -> str:
    """The answer in words; it says once that it is simulated, and which model it is not."""
    place = f", in place of {instead_of}" if instead_of else ""
    opening = f"(simulated) {rng.choice(_OPENINGS).format(place=place)}"
    return " ".join([opening, *_about(request), *rng.sample(_CLOSINGS, 2)])


def _about(request: ChatRequest) -> list[str]:
    results = results_since_user(request)
    if results:
        return [_about_results(request, results)]
    message = last_user_message(request)
    if message is None:
        return ["There is no message from a user to answer yet."]
    text = last_user_text(request)
    sentences = [_about_text(text)] if text.strip() else ["Your message holds no text."]
    images = sum(isinstance(part, ImagePart) for part in parts(message))
    if images:
        sentences.append(f"It came with {_number(images, 'image')}, which nobody has looked at.")
    if len(request.messages) > 1:
        sentences.append(f"The conversation has {_number(len(request.messages), 'message')} so far.")
    return sentences


def _about_text(text: str) -> str:
    said = "You asked" if text.rstrip().endswith(("?", "\uff1f")) else "You wrote"
    more = " or more" if len(text) >= _READ else ""  # what was said before has not been read
    return f'{said} "{quote(text)}", which makes {_number(len(text.split()), "word")}{more}.'


def _about_results(request: ChatRequest, results: list[Message]) -> str:
    called = {call.id: call.name for message in request.messages for call in message.tool_calls if call.id}
    names = [result.name or called.get(result.tool_call_id or "") for result in results]
    by = ", ".join(dict.fromkeys(name for name in names if name))
    size = sum(len(text_of(result)) for result in results)
    origin = f" of {by}" if by else ""
    return (
        f"{_number(len(results), 'tool result')}{origin} came back, {_number(size, 'character')} in all, "
        "so no further call is needed."
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def thoughts(request: ChatRequest) -> str:
    """What a reasoning model might think first."""
    asked = quote(last_user_text(request)) or "nothing in words"
    return (
        f'The user says "{asked}". There is no model behind this, so there is nothing to work out: '
        "I should say so plainly and answer in a few sentences."
    )
