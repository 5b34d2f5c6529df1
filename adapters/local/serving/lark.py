"""Writes a grammar in llguidance's dialect of Lark, in which tokens that are no text stand for themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

TEXT = "TEXT"
"""Any text but the empty one; no special token is a part of it."""
BLANKS = "BLANKS"
_TERMINALS = f"{TEXT}: /(?s:.+)/\n{BLANKS}: /[ \\t\\r\\n]{{1,8}}/\n"


class Lark:
    """Rules of one grammar. What its methods return are parts of further rules."""

    def __init__(self, special: Mapping[str, int]) -> None:
        """`special` are the tokens that the compiler does not take for text, by their texts."""
        self._special = special
        longest_first = sorted(special, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._lines: list[str] = []
        self._names = 0
        self._schemas: list[str] = []

    def literal(self, text: str) -> str:
        """This text and nothing else."""
        symbols: list[str] = []
        at = 0
        for found in self._cut.finditer(text):
            symbols += [json.dumps(text[at : found.start()])] if found.start() > at else []
            symbols.append(f"<[{self._special[found[0]]}]>")
            at = found.end()
        return " ".join([*symbols, json.dumps(text[at:])] if text[at:] else symbols)

    def until(self, marker: str) -> str:
        """Any text, as far as the first `marker`, and the marker."""
        if marker in self._special:
            return f"({TEXT}? {self.literal(marker)})"
        return self._rule(f"{TEXT}? {json.dumps(marker)}", "[lazy]")

    def other_than(self, beginnings: Iterable[str]) -> str:
        """Any text but those that begin so."""
        self._names += 1
        name = f"OTHER{self._names}"
        options = " | ".join(map(json.dumps, beginnings))
        self._lines.append(f"{name}: {TEXT} & ~(({options}) /(?s:.*)/)\n")
        return name

    def schema(self, text: str) -> str:
        """JSON that fits the schema."""
        self._schemas.append(text)
        return f"@schema{len(self._schemas) - 1}"

    def one_of(self, options: Iterable[str]) -> str:
        return self._rule(" | ".join(options))

    def is_token(self, text: str) -> bool:
        """Whether the text begins with a special token, which free text cannot hold."""
        return self._cut.match(text) is not None

    def grammar(self, start: str) -> str:
        """The grammar whose answers follow `start`, as JSON for the compiler."""
        # Schemas are put in as they are: to read and write them again would take as long as to compile them.
        lark = json.dumps(f"%llguidance {{}}\nstart: {start}\n" + "".join(self._lines) + _TERMINALS)
        parts = ['{"name":"answer","lark_grammar":' + lark + "}"]
        parts += [f'{{"name":"schema{i}","json_schema":{text}}}' for i, text in enumerate(self._schemas)]
        return '{"grammars":[' + ",".join(parts) + "]}"

    def name(self) -> str:
        """The name of a rule that is to follow, and that may be used before."""
        self._names += 1
        return f"rule{self._names}"

    def rule(self, name: str, body: str) -> None:
        self._lines.append(f"{name}: {body}\n")

    def _rule(self, body: str, options: str = "") -> str:
        name = self.name()
        self.rule(name + options, body)
        return name
