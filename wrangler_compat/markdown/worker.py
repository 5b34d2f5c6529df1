"""The process that converts one document: bounded in time and memory, and without a way out.

Standard input holds a line of JSON (`Job`) and the document; standard output gets one JSON object, `{"text"}` or
`{"error"}`. What a hostile document can do ends here.
"""

from __future__ import annotations

import io
import sys
import zipfile
from typing import IO, Any

import msgspec

from wrangler_compat.markdown import plain, simple_html
from wrangler_compat.markdown.kinds import ZIPPED, has_extra

MAX_TEXT = 16 * 2**20
"""Characters of a result."""
MAX_UNPACKED = 256 * 2**20
"""Bytes of all that a zipped document holds. Its directory may lie, but no more than it says is ever unpacked."""
MAX_MEMORY = 4 * 2**30
"""Bytes of address space: much of it is what the libraries reserve and never use."""

_MAX_PARTS = 10_000
_MAX_WRITTEN = 2**20
_FORBIDDEN = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
)


class Job(msgspec.Struct):
    """What to do: `reader` as in `kinds`, `seconds` of computing; the rest are options of the conversion.

    `base` is the address that others in a page are relative to.
    """

    reader: str
    seconds: int
    as_text: bool = False
    base: str = ""
    selector: str = ""


class Refused(Exception):
    """A document that is not converted; the message is for its owner."""


def convert(job: Job, data: bytes) -> str:
    """The document as Markdown, or as text. Raises whatever the reader raises, and Refused."""
    if job.reader in ZIPPED:
        _check_zip(data)
    markdown = _read(job, data)
    text = plain.without_marks(markdown) if job.as_text else markdown.strip()
    if len(text) > MAX_TEXT:
        raise Refused(f"its text has more than {MAX_TEXT // 2**20} million characters")
    return text


def _read(job: Job, data: bytes) -> str:
    if reader := plain.READERS.get(job.reader):
        return reader(plain.decoded(data))
    if job.reader == "html" and not has_extra():
        return simple_html.of_html(plain.decoded(data), job.base)
    from wrangler_compat.markdown import library  # noqa: PLC0415 - seconds to load, and only there with the extra

    if job.reader == "html":
        return library.of_html(data, job.base, job.selector)
    return library.of_office(job.reader, data)


def _check_zip(data: bytes) -> None:
    """Raises Refused, and zipfile.BadZipFile."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
    if len(parts) > _MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
        raise Refused(f"it unpacks to more than {MAX_UNPACKED // 2**20} MiB")


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: nothing is fetched or started, whatever a document names."""
    if event in _FORBIDDEN:
        raise PermissionError(f"a document must not cause {event}")


def confine(seconds: int) -> None:
    """Bound what this process can use up; without such limits in the system, its parent's clock is the only one."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    for limit, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, _MAX_WRITTEN),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (allowed, hard))


def work(source: IO[bytes], sink: IO[bytes]) -> None:
    """Convert what `source` holds. Every failure becomes a reason, in words that quote nothing of the document."""
    job = msgspec.json.decode(source.readline(), type=Job)
    confine(job.seconds)
    sys.addaudithook(forbid)  # for good
    sink.write(msgspec.json.encode(outcome(job, source.read())))
    sink.flush()


def outcome(job: Job, data: bytes) -> dict[str, str]:
    """The `text`, or the `error` that stands in for it."""
    try:
        return {"text": convert(job, data)}
    except Refused as exc:
        return {"error": f"The document was not converted: {exc}."}
    except MemoryError:
        return {"error": "The document needs more memory than a conversion may use."}
    except Exception as exc:  # noqa: BLE001 - a document can bring a reader to raise anything
        return {"error": f"The document could not be read ({type(exc).__name__})."}


if __name__ == "__main__":
    work(sys.stdin.buffer, sys.stdout.buffer)
