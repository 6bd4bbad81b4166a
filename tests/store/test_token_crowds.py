"""Ten thousand tokens whose time is over at once: the bound of S-14, commits in between, deliveries (S-40)."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from helmr import ids
from helmr.current import TokenCall
from helmr.models import TokenStatus
from runtime.clock import FakeClock
from runtime.core.entries import Draft, EntryKind
from runtime.ports import Committed, TokenOpen, WorkItem
from runtime.security.keys import KeyRing, MasterKey
from runtime.security.task_secrets import TaskSecrets
from runtime.store.duck.ledger import DuckLedger
from runtime.store.duck.rounds import DUE_MAX
from tests.store.sessions import Hand, begin, running

TOKENS = 10_000
WAITERS = 1_100
"""More than one look at the work list shows."""

SECRETS = TaskSecrets(
    KeyRing((MasterKey("k1", b"1" * 32),)).session_keys(ids.NIL_SESSION), "http://h"
)


async def crowd(duck: DuckLedger, clock: FakeClock) -> dict[str, tuple[Hand, Draft]]:
    """The tokens, all of one deadline, and the parked sessions that wait on some of them."""
    maker, made = await running(duck, clock), []
    for _ in range(0, TOKENS, 500):
        bodies = [
            SECRETS.new_token(TokenCall(timeout_s=60)).to_body(clock.now()) for _ in range(500)
        ]
        await maker.stored(*(maker.draft(EntryKind.TOKEN_CREATED, **body) for body in bodies))
        made += [str(body["token_id"]) for body in bodies]

    async def wait_on(token_id: str) -> tuple[Hand, Draft]:
        hand = await begin(duck, clock)
        await hand.adopt()
        wait = hand.wait(kind="token", token_id=token_id)
        guard = TokenOpen(token_id, wait.body["wait_id"])
        await hand.stored(
            hand.started(), wait, checkpoint=True, release=True, preconditions=(guard,)
        )
        return hand, wait

    waiting: dict[str, tuple[Hand, Draft]] = {}
    for first in range(0, WAITERS, 100):
        for hand, wait in await asyncio.gather(*map(wait_on, made[first : first + 100])):
            waiting[hand.session_id] = hand, wait
    return waiting


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_tokens_expire_within_five_seconds_and_commits_go_between(
    duck: DuckLedger, clock: FakeClock
) -> None:
    waiting = await crowd(duck, clock)
    hand = await running(duck, clock)
    expired_at_commits: list[int] = []

    def expired() -> int:
        return TOKENS - sum(token.is_pending for token in duck.book.tokens)

    began = time.perf_counter()
    clock.move_to(clock.now() + timedelta(seconds=60))
    async with asyncio.timeout(20):
        while expired() < TOKENS:
            await hand.stored(hand.step(), hand.step_done())
            expired_at_commits.append(expired())
    assert time.perf_counter() - began < 5
    # A commit never waited for more than one batch of them.
    steps = [0, *expired_at_commits]
    assert max(later - earlier for earlier, later in pairwise(steps)) <= DUE_MAX
    assert sum(0 < count < TOKENS for count in expired_at_commits) >= TOKENS // DUE_MAX - 1

    delivered = 0
    async with asyncio.timeout(60):
        while items := [item for item in duck.work()[1] if item.kind == "delivery"]:
            await asyncio.gather(*(deliver(duck, item, waiting) for item in items))
            delivered += len(items)
    assert delivered == WAITERS  # each once
    outcomes = await duck.read_tables(
        lambda reader: (
            reader.execute("SELECT status, count(*) FROM waits GROUP BY ALL").fetchall(),
            reader.execute("SELECT status, count(*) FROM tokens GROUP BY ALL").fetchall(),
        )
    )
    assert outcomes == ([("timed_out", WAITERS)], [("expired", TOKENS)])


async def deliver(duck: DuckLedger, item: WorkItem, waiting: dict[str, tuple[Hand, Draft]]) -> Any:
    """What the directory and a session actor do: ask how the token ended, adopt, resolve the wait."""
    assert item.token_id is not None
    end = await duck.token_end(item.token_id)
    assert end is not None
    assert end["status"] == TokenStatus.EXPIRED
    hand, wait = waiting[item.session_id]
    await hand.adopt()
    body = {"wait_id": wait.body["wait_id"], "next": "queued"}
    ended = Draft(EntryKind.WAIT_TIMED_OUT, body, run_id=hand.run_id, op=wait.op)
    reply = await hand.commit(ended, checkpoint=True, release=True)
    assert isinstance(reply, Committed)
