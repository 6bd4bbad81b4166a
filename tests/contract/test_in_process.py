"""The contract over a runtime that lives on a thread of the calling process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from helmr import embedded
from tests.contract.cases import PERSON, Way, on_faces
from tests.contract.faces import Awaited

pytestmark = pytest.mark.allows_blocking

TASKS = "tests.contract.contract_tasks"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Embedded]:
    """One for all cases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with embedded.start(TASKS, in_process=True) as one:
            yield one


@pytest.mark.parametrize(("face", "case"), on_faces())
async def test_the_contract(face: str, case: Any, runtime: embedded.Embedded) -> None:
    way = Way(principal="api_key")
    if face == "async":
        async with runtime.async_client(on_behalf_of=PERSON) as client:
            await case(client, way)
        return
    blocking = await asyncio.to_thread(runtime.client, on_behalf_of=PERSON)
    try:
        await case(Awaited(blocking), way)
    finally:
        await asyncio.to_thread(blocking.close)
