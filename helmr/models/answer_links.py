"""An answer link on the wire: it lets its bearer answer one wait."""

from __future__ import annotations

from datetime import datetime

from helmr.models.common import Wire


class AnswerLinkInfo(Wire):
    """An answer link, without its URL (S-74)."""

    id: str
    wait_id: str
    session_id: str
    person: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    is_live: bool
    """True while its wait is pending, and it is neither expired nor revoked."""


class AnswerLinkReceipt(AnswerLinkInfo):
    """A new answer link with its URL, which only this answer shows."""

    url: str
