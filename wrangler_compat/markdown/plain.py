"""Text of common kinds to Markdown with nothing but the standard library, and Markdown to text without marks."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Mapping

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decoded(data: bytes) -> str:
    """As its byte order mark says, else UTF-8, else as Windows wrote it. Never fails."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def of_text(text: str) -> str:
    return text.strip()


def of_csv(text: str) -> str:
    """A table whose head is the first line. Raises csv.Error."""
    csv.field_size_limit(2**20)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), _delimiter_of(text)) if row]
    if not rows:
        return ""
    width = max(map(len, rows))
    lines = ["| " + " | ".join(_cell(value) for value in [*row, *[""] * (width - len(row))]) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)


def _delimiter_of(text: str) -> type[csv.Dialect]:
    head = text[:4096].partition("\n")[0]
    best = max(",;\t|", key=head.count)

    class Guessed(csv.excel):
        delimiter = best

    return Guessed


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())


def of_json(text: str) -> str:
    """A code block, laid out anew. Raises ValueError for what is no JSON."""
    return _fenced("json", json.dumps(json.loads(text), indent=2, ensure_ascii=False))


def of_xml(text: str) -> str:
    return _fenced("xml", text.strip())


def _fenced(language: str, text: str) -> str:
    """In more backticks than the text has in a row."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


READERS: Mapping[str, Callable[[str], str]] = {"text": of_text, "csv": of_csv, "json": of_json, "xml": of_xml}

_MARKS = (
    (re.compile(r"^ {0,3}(?:#{1,6} +|> ?|`{3,}\w*$|(?:\|? *:?-{3,}:? *)+\|?$)", re.M), ""),
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)"), r"\1"),
    (re.compile(r"(\*\*|__)(?=\S)([^\n]{1,500}?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^\n*]{1,500}?)(?<=\S)\*(?![\w*])"), r"\1"),
    (re.compile(r"`([^`\n]+)`"), r"\1"),
    (re.compile(r"^\| ?| ?\|$", re.M), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
)


def without_marks(markdown: str) -> str:
    """The text of a Markdown document, for those who asked for `text`."""
    for pattern, replacement in _MARKS:
        markdown = pattern.sub(replacement, markdown)
    return markdown.strip()
