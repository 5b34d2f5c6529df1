"""Fetching a model from the Hugging Face Hub. Needs the extra `hub`: importing this module without it fails.

huggingface_hub knows addresses, tokens, redirects and retries. Its `hf_hub_download` throws away what a cut download
has got so far (seen in 2.4.0), so files are fetched by its `http_get`, which can go on where a file ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx2
from huggingface_hub import HfApi, ModelInfo, hf_hub_url
from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # its exports are lazy

from proxy.local_models import StoredFile, StoredModel, forget_note, model_folder, read_note, write_note
from proxy.model_files import NothingToPull, choose_files

_PARTS = ".parts"
_LOCK = "lock"
_TIMEOUT = 20.0  # seconds for the list of a repository's files
_BLOCK = 2**20
_COMMIT = re.compile("[0-9a-f]{40}")
_NO_HUB = "{} does not answer as a hub does; is HF_ENDPOINT right?"


class PullFailed(Exception):
    """The message says why, and what to do; no secrets."""


class Wanted(NamedTuple):
    """`revision` is a branch, a tag or a commit. `endpoint` is the hub's address, `token` opens private models."""

    id: str
    revision: str
    include: Sequence[str]
    all_formats: bool
    endpoint: str
    token: str | None


class Progress(Protocol):
    """How a download is shown."""

    def begin(self, files: Sequence[StoredFile]) -> None: ...

    def advance(self, file: StoredFile, count: int) -> None:
        """`count` bytes more; less than none where a file had to be begun anew."""


def pull(wanted: Wanted, state_dir: Path, progress: Progress) -> StoredModel:
    """Have the model whole and checked in its folder. What a cut download got is kept. Raises PullFailed."""
    folder = model_folder(state_dir, wanted.id)
    with _told(wanted):
        model = _look_up(wanted)
        if read_note(folder) == model and all(_has_size(folder, file) for file in model.files):
            return model
        with _locked(folder / _PARTS):
            _fetch_all(wanted, model, folder, progress)
    return model


def _look_up(wanted: Wanted) -> StoredModel:
    """The files to have at the commit that the revision means now."""
    info = _repository(wanted)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    # What a hub says becomes paths and sizes, and is shown on a terminal.
    if not all(isinstance(name, str) for name in siblings) or not _COMMIT.fullmatch(str(info.sha)):
        raise PullFailed(_NO_HUB.format(wanted.endpoint))
    files = []
    for name in choose_files(siblings, wanted.include, wanted.all_formats):
        size, lfs, blob = siblings[name].size, siblings[name].lfs, siblings[name].blob_id
        if not isinstance(size, int) or size < 0 or (lfs is None and blob is None):
            raise PullFailed(f"{wanted.endpoint} tells no size or checksum of {name}")
        if size > MAX_HTTP_DOWNLOAD_SIZE:
            raise PullFailed(f"{name} is too large: at most {MAX_HTTP_DOWNLOAD_SIZE // 10**9} GB a file can be fetched")
        files.append(StoredFile(name, size, f"git:{blob}" if lfs is None else f"sha256:{lfs.sha256}"))
    return StoredModel(
        id=wanted.id, source=wanted.endpoint, revision=wanted.revision, commit=str(info.sha), files=tuple(files)
    )


def _repository(wanted: Wanted) -> ModelInfo:
    """Raises PullFailed where another program answers, beside huggingface_hub's own errors."""
    api = HfApi(endpoint=wanted.endpoint, token=wanted.token)
    try:
        return api.model_info(wanted.id, revision=wanted.revision, files_metadata=True, timeout=_TIMEOUT)
    except HfHubHTTPError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as exc:  # what it makes of an answer in another form
        raise PullFailed(_NO_HUB.format(wanted.endpoint)) from exc


def _fetch_all(wanted: Wanted, model: StoredModel, folder: Path, progress: Progress) -> None:
    before = read_note(folder)
    forget_note(folder)
    progress.begin(model.files)
    headers = build_hf_headers(token=wanted.token)
    headers["Accept-Encoding"] = "identity"  # places in a compressed answer are none in the file
    for file in model.files:
        if _has_size(folder, file) and _is_sound(folder / file.name, file):
            progress.advance(file, file.size)
            continue
        url = hf_hub_url(model.id, file.name, revision=model.commit, endpoint=wanted.endpoint)
        part = folder / _PARTS / hashlib.sha256(f"{file.name} {file.checksum}".encode()).hexdigest()
        _fetch(url, headers, part, file, partial(progress.advance, file))
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    _clear(folder, before, model)
    write_note(folder, model)


def _clear(folder: Path, before: StoredModel | None, model: StoredModel) -> None:
    """Delete what is of no use any more: an earlier revision's files could be taken for parts of this one."""
    kept = {file.name for file in model.files}
    for file in before.files if before is not None else ():
        if file.name not in kept:
            (folder / file.name).unlink(missing_ok=True)
    for part in (folder / _PARTS).iterdir():
        if part.name != _LOCK:
            part.unlink()


def _fetch(url: str, headers: dict[str, str], part: Path, file: StoredFile, advance: Callable[[int], None]) -> None:
    """Let `part` be the whole file, from where it ends now. Raises PullFailed if that is not what it should be."""
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as body:
        start = body.tell()
        advance(start)
        try:
            http_get(
                url,
                body,
                resume_size=start,
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.name,
                tqdm_class=partial(_Bar, start, advance, file),  # type: ignore[arg-type]  # it is only ever called
            )
        except PullFailed:
            part.unlink()
            raise
    if not _is_sound(part, file):
        part.unlink()
        raise PullFailed(f"{file.name}: what came has another checksum than the hub tells; it was deleted, try again")


class _Bar:
    """The part of tqdm's interface that `http_get` uses; it asks nobody else before it writes."""

    def __init__(
        self, start: int, advance: Callable[[int], None], file: StoredFile, *, initial: int = 0, **_: Any
    ) -> None:
        self._advance = advance
        self._file = file
        self._left = file.size - initial
        if initial < start:  # the server does not go on in the middle
            advance(initial - start)

    def update(self, count: int) -> None:
        """Raises PullFailed before more is written than the file may have: a disk is not for a hub to fill."""
        self._left -= count
        if self._left < 0:
            raise PullFailed(f"{self._file.name}: more comes than the hub tells; it was deleted, try again")
        self._advance(count)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _has_size(folder: Path, file: StoredFile) -> bool:
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size


def _is_sound(path: Path, file: StoredFile) -> bool:
    """Is it the content whose checksum the hub tells? Git names a small file by its length and bytes."""
    kind, _, wanted = file.checksum.partition(":")
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as body:
        while block := body.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == wanted


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else fetches into this model meanwhile. Raises PullFailed if somebody does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PullFailed("another `relay models pull` of this model is running") from None
        yield


@contextmanager
def _told(wanted: Wanted) -> Iterator[None]:
    """Everything that can go wrong, as PullFailed in words for the person who asked."""
    again = "run the same command again to go on"
    try:
        yield
    except NothingToPull as exc:
        raise PullFailed(f"{wanted.id}: {exc}") from exc
    except GatedRepoError as exc:
        where = f"{wanted.endpoint}/{wanted.id}"
        raise PullFailed(f"{wanted.id} is gated: accept its terms at {where} and set HF_TOKEN") from exc
    except RepositoryNotFoundError as exc:
        hint = "is that what HF_TOKEN may read?" if wanted.token else "a private one needs HF_TOKEN"
        raise PullFailed(f"{wanted.endpoint} has no model {wanted.id}; {hint}") from exc
    except RevisionNotFoundError as exc:
        raise PullFailed(f"{wanted.id} has no revision {wanted.revision}") from exc
    except HfHubHTTPError as exc:
        raise PullFailed(f"{wanted.endpoint} answered {exc.response.status_code}; {again}") from exc
    except (httpx2.HTTPError, ConnectionError) as exc:  # the second: HF_HUB_OFFLINE is set
        raise PullFailed(f"{wanted.endpoint} cannot be reached ({type(exc).__name__}); {again}") from exc
    except OSError as exc:
        reason = f"cannot be stored ({exc.strerror})" if exc.strerror else "came incomplete"
        raise PullFailed(f"{wanted.id} {reason}; {again}") from exc
