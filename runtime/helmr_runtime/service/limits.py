"""What goes on under limits now, as the directory has it (S-119, S-120): nothing of it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from helmr.errors import Unavailable
from helmr.models import LimitInfo, ListQuery, Page
from helmr_runtime.ports import Directory
from helmr_runtime.service.health import ANSWER_TIMEOUT_S
from helmr_runtime.service.shared import page_of


class LimitOperations:
    """Limits: read.

    Args:
        directory: It gives the permits.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def list(self, query: ListQuery) -> Page[LimitInfo]:
        """A page of the limits that bound something, by name.

        Raises:
            Unavailable: The directory does not answer.
        """
        found = await _answered(self._directory.limits())
        ordered = sorted(found["items"], key=lambda one: str(one["name"]))
        return Page[LimitInfo].model_validate(page_of(ordered, query))


async def _answered(asking: Awaitable[Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await asking
    except TimeoutError:
        raise Unavailable(
            f"the directory did not answer in {ANSWER_TIMEOUT_S:g} s", hint="Try again."
        ) from None
