"""A process of its own in which a grammar from a client is tried before the engine's process takes it.

A schema of a kilobyte can keep the compiler busy for minutes and take gigabytes, and no thread can be told to stop. A
process can: the kernel ends it when its processor time or its memory is used up, and the engine lives on. It is a fork
that does the work, and the next one takes its place at once: a large tokenizer takes seconds to be read. What it finds
out in time: whether a grammar compiles, whether an answer can begin and go on, and what a mask costs.

Imports nothing of ours, so that it starts fast. A line of JSON in, `[seconds, grammar]`, one out: the fault, or null if
the time did not suffice; one at a time. The end of input is its end, and so is the want of memory.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import Any

import llguidance

if sys.platform != "win32":
    import resource

SLOWEST_MASK = 0.1
"""Seconds of processor time: everybody's next token waits for a mask."""
_MEMORY = 4 * 2**30
"""Bytes of address space."""
_TOKENS = 64
"""Of an answer that is tried, twice."""
_STANDSTILL = 10
"""Times the processor time: so long may one take by the clock, should it ever come to wait for something."""
SLOW = "a mask takes too long"


def compiled(tokenizer: Any, grammar: str) -> Any:
    """The matcher of a grammar, which may be in error. It says nothing of what it is fed: that is a client's."""
    # States take 1 kB each, in every answer: these are some hundred times as many as a schema needs. Of items an object
    # takes four for each property that may be left out: the default allows 500 of them.
    limits = llguidance.LLParserLimits(verbose_errors=False, max_lexer_states=50_000, max_items_in_row=10_000)
    return llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


def fault(tokenizer: Any, grammar: str) -> str:
    """Why the grammar is of no use; "" if it is fine."""
    matcher = compiled(tokenizer, grammar)
    if message := matcher.get_error():
        return str(message)
    ends = [token for text in ('"', "}", "]", ",", "0") for token in tokenizer.tokenize_str(text)]
    return _walk(matcher.deep_copy(), [], tokenizer.vocab_size) or _walk(matcher, ends, tokenizer.vocab_size)


def _walk(matcher: Any, preferred: list[int], vocabulary: int) -> str:
    """Writes an answer of random tokens; with `preferred` ones where they may be, it comes to the ends of things."""
    chance = random.Random(0)
    for _ in range(_TOKENS):
        began = time.process_time()
        mask = matcher.compute_bitmask()
        if message := matcher.get_error():
            return str(message)
        if time.process_time() - began > SLOWEST_MASK:
            return SLOW
        allowed = int.from_bytes(mask, "little")
        good = [token for token in preferred if allowed >> token & 1]
        matcher.consume_token(chance.choice(good) if good else _any(allowed, vocabulary, chance))
        if matcher.is_stopped():
            break
    return str(matcher.get_error())


def _any(allowed: int, vocabulary: int, chance: random.Random) -> int:
    """A token of a mask: the first at or after a random one."""
    above = allowed >> (start := chance.randrange(vocabulary))
    found = above or allowed
    lowest = (found & -found).bit_length() - 1
    return lowest + start if above else lowest


def _tell(found: str | None) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _answer_all(tokenizer: Any) -> None:
    """Each grammar with its own time. Python's handlers do not run inside the compiler, the kernel's do."""
    with open(sys.stdin.fileno(), "rb", closefd=False) as questions:
        for line in questions:
            seconds, grammar = json.loads(line)
            _allow(seconds)
            found = fault(tokenizer, grammar)
            _allow(0)
            _tell(found)


def _allow(seconds: float) -> None:
    """Of processor time; 0: as much as it likes."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds * _STANDSTILL)


def _read_head() -> Any:
    """Its length in bytes stands in a line before it, so that nothing of what follows is taken from the pipe."""
    digits = b""
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"\n", b""):
        digits += byte
    head = bytearray()
    while len(head) < int(digits) and (piece := os.read(sys.stdin.fileno(), int(digits) - len(head))):
        head += piece
    return json.loads(head)


def main() -> None:
    tokenizer_json, vocabulary, ends = _read_head()
    tokenizer = llguidance.LLTokenizer(tokenizer_json, n_vocab=vocabulary, eos_token=ends)
    if sys.platform == "win32":
        return _answer_all(tokenizer)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _answer_all(tokenizer)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        # Ended by anything else, as for want of memory, it may have been idle: nobody would wait for an answer.
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) not in (signal.SIGPROF, signal.SIGALRM):
            return None
        _tell(None)


if __name__ == "__main__":
    main()
