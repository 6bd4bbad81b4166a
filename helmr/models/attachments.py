"""A file of a session: what names it. Its bytes lie beside the ledger, never in an entry (S-143)."""

from __future__ import annotations

from typing import Final

from pydantic import ConfigDict

from helmr.models.common import Wire

ATTACHMENT_BYTES_MAX: Final = 50_000_000
ATTACHMENT_NAME_MAX: Final = 128
ATTACHMENTS_MAX: Final = 20
"""Most files of one wait."""
ATTACHMENTS_OF_SESSION_MAX: Final = 1_000
STORE_STEP: Final = "attachments.store"
"""Name of the steps that store a file, in transcripts."""


class Attachment(Wire):
    """A file that a session has stored. Its bytes never change.

    Parts that this version does not know are kept: the question hash covers them.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str
    name: str
    """Name of the file, without a folder."""
    type: str
    """Media type."""
    size: int
    """In bytes."""
    sha256: str
    """Of the bytes, in hex."""
