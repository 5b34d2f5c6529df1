"""The kinds of documents by extension and media type."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """`reader` names what turns it into Markdown; `extra`, whether that needs the extra of this package."""

    reader: str
    media_type: str
    extra: bool = False


_OPEN_XML = "application/vnd.openxmlformats-officedocument"

KINDS: Mapping[str, Kind] = {
    ".txt": Kind("text", "text/plain"),
    ".md": Kind("text", "text/markdown"),
    ".csv": Kind("csv", "text/csv"),
    ".json": Kind("json", "application/json"),
    ".xml": Kind("xml", "application/xml"),
    ".html": Kind("html", "text/html"),
    ".htm": Kind("html", "text/html"),
    ".pdf": Kind("pdf", "application/pdf", extra=True),
    ".docx": Kind("docx", f"{_OPEN_XML}.wordprocessingml.document", extra=True),
    ".xlsx": Kind("xlsx", f"{_OPEN_XML}.spreadsheetml.sheet", extra=True),
    ".pptx": Kind("pptx", f"{_OPEN_XML}.presentationml.presentation", extra=True),
}
IMAGES: Mapping[str, Kind] = {
    ".jpeg": Kind("image", "image/jpeg"),
    ".jpg": Kind("image", "image/jpeg"),
    ".png": Kind("image", "image/png"),
    ".webp": Kind("image", "image/webp"),
    ".gif": Kind("image", "image/gif"),
}
ZIPPED = frozenset(("docx", "xlsx", "pptx"))

_EXTENSIONS = {**KINDS, **IMAGES}
_MEDIA_TYPES = {kind.media_type: kind for kind in reversed(_EXTENSIONS.values())}
_OTHER_NAMES = {"text/x-markdown": ".md", "text/xml": ".xml", "application/xhtml+xml": ".html", "image/jpg": ".jpg"}


def kind_of(name: str, media_type: str) -> Kind | None:
    """By the extension, else by the media type. None where neither is known."""
    _, dot, extension = name.rpartition(".")
    if found := _EXTENSIONS.get(f".{extension.lower()}" if dot else ""):
        return found
    essence = media_type.partition(";")[0].strip().lower()
    return _MEDIA_TYPES.get(essence) or _EXTENSIONS.get(_OTHER_NAMES.get(essence, ""))


def has_extra() -> bool:
    """Whether the library of the extra is installed; it is not loaded here, for that takes seconds."""
    return importlib.util.find_spec("markitdown") is not None


def supported(*, images: bool) -> list[dict[str, str]]:
    """What can be converted now, as `GET /ai/tomarkdown/supported` lists it."""
    extra = has_extra()
    kinds = [(extension, kind) for extension, kind in KINDS.items() if extra or not kind.extra]
    kinds += IMAGES.items() if images else ()
    return [{"extension": extension, "mimeType": kind.media_type} for extension, kind in kinds]
