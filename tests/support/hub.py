"""A Hugging Face Hub on loopback: the list of a repository's files and the files themselves.

Paths, fields and headers are those that huggingface_hub 2.4.0 asks for and reads:
`GET /api/models/ORG/NAME/revision/R?blobs=true`, `GET /ORG/NAME/resolve/COMMIT/FILE` with `Range`, and the header
`X-Error-Code` of a refusal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.support.canned_http import Asked, Canned, Server, as_json, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "acme/tiny"

Twist = Callable[[Asked, str, Canned], Canned]
"""Changes the answer that a file of this name would get."""


@dataclass
class Hub:
    """`large` names the files that are kept in LFS, whose checksum is SHA-256. `twist` may be set at any time."""

    files: dict[str, bytes]
    large: tuple[str, ...] = ("model.safetensors",)
    commit: str = COMMIT
    token: str | None = None
    twist: Twist | None = None
    refusal: Canned | None = None
    server: Server = field(init=False)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def fetched(self) -> list[str]:
        """Files that were asked for, each with its `Range` if it had one."""
        found = []
        for asked in self.server.asked:
            if "/resolve/" in asked.path:
                name = unquote(urlsplit(asked.path).path).partition("/resolve/")[2].partition("/")[2]
                found.append(" ".join([name, *filter(None, [asked.headers.get("range")])]))
        return found

    def answer(self, asked: Asked) -> Canned:
        if self.refusal is not None:
            return self.refusal
        if self.token is not None and asked.headers.get("authorization") != f"Bearer {self.token}":
            return refused(401, "RepoNotFound")
        path = unquote(urlsplit(asked.path).path)
        if path in (f"/api/models/{REPOSITORY}/revision/{revision}" for revision in ("main", self.commit)):
            return as_json(200, self._listing())
        name = path.removeprefix(f"/{REPOSITORY}/resolve/{self.commit}/")
        if name not in self.files:
            return refused(404, "RevisionNotFound" if path.startswith(f"/api/models/{REPOSITORY}/") else "RepoNotFound")
        whole = self._file(asked, self.files[name])
        return self.twist(asked, name, whole) if self.twist else whole

    def _listing(self) -> dict[str, object]:
        siblings: list[dict[str, object]] = []
        for name, body in self.files.items():
            blob = hashlib.sha1(b"blob %d\0%b" % (len(body), body), usedforsecurity=False).hexdigest()
            row: dict[str, object] = {"rfilename": name, "size": len(body), "blobId": blob}
            if name in self.large:
                digest = hashlib.sha256(body).hexdigest()
                row["lfs"] = {"size": len(body), "sha256": digest, "pointerSize": 134}
            siblings.append(row)
        return {"id": REPOSITORY, "sha": self.commit, "siblings": siblings, "private": False}

    def _file(self, asked: Asked, body: bytes) -> Canned:
        start = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        if start is None:
            return Canned(200, body, {"content-length": str(len(body))})
        place = int(start[1])
        headers = {"content-range": f"bytes {place}-{len(body) - 1}/{len(body)}"}
        return Canned(206, body[place:], {**headers, "content-length": str(len(body) - place)})


def refused(status: int, code: str) -> Canned:
    return Canned(status, b"{}", {"x-error-code": code, "content-length": "2"})


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    with serving(hub.answer) as hub.server:
        yield hub
