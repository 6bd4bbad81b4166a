"""Notice targets of a runtime, as an `AsyncClient` reaches them."""

from __future__ import annotations

from helmr.client.http import ClientPart
from helmr.models import (
    NoticeRetryReceipt,
    NoticeTargetInfo,
    NoticeTestReceipt,
    Page,
)
from helmr.wire.operations import (
    LIST_NOTICE_TARGETS,
    RETRY_NOTICE_TARGET,
    TELL_NOTICE_TARGET_A_TEST,
)


class AsyncNotices(ClientPart):
    """Notice targets, which receive notices of waits (S-84). The runtime's `helmr.toml` declares them."""

    async def list(self) -> list[NoticeTargetInfo]:
        """Every target, and its progress."""
        page: Page[NoticeTargetInfo] = await self._ask(LIST_NOTICE_TARGETS)
        return page.items

    async def test(self, name: str) -> NoticeTestReceipt:
        """Send a target a test notice; the receipt says whether the target took it.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._ask(TELL_NOTICE_TARGET_A_TEST, name)

    async def retry(self, name: str) -> NoticeRetryReceipt:
        """Send now all notices that a target has not taken, late ones too.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._ask(RETRY_NOTICE_TARGET, name)
