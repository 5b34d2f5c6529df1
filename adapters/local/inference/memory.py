"""The C library's memory, for models on the CPU."""

from __future__ import annotations

from typing import Any

# mallopt(3). glibc gives big blocks back to the system as soon as they are free, and those of other threads' arenas
# earlier still; a step that computes prompts then spends most of its time on page faults (measured: three quarters).
_SETTINGS = {
    -8: 1,  # M_ARENA_MAX
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD, bytes: the largest it takes
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD
    -2: 64 * 2**20,  # M_TOP_PAD
}


def keep_freed_memory(library: Any) -> bool:
    """Let what one step frees serve the next. Returns whether `library` (the C library) is one that can do so.

    To be called before the threads that compute are started.
    """
    mallopt = getattr(library, "mallopt", None)
    return mallopt is not None and all([mallopt(name, value) == 1 for name, value in _SETTINGS.items()])
