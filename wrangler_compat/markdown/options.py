"""`conversionOptions`. Source: Cloudflare's binding types (cloudflare/workerd, 2026-08).

What is not declared here is let through without effect: images inside documents, and a document's metadata.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from adapters.wire.validation import decode

Language = Literal["en", "es", "fr", "it", "pt", "de"]


class Output(msgspec.Struct):
    format: Literal["markdown", "text"] = "markdown"


class Html(msgspec.Struct):
    """`hostname`: what addresses in the page are relative to. `cssSelector`: the part of the page that is wanted."""

    hostname: str = ""
    cssSelector: str = ""


class Image(msgspec.Struct):
    descriptionLanguage: Language = "en"


class Options(msgspec.Struct):
    output: Output = msgspec.field(default_factory=Output)
    html: Html = msgspec.field(default_factory=Html)
    image: Image = msgspec.field(default_factory=Image)


_decoder = msgspec.json.Decoder(Options)


def read_options(text: str) -> Options:
    """Of the form's field; nothing is the defaults. Raises InvalidRequest naming the field."""
    return decode(text.encode(errors="replace"), _decoder) if text.strip() else Options()
