"""What is wrong with the pool, each until it is taken back."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

WARNINGS_KEPT = 50

OF_A_HOST = ("blocked", "memory", "retire", "silent")
"""Kinds that are over when the host is gone."""


class Warnings:
    """Texts by key: a kind, or `kind:host` where each host may have its own."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def show(self, key: str, text: str) -> None:
        """Show it until its key is taken back; of too many the oldest go."""
        if key not in self._texts:
            logger.warning("%s", text)
        self._texts[key] = text
        while len(self._texts) > WARNINGS_KEPT:
            self._texts.pop(next(iter(self._texts)))

    def take_back(self, key: str) -> None:
        """It is over; nothing if it was not shown."""
        self._texts.pop(key, None)

    def host_gone(self, name: str) -> None:
        """Take back what is shown of a host."""
        for kind in OF_A_HOST:
            self.take_back(f"{kind}:{name}")

    @property
    def texts(self) -> list[str]:
        """All of them, the oldest first."""
        return list(self._texts.values())

    @property
    def kinds(self) -> list[str]:
        """The kinds that there are, sorted."""
        return sorted({key.partition(":")[0] for key in self._texts})
