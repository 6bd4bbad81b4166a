"""Two votes that a session decides before either is on disk: they go in one flush, in either order (S-113)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from helmr import streams, task
from helmr.errors import HelmrError
from helmr.testing import TESTER, Harness
from helmr.wire import ids
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.commands import (
    AddNote,
    AnswerWait,
    CancelRun,
    SessionCommand,
    WithdrawVote,
)
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.people import person_principal
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import CommitReply, Flush
from helmr_runtime.session.host import HostActor

SEEDS = 120
SEEDS_LONG = 1_000
TURNS = 20
"""Of the loop; within so many a command is decided."""

OF_VOTES = (
    EntryKind.WAIT_VOTED,
    EntryKind.WAIT_VOTE_WITHDRAWN,
    EntryKind.WAIT_FULFILLED,
    EntryKind.WAIT_CANCELLED,
)
YES = {"decision": "yes", "cents": 1}

refunds = streams.input("refunds", schema=dict, answerers=["group:finance"], comments=["why"])


@task
async def agrees(payload: Any) -> object:
    """Two must."""
    return await refunds.wait(approvals=2, refusals=["no"]).unwrap()


def vote(wait_id: str, person: str, data: Any) -> AnswerWait:
    return AnswerWait(
        principal=person_principal(person, f"key of {person}"),
        identity=Identity(id=person, groups=("finance",)),
        wait_id=wait_id,
        record_id=ids.new_id(ids.RECORD),
        data={**data, "why": person},
    )


def meets(kind: str, wait_id: str, run_id: str) -> SessionCommand:
    """What Ada's vote meets."""
    match kind:
        case "vote":
            return vote(wait_id, "bo", YES)
        case "other amount":
            return vote(wait_id, "bo", {**YES, "cents": 2})
        case "own vote again":
            return vote(wait_id, "ada", YES)
        case "refusal":
            return vote(wait_id, "bo", {"decision": "no"})
        case "withdrawal":
            by = person_principal("ada", "another key")
            return WithdrawVote(principal=by, wait_id=wait_id, person="ada")
        case _:
            by = person_principal("bo", "key")
            return CancelRun(principal=by, run_id=run_id, next_run_id=ids.new_id(ids.RUN))


BECOME = {
    "vote": {("voted", "fulfilled"), ("fulfilled", "voted")},
    "other amount": {("voted", "voted")},
    "own vote again": {("voted", "voted")},
    "refusal": {("voted", "fulfilled"), ("wait_resolved", "fulfilled")},
    "withdrawal": {("voted", "withdrawn")},
    "cancel": {("voted", "cancelled"), ("wait_resolved", "cancelled")},
}
"""What Ada is told and what the other is, in both orders."""


class Held:
    """The ledger's commits: one with a note waits until it is let go, and what is decided meanwhile follows at once.

    Args:
        ledger: The harness's.
    """

    def __init__(self, ledger: MemoryLedger) -> None:
        self._commit = ledger.commit
        self._has_come, self._may_go = asyncio.Event(), asyncio.Event()
        self.together = 0
        """Flushes with more than one entry about votes."""

    async def commit(self, flush: Flush) -> CommitReply:
        """As the ledger does."""
        self.together += sum(one.kind in OF_VOTES for one in flush.entries) > 1
        if any(one.kind is EntryKind.NOTE_ADDED for one in flush.entries):
            self._has_come.set()
            await self._may_go.wait()
        return await self._commit(flush)

    @asynccontextmanager
    async def while_a_note_is_written(
        self, host: HostActor, session_id: str
    ) -> AsyncIterator[None]:
        """Meanwhile nothing else is."""
        self._has_come.clear()
        self._may_go.clear()
        note = AddNote(principal=TESTER, note_id=ids.new_id(ids.NOTE), text="seen")
        writing = asyncio.create_task(host.command(session_id, note))
        await self._has_come.wait()
        yield
        self._may_go.set()
        await writing


async def race(h: Harness, held: Held, seed: int, kind: str) -> tuple[tuple[str, str], list[str]]:
    """What both are told, and the kinds of entries of the session."""
    random = Random(f"one flush {seed}")
    session = await h.start("agrees", None)
    [opened] = [one for one in h.ledger.entries_of(session.id) if one.kind == "wait.opened"]
    wait_id, host = opened.body["wait_id"], h._hosts[session.id]
    both = [vote(wait_id, "ada", YES), meets(kind, wait_id, str(opened.run_id))]
    order = random.sample([0, 1], 2)

    async def told(command: SessionCommand) -> str:
        try:
            reply = await host.command(session.id, command)
        except HelmrError as error:
            return error.code
        return str(reply.get("outcome", reply.get("status")))

    async with held.while_a_note_is_written(host, session.id):
        telling = [asyncio.create_task(told(both[at])) for at in order]
        for _ in range(TURNS):
            await asyncio.sleep(0)
    answers = await asyncio.gather(*telling)
    by_place = dict(zip(order, answers, strict=True))
    kinds = [one.kind.value for one in h.ledger.entries_of(session.id)]
    return (by_place[0], by_place[1]), kinds


async def both_orders(monkeypatch: pytest.MonkeyPatch, seeds: int) -> None:
    found: dict[str, Counter[tuple[str, str]]] = {kind: Counter() for kind in BECOME}
    async with Harness(agrees) as h:
        held = Held(h.ledger)
        monkeypatch.setattr(h.ledger, "commit", held.commit)
        for seed in range(seeds):
            kind = list(BECOME)[seed % len(BECOME)]
            answers, kinds = await race(h, held, seed, kind)
            found[kind][answers] += 1
            ends = sum(one in ("wait.fulfilled", "wait.cancelled") for one in kinds)
            assert ends == any(one in ("fulfilled", "cancelled") for one in answers)
    assert {kind: set(counts) for kind, counts in found.items()} == BECOME
    assert held.together > seeds // 2


async def test_two_votes_in_one_flush_in_both_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    await both_orders(monkeypatch, SEEDS)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_two_votes_in_one_flush_over_a_thousand_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await both_orders(monkeypatch, SEEDS_LONG)
