"""The readers of the extra: markitdown's, called on bytes alone.

Each is named here and called itself: the class that chooses among all of them also opens addresses and files.
This module is loaded only in the process that converts, and only where the extra is installed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from bs4 import BeautifulSoup, Tag
from markitdown import StreamInfo
from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter, PptxConverter, XlsxConverter
from soupsieve import SelectorSyntaxError


def of_html(data: bytes, base: str, selector: str) -> str:
    """Of what the CSS `selector` picks, where it is one and picks something; addresses relative to `base`."""
    soup = BeautifulSoup(data, "html.parser")
    for tag in soup.find_all(["a", "img"]) if base else ():
        name = "href" if tag.name == "a" else "src"
        if isinstance(address := tag.get(name), str):
            tag[name] = _joined(base, address)
    html = "\n".join(map(str, _picked(soup, selector))) or str(soup)
    return _markdown(HtmlConverter(), html.encode(), StreamInfo(extension=".html", charset="utf-8"))


def _picked(soup: BeautifulSoup, selector: str) -> list[Tag]:
    try:
        return list(soup.select(selector)) if selector else []
    except SelectorSyntaxError:
        return []


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address)
    except ValueError:  # no address at all
        return address


def of_office(kind: str, data: bytes) -> str:
    """A PDF, or a document of an office suite by its extension."""
    return _markdown(_CONVERTERS[kind](), data, StreamInfo(extension=f".{kind}"))


def _markdown(converter: Any, data: bytes, info: StreamInfo) -> str:
    return str(converter.convert(io.BytesIO(data), info).markdown)


_CONVERTERS: Mapping[str, Any] = {
    "pdf": PdfConverter,
    "docx": DocxConverter,
    "xlsx": XlsxConverter,
    "pptx": PptxConverter,
}
