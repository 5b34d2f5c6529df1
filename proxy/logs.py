"""Log lines: text for people, JSON for machines; never a prompt, an answer or a secret."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from adapters.wire.json_text import dump_text
from proxy.boundary import StreamBroken

_OF_WEB_SOCKETS = ("Unsupported upgrade request", "No supported WebSocket library")
_TELLING = frozenset(("query_string", "path", "raw_path"))

TRACE = 5  # below DEBUG: uvicorn's own word for each message that it exchanges with the application


def configure(level: str, form: str) -> None:
    """Send all logs to stderr. `form` is `text`, `json`, or `auto`: text on a terminal, else JSON."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Text() if text else _Json())
    handler.addFilter(_expected)
    handler.addFilter(_without_query)
    threshold = TRACE if level == "trace" else getattr(logging, level.upper())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("relay").setLevel(threshold)
    # Its start and stop are told by the relay itself.
    logging.getLogger("uvicorn").setLevel(threshold if threshold < logging.INFO else logging.WARNING)


@contextmanager
def configured(level: str, form: str) -> Iterator[None]:
    """As `configure`, until the block is left."""
    loggers = [logging.getLogger(name) for name in (None, "relay", "uvicorn")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    configure(level, form)
    try:
        yield
    finally:
        for logger, threshold, handlers in before:
            logger.setLevel(threshold)
            logger.handlers[:] = handlers


def _expected(record: logging.LogRecord) -> bool:
    """A stream that was broken on purpose has been logged where it broke; a web socket is refused by a status."""
    if record.name == "uvicorn.error" and str(record.msg).startswith(_OF_WEB_SOCKETS):
        return False
    return not (record.exc_info and record.exc_info[0] is not None and issubclass(record.exc_info[0], StreamBroken))


def _without_query(record: logging.LogRecord) -> bool:
    """uvicorn tells a request's path and query, in which there may be a token; it hides headers by itself."""
    if record.name == "uvicorn.asgi" and isinstance(record.args, tuple):
        record.args = tuple(_shown(value) if isinstance(value, dict) else value for value in record.args)
    return True


def _shown(scope: dict[str, object]) -> dict[str, object]:
    return {name: "<...>" if name in _TELLING else value for name, value in scope.items()}


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatException(self, ei: object) -> str:
        return _frames(ei)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = _frames(record.exc_info)
        return dump_text(line)


def _frames(info: object) -> str:
    """Where it happened and the exception's type; its text might repeat what a caller wrote."""
    if not isinstance(info, tuple) or info[0] is None:
        return ""
    return "".join(traceback.format_tb(info[2])) + str(info[0].__name__)
