"""Notice targets, awaited."""

from __future__ import annotations

from helmr.client import notice_operations as operations
from helmr.client.http import AsyncHttpTransport
from helmr.models import NoticeRetryReceipt, NoticeTargetInfo, NoticeTestReceipt


class AsyncNotices:
    """Who is told that something waits (S-84). Which targets there are stands in the runtime's `helmr.toml`."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def list(self) -> list[NoticeTargetInfo]:
        """Every target, and how far it is."""
        return (await self._transport.call(operations.list_targets())).items

    async def test(self, name: str) -> NoticeTestReceipt:
        """Have a target told that this is a test; says whether it took that.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._transport.call(operations.test_target(name))

    async def retry(self, name: str) -> NoticeRetryReceipt:
        """Try now what a target has not taken, also what it was passed by.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._transport.call(operations.retry_target(name))
