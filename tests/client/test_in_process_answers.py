"""An app in this process whose answer breaks off: its reader hears of it, as of a connection that is cut."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.client.inprocess import App, AppTransport, BlockingAppTransport
from helmr.client.problems import httpx


async def breaks(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("the other half")


class Broken:
    """The door to it."""

    async def open(self) -> App:
        return breaks

    async def close(self) -> None:
        return None


async def test_an_answer_that_breaks_off_is_no_whole_answer() -> None:
    async with httpx.AsyncClient(transport=AppTransport(Broken())) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="in the middle"):
            await client.get("http://ray/")


@pytest.mark.allows_blocking
def test_nor_is_it_for_a_blocking_client() -> None:
    with (
        httpx.Client(transport=BlockingAppTransport(Broken)) as client,
        pytest.raises(httpx.RemoteProtocolError, match="in the middle"),
    ):
        client.get("http://ray/")
