"""The blocking client is what the awaited one makes."""

from __future__ import annotations

import inspect

import pytest

from helmr import AsyncClient, Client
from helmr.client import aio, aio_access, aio_sessions, aio_streams, aio_waits
from tests.client import generate_sync


def test_the_blocking_client_is_current() -> None:
    """`make clients` writes it."""
    assert generate_sync.outdated() == []


@pytest.mark.parametrize(
    "module", [aio, aio_access, aio_sessions, aio_streams, aio_waits], ids=lambda m: m.__name__
)
def test_nothing_awaited_is_left_in_the_blocking_client(module) -> None:
    blocking = generate_sync.CLIENT / generate_sync.NAMES[f"{module.__name__.rsplit('.')[-1]}.py"]
    text = blocking.read_text(encoding="utf-8")
    assert "await" not in text
    assert "async " not in text.lower().replace("asyncclient", "")


def test_both_have_the_same_public_methods() -> None:
    def methods(client: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(client) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
