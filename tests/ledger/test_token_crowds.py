"""Ten thousand tokens whose time is over at once: the bound of S-14, commits in between, their waits (S-40)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from helmr.current import TokenCall
from helmr.models import TokenStatus
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import RUNTIME, Draft, EntryKind
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import group_builder
from helmr_runtime.ledger.log.group_builder import DUE_MAX
from helmr_runtime.ports import Committed, TokenOpen
from helmr_runtime.ports.ledger import WorkItem
from tests.ledger.facts import SECRETS, create_token
from tests.ledger.own_time import OwnTime
from tests.ledger.sessions import Hand, begin, running

TOKENS = 10_000
WAITERS = 1_100
HELD = 60
"""So many of the waiting sessions are held by an actor."""


async def waiting_on(duck: DuckLedger, clock: FakeClock, token_id: str) -> tuple[Hand, Draft]:
    """A parked session that waits on the token."""
    hand = await begin(duck, clock)
    await hand.adopt()
    wait = hand.wait(kind="token", token_id=token_id)
    guard = TokenOpen((token_id,), wait.body["wait_id"])
    await hand.stored(hand.started(), wait, checkpoint=True, release=True, preconditions=(guard,))
    return hand, wait


async def crowd(duck: DuckLedger, clock: FakeClock) -> dict[str, tuple[Hand, Draft]]:
    """The tokens, all of one deadline, and the parked sessions that wait on some of them."""
    maker, made = await running(duck, clock), []
    for _ in range(0, TOKENS, 500):
        bodies = [
            SECRETS.new_token(TokenCall(timeout_s=60)).to_body(clock.now()) for _ in range(500)
        ]
        await maker.stored(*(maker.draft(EntryKind.TOKEN_CREATED, **body) for body in bodies))
        made += [str(body["token_id"]) for body in bodies]

    waiting: dict[str, tuple[Hand, Draft]] = {}
    for first in range(0, WAITERS, 100):
        some = made[first : first + 100]
        for hand, wait in await asyncio.gather(*(waiting_on(duck, clock, one) for one in some)):
            waiting[hand.session_id] = hand, wait
    for hand, _ in list(waiting.values())[:HELD]:
        await hand.adopt()
    return waiting


@pytest.mark.long  # deadlines at once: test_group_commit.py
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_tokens_expire_within_five_seconds_and_commits_go_between(
    duck: DuckLedger, clock: FakeClock
) -> None:
    waiting = await crowd(duck, clock)
    hand = await running(duck, clock)
    expired_at_commits: list[int] = []

    def expired() -> int:
        return TOKENS - sum(token.is_pending for token in duck.index.tokens)

    began = OwnTime()
    clock.move_to(clock.now() + timedelta(seconds=60))
    async with asyncio.timeout(40):
        while expired() < TOKENS:
            await hand.stored(hand.step(), hand.step_done())
            expired_at_commits.append(expired())
    # The waits of sessions that nobody holds timed out with their tokens, the others are delivered.
    assert sum(head.wait is None for head in map(duck.index.heads.get, waiting) if head) == (
        WAITERS - HELD
    )
    assert began.seconds() < 5
    # A commit never waited for more than one batch of them.
    steps = [0, *expired_at_commits]
    assert max(later - earlier for earlier, later in pairwise(steps)) <= DUE_MAX
    assert sum(0 < count < TOKENS for count in expired_at_commits) >= TOKENS // DUE_MAX - 1

    items = [item for item in (await duck.work()).added if item.kind == "delivery"]
    assert len(items) == HELD
    await asyncio.gather(*(deliver(duck, item, waiting) for item in items))
    assert not [item for item in (await duck.work()).added if item.kind == "delivery"]
    outcomes = await duck.read_tables(
        lambda reader: (
            reader.execute("SELECT status, count(*) FROM waits GROUP BY ALL").fetchall(),
            reader.execute("SELECT status, count(*) FROM tokens GROUP BY ALL").fetchall(),
        )
    )
    assert outcomes == ([("timed_out", WAITERS)], [("expired", TOKENS)])
    # The ledger wrote what an actor would have written.
    hand, opened = list(waiting.values())[HELD]
    last, wait = (await hand.adopt()).entries[-1], opened.body
    assert (last.kind, last.op, last.principal) == (EntryKind.WAIT_TIMED_OUT, opened.op, RUNTIME)
    assert last.body == {
        "wait_id": wait["wait_id"],
        "token_id": wait["token_id"],
        "next": "queued",
    }


async def test_more_waits_on_one_token_than_fit_a_transaction_are_delivered(
    duck: DuckLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_builder, "DUE_MAX", 5)
    made = await duck.fact(create_token(timeout_s=60))
    waiting = [await waiting_on(duck, clock, str(made["token_id"])) for _ in range(7)]
    clock.move_to(clock.now() + timedelta(seconds=60))
    async with asyncio.timeout(10):
        while (await duck.token_end(str(made["token_id"]))) is None:
            await duck.changed(1)
    items = [item for item in (await duck.work()).added if item.kind == "delivery"]
    timed_out = [hand for hand, _ in waiting if duck.index.heads[hand.session_id].wait is None]
    assert (len(timed_out), len(items)) == (4, 3)
    assert {item.session_id for item in items}.isdisjoint(hand.session_id for hand in timed_out)


async def deliver(duck: DuckLedger, item: WorkItem, waiting: dict[str, tuple[Hand, Draft]]) -> Any:
    """What the directory and the holder do: ask how the token ended, resolve the wait."""
    assert item.token_id is not None
    end = await duck.token_end(item.token_id)
    assert end is not None
    assert end["status"] == TokenStatus.EXPIRED
    hand, wait = waiting[item.session_id]
    body = {"wait_id": wait.body["wait_id"], "next": "queued"}
    ended = Draft(EntryKind.WAIT_TIMED_OUT, body, run_id=hand.run_id, op=wait.op)
    reply = await hand.commit(ended, checkpoint=True, release=True)
    assert isinstance(reply, Committed)
