"""`conversionOptions`. Source: Cloudflare's binding types (cloudflare/workerd, 2026-08).

All that they know is declared and checked here. Images inside of documents and a document's metadata have no effect.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire.json_text import NotJson, loads
from adapters.wire.validation import complaint

FIELD = "conversionOptions"
Language = Literal["en", "es", "fr", "it", "pt", "de"]

# msgspec's text for a field that a struct does not declare; the path is missing for the outermost one.
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`(?: - at `\$(?P<path>.*)`)?", re.S)
_SHOWN = 100  # characters of a caller's name that an error repeats


class Output(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal["markdown", "text"] = "markdown"


class Image(msgspec.Struct, forbid_unknown_fields=True):
    descriptionLanguage: Language = "en"


class EmbeddedImages(Image, forbid_unknown_fields=True):
    convert: bool | None = None
    maxConvertedImages: Annotated[int, msgspec.Meta(ge=0)] | None = None


class PageImages(EmbeddedImages, forbid_unknown_fields=True):
    convertOGImage: bool | None = None


class Html(msgspec.Struct, forbid_unknown_fields=True):
    """`hostname`: what addresses in the page are relative to, with a scheme before it or without.

    `cssSelector`: the part of the page that is wanted.
    """

    hostname: str = ""
    cssSelector: str = ""
    images: PageImages | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, which becomes a ValidationError with the path of the struct."""
        if self.hostname and not _is_web_address(self.base):
            raise ValueError("hostname has to be a host's name, or an address that begins with http:// or https://")

    @property
    def base(self) -> str:
        """The address that others in the page are relative to; empty where none was given."""
        name = self.hostname.strip()
        if not name:
            return ""
        return name if "://" in name else f"https://{name}"


class Docx(msgspec.Struct, forbid_unknown_fields=True):
    images: EmbeddedImages | None = None


class Pdf(msgspec.Struct, forbid_unknown_fields=True):
    images: EmbeddedImages | None = None
    metadata: bool | None = None


class Options(msgspec.Struct, forbid_unknown_fields=True):
    output: Output = msgspec.field(default_factory=Output)
    html: Html = msgspec.field(default_factory=Html)
    docx: Docx = msgspec.field(default_factory=Docx)
    pdf: Pdf = msgspec.field(default_factory=Pdf)
    image: Image = msgspec.field(default_factory=Image)


def read_options(text: str) -> Options:
    """Of the form's field; nothing is the defaults. Raises InvalidRequest naming the option."""
    if not text.strip():
        return Options()
    try:
        value = loads(text.encode(errors="replace"))
    except NotJson as exc:
        raise InvalidRequest(f"Invalid '{FIELD}': it is no JSON ({exc}).", param=FIELD, code="invalid_json") from None
    return options_from(value, FIELD)


def options_from(value: Any, at: str) -> Options:
    """Of a value that came out of JSON and stands at the path `at`. Raises InvalidRequest naming the option."""
    try:
        return msgspec.convert(value, Options)
    except msgspec.ValidationError as exc:
        if unknown := _UNKNOWN.fullmatch(str(exc)):
            option = f"{at}{unknown['path'] or ''}.{unknown['name'][:_SHOWN]}"
            raise InvalidRequest(f"Unknown option '{option}'.", param=option) from None
        raise complaint(exc, at) from None


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        return False
