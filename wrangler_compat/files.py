"""Reading a project's files as text, and the list of what is wrong in them."""

from __future__ import annotations

import os
from pathlib import Path

# The longer marks first: the UTF-32 one begins like the UTF-16 one.
_WIDE_MARKS = {
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\xfe\xff": "UTF-16",
    b"\xff\xfe": "UTF-16",
}


class Files:
    """Reads each file once, and collects what is wrong with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._texts: dict[Path, str | None] = {}

    def shown(self, path: Path) -> str:
        """`path` as messages name it: relative to the working directory."""
        try:
            return os.path.relpath(path, self.directory)
        except ValueError:  # Windows: another drive
            return str(path)

    def text(self, path: Path) -> str | None:
        """The text of a file; None where there is none, or where it cannot be read (an error)."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def unreadable(self, path: Path, exc: OSError | ValueError) -> None:
        """List as an error that `path` cannot be read; a ValueError is of a path that cannot be."""
        reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        self.errors.append(f"{self.shown(path)}: cannot be read ({reason})")

    def _read(self, path: Path) -> str | None:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as exc:  # ValueError: a null character in the name
            self.unreadable(path, exc)
            return None
        mark = next((name for mark, name in _WIDE_MARKS.items() if data.startswith(mark)), None)
        if mark is not None:
            self.errors.append(f"{self.shown(path)}: {mark} text; save it as UTF-8")
            return None
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            self.warnings.append(f"{self.shown(path)}:{line}: not UTF-8; what cannot be read became U+FFFD")
            return data.decode("utf-8", "replace")
