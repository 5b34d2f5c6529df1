"""The guards of conftest.py are in place."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from platformdirs import user_state_path


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_connection_beyond_this_machine_is_refused(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(0.1)
        with pytest.raises(AssertionError, match="tried to connect"):
            client.connect((address, 9))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_connection_to_this_machine_is_made(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect((host, server.getsockname()[1]))
        assert client.getpeername() == server.getsockname()


def test_nothing_of_the_developers_own_is_seen() -> None:
    assert not [name for name in os.environ if name.startswith(("CLOUDFLARE_", "RELAY_")) or "_proxy" in name.lower()]


@pytest.mark.skipif(os.name == "nt", reason="the folders of Windows are not named by the environment")
def test_state_goes_to_a_folder_of_the_test_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert Path(user_state_path("relay")).is_relative_to(tmp_path_factory.getbasetemp())
