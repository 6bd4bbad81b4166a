# Made by `make clients` from aio_notices.py; edit that one.
"""Notice targets, blocking."""

from __future__ import annotations

from helmr.client import notice_operations as operations
from helmr.client.http import HttpTransport
from helmr.models import NoticeRetryReceipt, NoticeTargetInfo, NoticeTestReceipt


class Notices:
    """Who is told that something waits (S-84). Which targets there are stands in the runtime's `helmr.toml`."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def list(self) -> list[NoticeTargetInfo]:
        """Every target, and how far it is."""
        return (self._transport.call(operations.list_targets())).items

    def test(self, name: str) -> NoticeTestReceipt:
        """Have a target told that this is a test; says whether it took that.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return self._transport.call(operations.test_target(name))

    def retry(self, name: str) -> NoticeRetryReceipt:
        """Try now what a target has not taken, also what it was passed by.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return self._transport.call(operations.retry_target(name))
