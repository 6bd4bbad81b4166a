"""Tokens, public tokens and keys in the ledger's file: over restarts, rotations and races (S-40, S-41, S-52, S-63)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.current import TokenCall
from helmr.errors import (
    MasterKeyMissing,
    TokenCompleted,
    TokenExpired,
    WaitResolved,
    WaitTimedOut,
)
from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.api_keys import CreateApiKey, RevokeApiKey
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.public_tokens import CreateCompletionToken
from helmr_runtime.core.tokens import CancelToken, CompleteToken, CreateToken
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ports import Committed, Declined, TokenNotCompleted, TokenOpen
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.task_secrets import TaskSecrets
from tests.ledger.sessions import ALICE, begin, start_of

K1, K2 = MasterKey("k1", b"1" * 32), MasterKey("k2", b"2" * 32)
RING = KeyRing((K1,))
SECRETS = TaskSecrets(RING.session_keys(ids.SYSTEM_STREAM), "http://helmr.test")


def ledger_at(folder: Path, clock: FakeClock, ring: KeyRing | None = RING) -> LedgerActor:
    return LedgerActor(folder / "helmr.duckdb", clock=clock, ring=ring)


async def create(ledger: LedgerActor, **call: Any) -> str:
    new = SECRETS.new_token(TokenCall(**{"timeout_s": 3600, **call}))
    return str((await ledger.fact(CreateToken(principal=ALICE, new=new)))["token_id"])


def completion(token_id: str, data: Any, **more: Any) -> CompleteToken:
    return CompleteToken(principal=ALICE, token_id=token_id, data=data, **more)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_everything_is_there_after_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    ledger = ledger_at(tmp_path, clock)
    pending, done = await create(ledger, tags=("a",)), await create(ledger)
    await ledger.fact(completion(done, {"n": 1}))
    await ledger.fact(
        CreateApiKey(
            principal=ALICE, key_id=ids.new_id("key"), role="viewer", name="v", secret_hash="h"
        )
    )
    public = CreateCompletionToken(
        principal=ALICE,
        public_token_id=ids.new_id("pat"),
        token_id=pending,
        secret_hash="p",
        key_id="k1",
        max_uses=2,
        expires_at=clock.now() + timedelta(days=1),
        allowed_origins=("https://a.example",),
    )
    await ledger.fact(public)
    await ledger.close()
    for _ in range(2):  # from the tables, then from tables that were written anew
        again = ledger_at(tmp_path, clock)
        assert (await again.get_token(pending))["tags"] == ["a"]
        assert (await again.get_token(done))["data"] == {"n": 1}
        with pytest.raises(TokenCompleted):
            await again.fact(completion(done, {"n": 2}))
        key = await again.find_api_key("h")
        assert key is not None
        assert key["role"] == "viewer"
        found = await again.find_public_token("p")
        assert found is not None
        assert (found["uses_left"], found["allowed_origins"]) == (2, ["https://a.example"])
        listed = await again.list_tokens(status="pending")
        assert [one["id"] for one in listed["items"]] == [pending]
        await again.close()


async def test_one_of_many_concurrent_completions_wins(tmp_path: Path, clock: FakeClock) -> None:
    ledger = ledger_at(tmp_path, clock)
    token_id = await create(ledger)
    answers = await asyncio.gather(
        *(ledger.fact(completion(token_id, n)) for n in range(50)), return_exceptions=True
    )
    won = [one for one in answers if isinstance(one, dict)]
    assert len(won) == 1
    lost = [one for one in answers if isinstance(one, TokenCompleted)]
    assert len(lost) == 49
    assert {one.facts["completed_at"] for one in lost} == {won[0]["completed_at"]}
    await ledger.close()


async def test_a_token_that_ends_while_it_is_read_is_shown_whole(
    duck: DuckLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = SECRETS.new_token(TokenCall(timeout_s=3600))
    token_id = str((await duck.fact(CreateToken(principal=ALICE, new=new)))["token_id"])
    stored = duck.entry
    ends = [completion(token_id, "yes")]

    async def ends_meanwhile(feed_offset: int) -> Entry:
        found = await stored(feed_offset)
        if ends:
            await duck.fact(ends.pop())
        return found

    monkeypatch.setattr(duck, "entry", ends_meanwhile)
    read = await duck.get_token(token_id)
    assert (read["status"], read["data"]) == ("completed", "yes")


async def test_uses_of_a_completing_public_token_are_spent_once(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock)
    token_id = await create(ledger)
    made = (await ledger.get_token(token_id))["public_token_id"]
    operation = OperationKey(id=ids.new_id("op"), request_hash="r")
    first = completion(token_id, 1, public_token_id=made, operation=operation)
    for _ in range(3):
        assert (await ledger.fact(first))["outcome"] == "completed"
    again = await ledger.fact(completion(token_id, 1, public_token_id=made))
    assert again["outcome"] == "already_completed"
    written = await ledger.fact(completion(token_id, 1.0))
    assert written["outcome"] == "already_completed", "1.0 is 1"
    with pytest.raises(TokenCompleted):
        await ledger.fact(completion(token_id, True))
    assert (await ledger.get_public_token(made))["uses"] == 1
    await ledger.close()


async def test_a_token_expires_at_its_time_also_over_a_restart(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock)
    first, second = await create(ledger, timeout_s=60), await create(ledger, timeout_s=120)
    clock.move_to(clock.now() + timedelta(seconds=60))
    with pytest.raises(TokenExpired):
        await ledger.fact(completion(first, 1))
    await ledger.close()
    clock.move_to(clock.now() + timedelta(seconds=60))
    again = ledger_at(tmp_path, clock)
    for token_id in (first, second):
        async with asyncio.timeout(10):
            while (end := await again.token_end(token_id)) is None:
                await asyncio.sleep(0.01)
        assert end["status"] == "expired"
    await again.close()


async def test_a_wait_that_opens_on_an_ended_token_is_told_at_once(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock, None)
    token_id = await create(ledger)
    await ledger.fact(completion(token_id, "x"))
    hand = await begin(ledger, clock)
    await hand.adopt()
    await hand.stored(hand.started())
    wait = hand.wait(kind="token", token_id=token_id)
    flush = hand.flush(wait, preconditions=(TokenOpen((token_id,), wait.body["wait_id"]),))
    reply = await ledger.commit(flush)
    assert isinstance(reply, Declined)
    assert (reply.facts["status"], reply.facts["data"]) == ("completed", "x")
    await ledger.close()


async def test_an_answer_completes_a_token_only_while_its_wait_is_pending(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The wait is held: its deadline passes before its host has written that (S-18)."""
    ledger = ledger_at(tmp_path, clock, None)
    token_id = await create(ledger)
    hand = await begin(ledger, clock)
    await hand.adopt()
    await hand.stored(hand.started())
    wait = hand.wait(
        kind="token", token_id=token_id, deadline_at=clock.now() + timedelta(seconds=60)
    )
    await hand.stored(wait)
    before = await ledger.feed_head()
    clock.move_to(clock.now() + timedelta(seconds=60))
    answer = completion(token_id, "x", answers=(hand.session_id, wait.body["wait_id"]))
    with pytest.raises(WaitTimedOut):
        await ledger.fact(answer)
    with pytest.raises(WaitResolved):
        await ledger.fact(completion(token_id, "x", answers=(hand.session_id, "wait_other")))
    assert await ledger.feed_head() == before
    assert (await ledger.get_token(token_id))["status"] == "pending"
    # By whoever waits for nothing, it can be completed still.
    assert (await ledger.fact(completion(token_id, "x")))["outcome"] == "completed"
    await ledger.close()


async def test_an_end_is_on_the_work_list_until_its_wait_is_resolved_also_over_restarts(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock, None)
    token_id = await create(ledger)
    hand = await begin(ledger, clock)
    await hand.adopt()
    await hand.stored(hand.started())
    wait = hand.wait(
        kind="token", token_id=token_id, deadline_at=clock.now() + timedelta(seconds=60)
    )
    flush = hand.flush(wait, preconditions=(TokenOpen((token_id,), wait.body["wait_id"]),))
    assert isinstance(await ledger.commit(flush), Committed)
    await hand.stored(checkpoint=True, release=True)
    await ledger.fact(completion(token_id, "x"))
    await ledger.close()
    again = ledger_at(tmp_path, clock, None)
    hand.ledger = again
    items = (await again.work()).added  # before the deadline, at which it would be looked for
    assert [(item.kind, item.token_id) for item in items] == [("delivery", token_id)]
    clock.move_to(clock.now() + timedelta(seconds=90))
    await hand.adopt()
    guard = TokenNotCompleted((token_id,), clock.now())
    timed_out = hand.flush(hand.fulfilled(wait), preconditions=(guard,))
    assert isinstance(await again.commit(timed_out), Declined)
    hand.follow(await again.load(hand.session_id, "slot-2"))
    await hand.stored(hand.fulfilled(wait))
    items = (await again.work()).added
    assert [item for item in items if item.kind == "delivery"] == []
    await again.close()


async def test_a_chain_keeps_the_master_key_that_it_began_with(
    tmp_path: Path, clock: FakeClock
) -> None:
    ledger = ledger_at(tmp_path, clock)
    old = await ledger.start(start_of())
    token_id = await create(ledger)
    await ledger.close()
    again = ledger_at(tmp_path, clock, KeyRing((K1, K2)))
    new = await again.start(start_of())
    await again.fact(CancelToken(principal=ALICE, token_id=token_id))
    for session_id in (old.session_id, new.session_id):
        assert await again.verify_chain(session_id) == 2
    loaded = await again.load(old.session_id, "slot-1")
    assert loaded.chain_key == RING.chain_key(old.session_id, "k1")
    await again.close()
    without = ledger_at(tmp_path, clock, KeyRing((K2,)))
    assert await without.verify_chain(new.session_id) == 2
    with pytest.raises(MasterKeyMissing):
        await without.verify_chain(old.session_id)
    await without.close()


async def test_a_revoked_key_stays_revoked(tmp_path: Path, clock: FakeClock) -> None:
    ledger = ledger_at(tmp_path, clock)
    key_id = ids.new_id("key")
    made = CreateApiKey(principal=ALICE, key_id=key_id, role="sender", name="app", secret_hash="h")
    await ledger.fact(made)
    await ledger.fact(RevokeApiKey(principal=ALICE, key_id=key_id))
    await ledger.close()
    again = ledger_at(tmp_path, clock)
    key = await again.find_api_key("h")
    assert key is not None
    assert key["revoked_at"] is not None
    await again.close()
