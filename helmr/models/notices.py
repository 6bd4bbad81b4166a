"""Notices on the wire: targets that are told when something waits."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from helmr.models.people import Wire

NOTICE_TARGET_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
NOTICE_TARGET_NAME_MAX = 64


class NoticeTargetInfo(Wire):
    """A notice target, and how far it is (S-84). Says no URL, no address and no secret.

    Attributes:
        offset: Feed offset up to which everything is taken or passed by; None until its first look.
        behind: Entries of the feed after that.
        queued: Events that wait for it, in order.
        late: Events that it was passed by and that are still tried.
        given_up: Events that are tried no more, since the gateway began.
        failing_since: When its first try failed of those since the last that was taken.
    """

    name: str
    type: Literal["webhook", "slack", "email", "command"]
    events: list[str]
    filter: str
    detail: Literal["none", "subject", "full"]
    offset: int | None = None
    behind: int | None = None
    queued: int = 0
    late: int = 0
    given_up: int = 0
    failing_since: datetime | None = None
    last_error: str | None = None
    last_taken_at: datetime | None = None


class NoticeTestReceipt(Wire):
    """Whether a target took the notice of a test; `error` says why not."""

    target: str
    taken: bool
    error: str | None = None


class NoticeRetryReceipt(Wire):
    """How many events of a target are tried now."""

    target: str
    count: int
