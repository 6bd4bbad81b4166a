"""What is done to many runs stops where the runtime is away, and an admin alone prunes."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helmr.errors import OutcomeUnknown, RoleDenied, SessionNotFound, StoreUnavailable
from helmr.models import BulkItem, BulkRequest
from helmr.wire import ids
from helmr.wire.roles import Role
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Principal
from helmr_runtime.service.bulk import AT_ONCE, BulkOperations
from helmr_runtime.service.caller import Caller

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ADMIN = Caller(Principal("api_key", name="k"), role=Role.ADMIN)
OPERATOR = Caller(Principal("api_key", name="k"), role=Role.OPERATOR)


def items(count: int) -> list[BulkItem]:
    return [
        BulkItem(
            run_id=ids.new_id(ids.RUN),
            session_id=ids.new_id(ids.SESSION),
            attempt=1,
            operation_id=ids.new_id(ids.OPERATION),
        )
        for _ in range(count)
    ]


class Runs:
    """Retries the first so many."""

    def __init__(self, takes: int, then: Exception) -> None:
        self.takes = takes
        self.then = then
        self.asked: list[str] = []

    async def retry(self, caller: Caller, run_id: str, request: Any) -> Any:
        self.asked.append(caller.operation_id)
        if len(self.asked) > self.takes:
            raise self.then
        return SimpleNamespace(attempt=2)


class Sessions:
    """Knows those that are not gone."""

    def __init__(self, gone: set[str]) -> None:
        self.gone = gone

    async def get(self, session_id: str) -> Any:
        if session_id in self.gone:
            raise SessionNotFound(session_id)


class Pruning:
    """Removes what it is to remove, or fails behind it."""

    def __init__(self, sessions: Sessions, takes: set[str], fails: bool = False) -> None:
        self.sessions = sessions
        self.takes = takes
        self.fails = fails

    async def of_sessions(self, caller: Caller, asked: Any, named: Any) -> frozenset[str]:
        gone = self.takes & set(named)
        self.sessions.gone |= gone
        if self.fails:
            raise StoreUnavailable("a backup is being read")
        return frozenset(gone)


def bulk(runs: Any = None, sessions: Any = None, pruning: Any = None) -> BulkOperations:
    return BulkOperations(
        cast("Any", sessions), cast("Any", runs), cast("Any", pruning), FakeClock(NOW)
    )


@pytest.mark.parametrize(
    ("error", "word"),
    [(StoreUnavailable("away"), "failed"), (OutcomeUnknown("no answer"), "unknown")],
)
async def test_the_rest_is_left_where_the_runtime_is_away(error: Exception, word: str) -> None:
    asked = BulkRequest(verb="retry", runs=items(3 * AT_ONCE))
    runs = Runs(AT_ONCE + 2, error)
    found = [one.progress for one in (await bulk(runs).do(OPERATOR, asked)).items]
    assert found[: AT_ONCE + 2] == ["accepted"] * (AT_ONCE + 2)
    assert set(found[AT_ONCE + 2 : 2 * AT_ONCE]) == {word}
    assert found[2 * AT_ONCE :] == ["stopped"] * AT_ONCE
    assert runs.asked == [one.operation_id for one in asked.runs[: 2 * AT_ONCE]]


async def test_an_admin_alone_prunes_and_what_is_gone_already_is_done() -> None:
    goes, stays, was = items(3)
    sessions = Sessions({was.session_id})
    asked = BulkRequest(verb="prune", runs=[goes, stays, was])
    pruner = bulk(None, sessions, Pruning(sessions, {goes.session_id}))
    with pytest.raises(RoleDenied):
        await pruner.do(OPERATOR, asked)
    for _ in range(2):
        found = (await pruner.do(ADMIN, asked)).items
        assert [one.progress for one in found] == ["accepted", "skipped", "accepted"]


async def test_of_a_prune_that_broke_off_it_is_said_what_went() -> None:
    goes, stays = items(2)
    sessions = Sessions(set())
    asked = BulkRequest(verb="prune", runs=[goes, stays])
    pruner = bulk(None, sessions, Pruning(sessions, {goes.session_id}, fails=True))
    found = (await pruner.do(ADMIN, asked)).items
    assert [(one.progress, one.error) for one in found] == [
        ("accepted", None),
        ("failed", "store_unavailable"),
    ]
