"""The port of `helmr up`, which one test of this machine at a time may have."""

from __future__ import annotations

import fcntl
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helmr.cli.up_options import PORT

LOCK = Path(tempfile.gettempdir()) / f"helmr-tests-{PORT}.lock"


@contextmanager
def up_arguments() -> Iterator[str]:
    """What is typed behind `helmr up`: nothing, or another port if a test or a runtime of the developer's has that."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_ours = False
        else:
            is_ours = _is_free()
        yield "" if is_ours else " --port 0"


def _is_free() -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return False
        return True
