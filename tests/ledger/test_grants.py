"""What the ledger keeps of standing grants, over a restart too (S-107, S-117)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from helmr import ids
from helmr.errors import GrantNotFound
from helmr.gate.grant_scope import GrantScope
from helmr_runtime.clock import FakeClock
from helmr_runtime.core import grants as core_grants
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.grants import CreateGrant, RevokeGrant
from helmr_runtime.core.people import DisablePerson, person_principal
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.index import grants as index_grants
from tests.ledger.sessions import ALICE

ADA = person_principal("ada", "key_1")
SCOPE = GrantScope("claude-code", "a1", "api_key:key_1", "Bash", {"command": ("git *",)})


def ledger_at(folder: Path, clock: FakeClock) -> LedgerActor:
    return LedgerActor(folder / "helmr.duckdb", clock=clock)


@pytest.fixture
async def ledger(tmp_path: Path, clock: FakeClock) -> AsyncIterator[LedgerActor]:
    found = ledger_at(tmp_path, clock)
    yield found
    await found.close()


def grant(
    clock: FakeClock, by: Principal = ALICE, agent: str = "a1", hours: int = 1
) -> CreateGrant:
    return CreateGrant(
        principal=by,
        operation=OperationKey(id=ids.new_id(ids.OPERATION), request_hash="r"),
        grant_id=ids.new_id(ids.GRANT),
        scope=replace(SCOPE, agent=agent).to_json(),
        session_id=ids.new_id(ids.SESSION),
        expires_at=clock.now() + timedelta(hours=hours),
    )


async def counting(ledger: LedgerActor, agent: str = "a1") -> list[str]:
    return [one["id"] for one in await ledger.grants_of("claude-code", agent)]


async def test_it_counts_for_its_agent_until_its_time_or_its_revocation(
    ledger: LedgerActor, clock: FakeClock
) -> None:
    short, long, other = grant(clock), grant(clock, hours=2), grant(clock, agent="a2")
    for one in (short, long, other):
        assert await ledger.fact(one) == {"grant_id": one.grant_id}
    assert await counting(ledger) == [short.grant_id, long.grant_id]
    assert await counting(ledger, "a3") == []
    clock.move_to(clock.now() + timedelta(hours=1))
    assert await counting(ledger) == [long.grant_id]
    await ledger.fact(RevokeGrant(principal=ADA, grant_id=long.grant_id))
    assert await counting(ledger) == []
    head = await ledger.feed_head()
    await ledger.fact(RevokeGrant(principal=ADA, grant_id=long.grant_id))
    assert await ledger.feed_head() == head
    page = await ledger.list_grants(limit=2)
    assert [one["id"] for one in page["items"]] == [other.grant_id, long.grant_id]
    rest = await ledger.list_grants(cursor=page["next_cursor"])
    assert [one["id"] for one in rest["items"]] == [short.grant_id]
    with pytest.raises(GrantNotFound):
        await ledger.fact(RevokeGrant(principal=ADA, grant_id=ids.new_id(ids.GRANT)))


async def test_a_repeated_operation_makes_one(ledger: LedgerActor, clock: FakeClock) -> None:
    first = grant(clock)
    await ledger.fact(first)
    assert await ledger.fact(first) == {"grant_id": first.grant_id}
    assert await counting(ledger) == [first.grant_id]


async def test_a_restart_changes_nothing(tmp_path: Path, clock: FakeClock) -> None:
    ledger = ledger_at(tmp_path, clock)
    kept, revoked = grant(clock), grant(clock)
    for one in (kept, revoked):
        await ledger.fact(one)
    await ledger.fact(RevokeGrant(principal=ALICE, grant_id=revoked.grant_id))
    before = await ledger.list_grants()
    await ledger.close()
    again = ledger_at(tmp_path, clock)
    assert await again.list_grants() == before
    assert await counting(again) == [kept.grant_id]
    assert before["items"][1]["matches"] == {"command": ["git *"]}
    await again.close()


async def test_disabling_a_person_ends_what_they_have_granted(
    ledger: LedgerActor, clock: FakeClock
) -> None:
    said = Principal("api_key", "key_2", "desk", "ada@x.y")
    given = [grant(clock, by) for by in (ADA, said, ALICE)]
    for one in given:
        await ledger.fact(one)
    before = await ledger.feed_head()
    await ledger.fact(DisablePerson(principal=ALICE, person="ada", names=("ada", "ada@x.y")))
    kinds = [one["kind"] for one in await ledger.feed(before, 10, 0)]
    assert kinds == ["person.disabled", "grant.revoked", "grant.revoked"]
    assert await counting(ledger) == [given[2].grant_id]


async def test_the_oldest_makes_room_and_counts_no_more(
    ledger: LedgerActor, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (core_grants, index_grants):
        monkeypatch.setattr(module, "GRANTS_MAX", 2)
    given = [grant(clock) for _ in range(3)]
    for one in given:
        await ledger.fact(one)
    assert await counting(ledger) == [one.grant_id for one in given[1:]]
