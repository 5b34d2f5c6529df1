"""Multipart forms, their files on disk and not in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive, Scope

from adapters.errors import InvalidRequest
from wrangler_compat.seams import Serving

MAX_UPLOAD = 101 * 2**20
"""Bytes of a whole form: the largest file that any route takes, and what goes around it."""

_FORM = "multipart/form-data"


@asynccontextmanager
async def uploaded(serving: Serving, scope: Scope, receive: Receive, *, max_files: int) -> AsyncIterator[FormData]:
    """The form of a request, whose files are gone when the block is left.

    Raises InvalidRequest for a body that is none, HTTPException 413 for one that is too large.
    """
    headers = Headers(scope=scope)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise InvalidRequest(f"The body has to be a form ({_FORM}).")
    async with serving.chunks(scope, receive, MAX_UPLOAD) as chunks:
        try:
            form = await MultiPartParser(headers, chunks, max_files=max_files, max_fields=20).parse()
        except MultiPartException as exc:
            raise InvalidRequest(f"The body is no form that could be read: {exc.message}") from None
    try:
        yield form
    finally:
        await form.close()
