"""HTML to Markdown with the standard library alone: headings, paragraphs, lists, links, emphasis and code.

What the extra's library makes is better (tables, nesting); this serves where it is not installed.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_BLOCKS = frozenset("address article aside blockquote div dl dt dd figure footer form header hr li main nav".split())
_BLOCKS |= frozenset("ol p section table tbody thead tr ul".split()) | _HEADINGS.keys()
_SILENT = frozenset(("head", "script", "style", "template", "noscript", "svg"))
_AROUND = {"b": "**", "strong": "**", "i": "*", "em": "*", "code": "`"}
_SPACE = re.compile(r"[ \t\r\n\f]+")
_SPACE_RUN = re.compile(r" {2,}")
_BETWEEN_ITEMS = re.compile(r"(^ *(?:- |\d+\. ).*)\n\n(?= *(?:- |\d+\. ))", re.M)


def of_html(html: str, base: str = "") -> str:
    """`base` is the address that others are relative to."""
    writer = _Writer(base)
    writer.feed(html)
    writer.close()
    return writer.markdown()


class _Writer(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__(convert_charrefs=True)
        self._base = base
        self._blocks: list[str] = []
        self._line: list[str] = []
        self._mark = ""
        self._lists: list[int | None] = []
        self._targets: list[str] = []
        self._silent = 0
        self._verbatim = 0

    def markdown(self) -> str:
        self._end_block()
        return _BETWEEN_ITEMS.sub(r"\1\n", "\n\n".join(self._blocks))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "pre":
            self._end_block()
            self._verbatim += 1
        elif tag in _BLOCKS:
            self._end_block()
            self._begin(tag)
        elif tag == "br":
            self._line.append("\n")
        elif tag in {"td", "th"}:
            self._line.append(" ")
        elif tag == "a":
            self._targets.append(self._address(dict(attrs).get("href")))
            self._line.append("[")
        elif tag == "img":
            told = dict(attrs)
            self._line.append(f"![{told.get('alt') or ''}]({self._address(told.get('src'))})")
        elif tag in _AROUND and not self._verbatim:
            self._line.append(_AROUND[tag])

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "pre" and self._verbatim:
            code = "".join(self._line).strip("\n")
            self._line.clear()
            self._verbatim -= 1
            self._blocks.append(f"```\n{code}\n```")
        elif tag in {"ul", "ol"}:
            self._end_block()
            del self._lists[-1:]
        elif tag in _BLOCKS:
            self._end_block()
        elif tag == "a" and self._targets:
            self._line.append(f"]({self._targets.pop()})")
        elif tag in _AROUND and not self._verbatim:
            self._line.append(_AROUND[tag])

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._line.append(data if self._verbatim else _SPACE.sub(" ", data))

    def _begin(self, tag: str) -> None:
        if tag in {"ul", "ol"}:
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._mark = self._bullet()
        elif tag == "blockquote":
            self._mark = "> "
        elif tag == "hr":
            self._blocks.append("---")
        else:
            self._mark = _HEADINGS.get(tag, self._mark)

    def _bullet(self) -> str:
        indent = "  " * max(0, len(self._lists) - 1)
        count = self._lists[-1] if self._lists else None
        if count is None:
            return f"{indent}- "
        self._lists[-1] = count + 1
        return f"{indent}{count + 1}. "

    def _end_block(self) -> None:
        text = "".join(self._line)
        self._line.clear()
        if not self._verbatim:
            text = "\n".join(_SPACE_RUN.sub(" ", line).strip() for line in text.split("\n"))
        if text.strip():
            self._blocks.append(self._mark + text.strip())
            self._mark = ""

    def _address(self, target: str | None) -> str:
        target = (target or "").strip()
        try:
            return urljoin(self._base, target) if self._base else target
        except ValueError:  # no address at all
            return target
