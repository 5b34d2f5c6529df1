"""What every test relies on: the event loop, and surroundings that hold nothing of the developer's own."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, TypeVar

import hypothesis
import pytest

# Both build on hypothesis's own choice, which repeats the same examples where CI is set. No deadline, since a shared
# machine stalls now and then. `pytest --hypothesis-profile=thorough` looks longer for counterexamples.
hypothesis.settings.register_profile("relay", deadline=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("relay")

FOREIGN = ("CLOUDFLARE_", "RELAY_", "OPENAI_", "LANGCHAIN_", "LANGSMITH_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

R = TypeVar("R")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The backend of all async tests; of session scope, so that async fixtures of any scope can be written."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="session", autouse=True)
def _heard_interrupts() -> None:
    """Shells start what runs in the background deaf to Ctrl-C, and children inherit that: tests send it to theirs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the developer's settings, keys and proxies; give programs that look for a home folder an empty one."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(FOREIGN) or name.lower() in PROXIES:
                patch.delenv(name)
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(home / name.lower()))
        yield


def _staying(connect: Callable[[socket.socket, Any], R]) -> Callable[[socket.socket, Any], R]:
    """Whoever connects beyond this machine through Python's sockets gets an AssertionError.

    No audit hook: coverage sets its trace function in each new thread, and while a hook in Python is told of that, no
    other thread may (CPython then lets the thread die).
    """

    @functools.wraps(connect)
    def checked(self: socket.socket, address: Any) -> R:
        if isinstance(address, tuple):
            _refuse_to_leave(address[0])
        return connect(self, address)

    return checked


def _refuse_to_leave(host: str) -> None:
    try:
        here = ip_address(host.partition("%")[0]).is_loopback
    except ValueError:  # a name, which connect() itself has looked up
        here = host == "localhost"
    if not here:
        raise AssertionError(f"a test tried to connect to {host}")


for _name in ("connect", "connect_ex"):
    setattr(socket.socket, _name, _staying(getattr(socket.socket, _name)))
