"""`POST .../ai/tomarkdown` and what it supports; and the binding's form of both.

Sources: Cloudflare's pages on Markdown conversion and its binding (cloudflare/workerd, 2026-08).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.errors import InvalidRequest
from adapters.wire.native.blob import Blob, read_blob
from adapters.wire.validation import decode
from wrangler_compat.envelope import enveloped
from wrangler_compat.markdown.conversion import Converter, Document, Row
from wrangler_compat.markdown.kinds import supported
from wrangler_compat.markdown.options import FIELD, Options, options_from, read_options
from wrangler_compat.seams import Serving
from wrangler_compat.uploads import uploaded

MAX_FILES = 50
_ANYTHING = "application/octet-stream"


class ToMarkdown:
    """The form's files, converted: `files` may be repeated, `conversionOptions` is JSON."""

    def __init__(self, converter: Converter, serving: Serving) -> None:
        self._converter = converter
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with uploaded(self._serving, scope, receive, max_files=MAX_FILES) as form:
            documents, options = list(_documents(form)), _options(form)
            if not documents:
                raise InvalidRequest("Missing required parameter: 'files'.", param="files")
            owner = scope["state"]["call"].tenant or ""
            rows = await self._serving.whole(receive, lambda: self._converter.convert(documents, options, owner))
        await enveloped(rows)(scope, receive, send)


def _documents(form: FormData) -> Iterable[Document]:
    """Of `files`, of `files[]`, as Cloudflare's own SDK for Node calls it, and of `file`."""
    for name in ("files", "files[]", "file"):
        for part in form.getlist(name):
            if not isinstance(part, UploadFile):
                raise InvalidRequest(f"Invalid type for '{name}': expected a file, but got a text.", param=name)
            yield Document(
                _printable(part.filename or "document"), _printable(part.content_type or _ANYTHING), part.file
            )


def _options(form: FormData) -> Options:
    text = form.get(FIELD, "")
    if isinstance(text, UploadFile):
        raise InvalidRequest(f"Invalid type for '{FIELD}': expected a text.", param=FIELD)
    return read_options(text)


def _printable(text: str) -> str:
    """What JSON can hold: a form may come in any character set."""
    return text.encode(errors="replace").decode()[:1000]


class BindingFile(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=1000)]
    data: Blob
    mimeType: str = _ANYTHING


class BindingOptions(msgspec.Struct):
    """What `toMarkdown` was called with beside the files; a gateway and more headers are somebody else's."""

    conversionOptions: Any = None


class BindingFiles(msgspec.Struct):
    """The body of the binding's `/to-everything/markdown/transformer`."""

    files: Annotated[list[BindingFile], msgspec.Meta(max_length=MAX_FILES)]
    options: BindingOptions | None = None


def _blob(kind: type, value: Any) -> Blob:
    """The only type above that JSON does not have."""
    return read_blob(value)


_decoder = msgspec.json.Decoder(BindingFiles, dec_hook=_blob)


async def transform(body: bytes, converter: Converter, owner: str = "") -> list[Row]:
    """What the `env.AI.toMarkdown` of `owner` sends, to the rows of its result. Raises InvalidRequest."""
    wanted = decode(body, _decoder)
    asked = wanted.options.conversionOptions if wanted.options else None
    options = Options() if asked is None else options_from(asked, f"options.{FIELD}")
    documents = [Document(file.name, file.mimeType, io.BytesIO(file.data)) for file in wanted.files]
    return await converter.convert(documents, options, owner)


class Supported:
    """The list of what can be converted here and now."""

    def __init__(self, converter: Converter) -> None:
        self._converter = converter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await enveloped(supported(images=self._converter.sees_images))(scope, receive, send)


def tomarkdown_endpoints(converter: Converter, serving: Serving) -> dict[str, tuple[list[str], ASGIApp]]:
    """Methods and endpoint of each path below `/ai`."""
    return {
        "/tomarkdown": (["POST"], ToMarkdown(converter, serving)),
        "/tomarkdown/supported": (["GET"], Supported(converter)),
    }
