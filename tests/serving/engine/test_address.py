"""Ports that are taken, and ports that are free."""

from __future__ import annotations

import socket

import pytest

from serving.engine.address import free_port, require_free
from serving.engine.errors import PortTaken


def test_taken_port_is_one_line_that_names_the_option():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}: address already in use.*--port") as raised:
            require_free("127.0.0.1", port, "--port")

    assert "\n" not in str(raised.value)


def test_address_of_another_machine_is_one_line():
    with pytest.raises(PortTaken, match="cannot assign requested address"):
        require_free("192.0.2.1", 8000, "--port")


def test_free_port_is_free():
    port = free_port()
    require_free("127.0.0.1", port, "--port")

    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortTaken):
        require_free("127.0.0.1", port, "--port")
