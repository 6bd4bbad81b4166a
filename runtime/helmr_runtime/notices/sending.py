"""What all senders have in common: a notice goes out, and the target takes it or not."""

from __future__ import annotations

from typing import Protocol

from helmr.errors import HelmrError
from helmr_runtime.notices.content import Notice


class NotTaken(HelmrError):
    """A target has not taken a notice. The message may be shown: it says nothing secret."""


class Sender(Protocol):
    """Tells one target."""

    async def send(self, notice: Notice) -> None:
        """Return when the target has taken it.

        Raises:
            NotTaken: It has not, and why.
            UsageError: What it names of the environment or of files is not there.
        """
        ...
