"""Tells the manager of services that has started this process, if one asked for it, that it is ready or ends.

Source: sd_notify(3): a datagram to the unix socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell(state: str) -> None:
    """Say so. A manager that does not listen is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as place:
        place.settimeout(1.0)
        place.sendto(
            state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address
        )
