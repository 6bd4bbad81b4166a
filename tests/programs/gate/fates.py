"""What may happen while a server of `effects_server` does what it was asked to."""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """What happens while an order is charged."""

    ENDS_BEFORE = ".ends-before"
    """The server ends before it has charged."""
    ENDS_AFTER = ".ends-after"
    """The server ends when it has charged, and says nothing of it."""
    LOSES_CLIENT = ".loses-client"
    """Who has started the server is killed when it has charged."""
    FAILS = ".fails"
    """The charge is there, and the server says that it failed."""
