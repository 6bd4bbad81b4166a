"""What the ledger keeps of standing grants, over a restart too (S-107, S-117)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import GrantNotFound, LedgerDamaged, PersonDisabled
from helmr.gate.grant_scope import GrantScope
from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.people import DisablePerson, person_principal
from helmr_runtime.features import FEATURES
from helmr_runtime.features.gate import memory
from helmr_runtime.features.gate.facts import (
    CreateGrant,
    GetGrant,
    GrantsOf,
    ListGrants,
    RevokeGrant,
)
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.tools.audit import audit
from tests.ledger.conftest import Opener
from tests.ledger.sessions import ALICE

AnyLedger = MemoryLedger | DuckLedger

ADA = person_principal("ada", "key_1")
SCOPE = GrantScope("claude-code", "a1", "api_key:key_1", "Bash", {"command": ("git *",)})
DISABLE_ADA = DisablePerson(principal=ALICE, person="ada", names=("ada", "ada@x.y"))


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


async def counting(ledger: AnyLedger, agent: str = "a1") -> list[str]:
    found = await ledger.ask(GrantsOf(client="claude-code", agent=agent))
    return [one["id"] for one in found]


async def shown(ledger: AnyLedger, **asked: Any) -> Any:
    return await ledger.ask(ListGrants(**asked))


async def test_it_counts_for_its_agent_until_its_time_or_its_revocation(
    ledger: AnyLedger, clock: FakeClock
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
    page = await shown(ledger, limit=2)
    assert [one["id"] for one in page["items"]] == [other.grant_id, long.grant_id]
    rest = await shown(ledger, cursor=page["next_cursor"])
    assert [one["id"] for one in rest["items"]] == [short.grant_id]
    with pytest.raises(GrantNotFound):
        await ledger.fact(RevokeGrant(principal=ADA, grant_id=ids.new_id(ids.GRANT)))


async def test_a_repeated_operation_makes_one(ledger: AnyLedger, clock: FakeClock) -> None:
    first = grant(clock)
    await ledger.fact(first)
    assert await ledger.fact(first) == {"grant_id": first.grant_id}
    assert await counting(ledger) == [first.grant_id]


async def test_a_restart_changes_nothing(opener: Opener, clock: FakeClock) -> None:
    ledger = await opener()
    kept, revoked = grant(clock), grant(clock)
    for one in (kept, revoked):
        await ledger.fact(one)
    await ledger.fact(RevokeGrant(principal=ALICE, grant_id=revoked.grant_id))
    before = await shown(ledger)
    again = await opener()
    assert await shown(again) == before
    assert await counting(again) == [kept.grant_id]
    assert before["items"][1]["matches"] == {"command": ["git *"]}
    assert await again.ask(GetGrant(grant_id=kept.grant_id)) == before["items"][1]


async def test_disabling_a_person_ends_what_counts_of_what_they_have_granted(
    ledger: AnyLedger, clock: FakeClock
) -> None:
    said = Principal("api_key", "key_2", "desk", "ada@x.y")
    over = grant(clock, ADA)
    await ledger.fact(over)
    clock.move_to(clock.now() + timedelta(hours=1))
    given = [grant(clock, by) for by in (ADA, said, ALICE)]
    for one in given:
        await ledger.fact(one)
    before = await ledger.feed_head()
    await ledger.fact(DISABLE_ADA)
    found = await ledger.feed(before, 10, 0)
    assert [one["kind"] for one in found] == ["person.disabled", "grant.revoked", "grant.revoked"]
    assert [one["body"]["grant_id"] for one in found[1:]] == [one.grant_id for one in given[:2]]
    assert await counting(ledger) == [given[2].grant_id]
    assert (await ledger.ask(GetGrant(grant_id=over.grant_id)))["revoked_at"] is None


async def test_a_grant_of_one_who_is_disabled_in_the_same_group_ends_with_them(
    duck: DuckLedger, clock: FakeClock
) -> None:
    """The disabling waits until the grant is folded; decided beside it, it would not see it."""
    await asyncio.gather(duck.fact(grant(clock, ADA)), duck.fact(DISABLE_ADA))
    kinds = [one.kind.value for one in await duck.entries_after(0, 10)]
    assert kinds[-3:] == ["grant.created", "person.disabled", "grant.revoked"]
    assert await counting(duck) == []


async def test_no_grant_comes_behind_the_disabling_of_its_giver(
    duck: DuckLedger, clock: FakeClock
) -> None:
    replies = await asyncio.gather(
        duck.fact(DISABLE_ADA), duck.fact(grant(clock, ADA)), return_exceptions=True
    )
    assert [type(one) for one in replies] == [dict, PersonDisabled]
    assert await counting(duck) == []


async def test_the_oldest_makes_room_and_counts_no_more(
    opener: Opener, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "GRANTS_MAX", 2)
    table = replace(memory.TABLE, rows_max=2)
    monkeypatch.setattr(memory, "PART", replace(memory.PART, table=table))
    ledger = await opener()
    given = [grant(clock) for _ in range(3)]
    for one in given:
        await ledger.fact(one)
    newest = [one.grant_id for one in given[1:]]
    assert await counting(ledger) == newest
    with pytest.raises(GrantNotFound):
        await ledger.fact(RevokeGrant(principal=ALICE, grant_id=given[0].grant_id))
    again = await opener()
    assert await counting(again) == newest
    await again.fact(RevokeGrant(principal=ALICE, grant_id=newest[0]))
    assert await counting(await opener()) == newest[1:]


@pytest.mark.allows_blocking
async def test_a_bad_row_is_named_by_its_grant(
    opener: Opener, path: Path, clock: FakeClock
) -> None:
    ledger = await opener()
    one = grant(clock)
    await ledger.fact(one)
    await ledger.read_tables(lambda reader: None)
    with ledger._database.transaction() as connection:
        connection.execute("UPDATE grants SET revoked_at = now()")
    await ledger.close()
    with stored_ledger(path) as stored, pytest.raises(LedgerDamaged, match=one.grant_id) as caught:
        audit(stored, LedgerKeys(None, FEATURES), clock.now())
    assert caught.value.facts["table"] == "grants"
