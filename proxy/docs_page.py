"""OpenAPI documents as a page for people: plain HTML, no script, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 0 auto; padding: 1rem }
details { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .4rem 0 }
details > :not(summary) { margin-left: 1.2rem }
summary { cursor: pointer; overflow-wrap: anywhere }
code, pre { font: .85rem/1.4 ui-monospace, monospace }
pre { overflow: auto; max-height: 30rem; padding: .6rem; border-radius: .3rem;
  background: color-mix(in srgb, currentColor 8%, transparent) }
table { border-collapse: collapse } td, th { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top }
.method { display: inline-block; min-width: 3.5rem; font-weight: 600 }
h2 { margin-top: 2.5rem } h3 { margin-bottom: .3rem }
"""
_REF = re.compile(r"&quot;#/components/schemas/(\w+)&quot;")


def render_page(documents: Sequence[Mapping[str, Any]]) -> str:
    """All operations with what they take and give, then the schemas that they refer to."""
    parts = [_document(number, document) for number, document in enumerate(documents)]
    title = escape(documents[0]["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{''.join(parts)}</body></html>"
    )


def _document(number: int, document: Mapping[str, Any]) -> str:
    info = document["info"]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(number, method, path, operation))
    tags = "".join(f"<h3>{escape(tag)}</h3>{''.join(found)}" for tag, found in by_tag.items())
    schemas = "".join(
        f'<details id="{number}-{name}"><summary><code>{name}</code></summary>{_schema(number, schema)}</details>'
        for name, schema in document["components"]["schemas"].items()
    )
    head = f"<h2>{escape(info['title'])} {escape(info['version'])}</h2><p>{escape(info['description'])}</p>"
    return f"<section>{head}{tags}<h3>Schemas</h3>{schemas}</section>"


def _operation(number: int, method: str, path: str, operation: Mapping[str, Any]) -> str:
    inside = [_parameters(operation.get("parameters", ()))]
    if "requestBody" in operation:
        inside.append("<h4>Body</h4>" + _content(number, operation["requestBody"]["content"]))
    for status, answer in operation["responses"].items():
        if "content" in answer:
            inside.append(f"<h4>{status}</h4>" + _content(number, answer["content"]))
    public = " (no token)" if operation.get("security") == [] else ""
    summary = f'<code class="method">{method.upper()}</code> <code>{escape(path)}</code> {escape(operation["summary"])}'
    return f"<details><summary>{summary}{public}</summary>{''.join(inside)}</details>"


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(row['name'])}</code><td>{row['in']}{', required' if row['required'] else ''}"
        f"<td>{escape(row.get('description', ''))}</tr>"
        for row in parameters
    )
    return f"<table>{rows}</table>" if rows else ""


def _content(number: int, content: Mapping[str, Any]) -> str:
    return "".join(
        f"<p><code>{escape(media_type)}</code></p>{_schema(number, told['schema']) if 'schema' in told else ''}"
        for media_type, told in content.items()
    )


def _schema(number: int, schema: Any) -> str:
    """As JSON, with links where it refers to another."""
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))

    def link(match: re.Match[str]) -> str:
        return f'<a href="#{number}-{match[1]}">{match[1]}</a>'

    return f"<pre>{_REF.sub(link, text)}</pre>"
