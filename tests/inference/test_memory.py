"""What the C library is told; needs no torch."""

from __future__ import annotations

import ctypes
import platform

from adapters.local.inference.memory import keep_freed_memory


def test_glibc_takes_every_setting_and_other_libraries_are_left_alone() -> None:
    assert keep_freed_memory(ctypes.pythonapi) == (platform.libc_ver()[0] == "glibc")
    assert not keep_freed_memory(object())
