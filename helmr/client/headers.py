"""What each request says besides: which ledgers this process knows to have been promoted, and the caller's span.

A promoted runtime says so with each answer; whatever a client asks next, of whichever runtime, it says what it has
met (S-68). So a primary that was thought to be dead learns from its own clients that it has a successor. Nothing is
sent until some ledger was promoted.

The trace context is W3C's `traceparent`. A program that uses OpenTelemetry has loaded its API; nothing here loads it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from helmr.profiles import state_folder, write_private

HEADER = "Helmr-Generation"
STAMP_CHARS_MAX = 200
LEDGERS_MAX = 8
"""Ledgers remembered; the one met longest ago is forgotten."""

FILE = "generations"
FILE_BYTES_MAX = STAMP_CHARS_MAX * LEDGERS_MAX * 2


class KnownGenerations:
    """The newest stamp of each ledger, in this process and on this user's disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] | None = None
        self._lock = threading.Lock()

    def headers(self) -> dict[str, str]:
        """What a request says of them."""
        with self._lock:
            known = self._read()
            return {HEADER: ",".join(known.values())} if known else {}

    def met(self, headers: Mapping[str, str]) -> None:
        """An answer came with these headers."""
        stamp = headers.get(HEADER)
        if stamp is None or not _is_stamp(stamp):
            return
        with self._lock:
            known = self._read()
            ledger = stamp.partition(".")[0]
            if _generation(known.get(ledger, "")) >= _generation(stamp):
                return
            known.pop(ledger, None)
            known[ledger] = stamp
            while len(known) > LEDGERS_MAX:
                del known[next(iter(known))]
            with suppress(OSError):  # this process knows it; others meet it themselves
                write_private(self._path, "\n".join(known.values()) + "\n")

    def _read(self) -> dict[str, str]:
        if self._known is None:
            text = ""
            with suppress(OSError, UnicodeDecodeError), self._path.open("rb") as file:
                text = file.read(FILE_BYTES_MAX).decode("ascii")
            stamps = [line for line in text.splitlines() if _is_stamp(line)]
            self._known = {stamp.partition(".")[0]: stamp for stamp in stamps}
        return self._known


def _is_stamp(text: str) -> bool:
    parts = text.split(".")
    return (
        len(text) <= STAMP_CHARS_MAX
        and len(parts) == 4
        and parts[1].isdecimal()
        and all(
            part.isascii() and part.replace("_", "").replace("-", "").isalnum() for part in parts
        )
    )


def _generation(stamp: str) -> int:
    return int(stamp.split(".")[1][:9]) if stamp else 0


KNOWN = KnownGenerations(state_folder(os.environ).parent / FILE)
"""Of this process."""


API = "opentelemetry.trace"


def trace_headers() -> dict[str, str]:
    """What names the span that the calling code is below; nothing outside of any."""
    api: Any = sys.modules.get(API)
    current_span = getattr(api, "get_current_span", None)  # None while it is being imported
    if current_span is None:
        return {}
    span = current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
