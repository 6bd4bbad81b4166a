"""A gateway to talk to, and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from helmr.client import AsyncClient, Client, Retry
from tests.client.gateway import KEY, Gateway, running

QUICK = Retry(tries_max=4, total_s=10.0, pause_s=0.01, pause_max_s=0.05)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running(Gateway()) as one:
        yield one


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(url=gateway.url, key=KEY, retry=QUICK) as one:
        yield one


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url=gateway.url, key=KEY, retry=QUICK) as one:
        yield one
