"""What `up` makes ready before it starts anything."""

from __future__ import annotations

import socket

import pytest

from helmr.errors import Conflict
from runtime.actors.preparing import hold_port

HOST = "127.0.0.1"


def test_a_held_port_is_given_to_nobody_and_the_gateway_may_listen_there() -> None:
    port, holder = hold_port(HOST, 0)
    with holder:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        with socket.socket() as gateway:
            gateway.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            gateway.bind((HOST, port))
            gateway.listen()
            with socket.create_connection((HOST, port), timeout=2):
                pass
            with pytest.raises(Conflict, match=f"{HOST}:{port}"):
                hold_port(HOST, port)
    again, holder = hold_port(HOST, port)
    holder.close()
    assert again == port
