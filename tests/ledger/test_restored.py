"""What a ledger has in memory of each kind of session is the same after it was opened again, field by field (S-53)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from helmr import escalation
from helmr.escalation import escalation_json
from helmr.wait_options import JSON
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.children import Parent
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.run import opening
from helmr_runtime.ledger.index import ledger_index
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports.ledger import FROM_START
from tests.ledger.conftest import Opener
from tests.ledger.facts import complete_token, create_token
from tests.ledger.sessions import SMALL, Hand, begin, facts_of, parked, running, start_of
from tests.ledger.test_restart import killed

STEPS = (escalation.remind("1h"), escalation.default("3h", "no"))


async def everything(ledger: DuckLedger, clock: FakeClock) -> dict[str, str]:
    """A session of each kind, by what it is."""
    hands: dict[str, Hand] = {}
    hands["queued"] = await begin(ledger, clock)
    hands["held"] = await running(ledger, clock)
    await hands["held"].stored(hands["held"].step(), hands["held"].step(), checkpoint=True)
    hands["left with a step"] = hand = await running(ledger, clock)
    await hand.stored(hand.step(), hand.step(), hand.step_done(), checkpoint=True, release=True)
    hands["named"], _ = await parked(ledger, clock, external_id="pr-1", idempotency_key="k")
    hands["due"], _ = await parked(ledger, clock, timeout_s=60)
    hands["keyed"] = hand = await running(ledger, clock)
    operation = OperationKey(id="op-1", request_hash="h")
    await hand.stored(hand.accepted(1, key="k1", operation=operation), checkpoint=True)
    await hand.stored(hand.accepted(2, key="k2"), hand.wait(), release=True)
    hands["waiting while held"] = hand = await running(ledger, clock)
    await hand.stored(hand.wait(deadline_at=clock.now() + timedelta(seconds=9)))

    said: dict[str, Any] = {
        "escalation": [
            dict(escalation_step) for escalation_step in escalation_json(STEPS, JSON, None)
        ]
    }
    hands["on an escalation"] = hand = await running(ledger, clock)
    await hand.stored(hand.wait(**said, **opening(said, clock.now())), release=True)
    hands["in backoff"] = hand = await running(ledger, clock)
    step, retry_at = hand.step(), clock.now() + timedelta(seconds=5)
    backoff = replace(hand.wait(kind="timer", deadline_at=retry_at, backoff=True), op=step.op)
    await hand.stored(step, backoff, release=True)

    expires_at = clock.now() + timedelta(seconds=60)
    deadlines: dict[str, dict[str, Any]] = {
        "on a token": {"deadline_at": expires_at, "deadline_of": "token"},
        "on a token for a while": {"deadline_at": expires_at - timedelta(seconds=1)},
        "on a token that is completed": {},
    }
    for name, until in deadlines.items():
        token_id = (await ledger.fact(create_token(60)))["token_id"]
        hands[name] = hand = await running(ledger, clock)
        await hand.stored(hand.wait(kind="token", token_id=token_id, **until), release=True)
        if name.endswith("completed"):
            await ledger.fact(complete_token(token_id))
    hands["parent"] = hand = await running(ledger, clock)
    await hand.stored(hand.step("sessions.start review"))
    parent = Parent(session_id=hand.session_id, run_id=hand.run_id, op=hand.op, attempt=1)
    starts = [replace(start_of(), parent=parent) for _ in range(2)]
    for number, start in enumerate(starts):
        await ledger.start(start)
        hands[f"child {number}"] = Hand(ledger, clock, start.session_id, start.run_id)
    children = [start.session_id for start in starts]
    await hand.stored(hand.step_done(), hand.wait(kind="session", session_ids=children))
    await hand.stored(checkpoint=True, release=True)

    hands["blocked"] = hand = await running(ledger, clock)
    blocked = hand.draft(EntryKind.RUN_BLOCKED, code="nondeterminism", message="op 3 differs")
    await hand.stored(blocked, release=True)
    for name, after_s in {"to be tried again": 60, "to be tried again now": 0}.items():
        hands[name] = hand = await running(ledger, clock)
        retry_at = clock.now() + timedelta(seconds=after_s)
        await hand.stored(hand.attempt_failed(retry_at), release=True)
    hands["idle"] = hand = await running(ledger, clock)
    await hand.stored(hand.succeeded(3), checkpoint=True, release=True)
    hand, _ = await parked(ledger, clock, timeout_s=90)
    hands["closed while it waits"] = hand
    await hand.adopt()
    await hand.stored(hand.closed(), release=True)
    hands["closed"] = hand = await running(ledger, clock, external_id="x", idempotency_key="c")
    await hand.stored(hand.step())
    await hand.stored(hand.step_done(), hand.succeeded(), hand.closed(), release=True)
    hands["closed while it is held"] = hand = await running(ledger, clock)
    await hand.stored(hand.succeeded(), hand.closed())
    return {name: hand.session_id for name, hand in hands.items()}


async def memory_of(ledger: DuckLedger, sessions: Mapping[str, str]) -> dict[str, Any]:
    """All that is known of these, in every index."""
    index = ledger.index
    found: dict[str, Any] = {
        "work": [item for item in index.work.since(FROM_START).added if item.kind != "run"],
        "runs": [item for item in index.work.since(FROM_START).added if item.kind == "run"],
        "alarms": dict(index._timers._armed),
        "next": index.next_due_at(),
        "counts": index.counts(),
        "holdings": sorted(index.holdings(), key=lambda held: held.session_id),
        "waiting held": sorted(index._waiting_held),
        "names": dict(index.names.items()),
        "operations": dict(index.operations),
        "tokens": {token.id: facts_of(token) for token in index.tokens},
        "awaited": index.tokens._awaited,
        "of sessions": index.tokens._of_session,
        "marks": (index.head_offset, index.marks()),
        "system": {**facts_of(index.system), "tail": None},
    }
    for name, session_id in sessions.items():
        head = await ledger.head(session_id)
        assert head is not None, name
        found[name] = {**facts_of(head), "unconsumed": None}
    found["start keys"] = dict(
        index.start_keys
    )  # those of sessions that are over come with their heads
    return found


async def test_each_kind_of_session_is_there_again(
    opener: Opener, path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    ledger = await opener()
    sessions = await everything(ledger, clock)
    before = await memory_of(ledger, sessions)
    assert before["counts"]["waiting_held"] == 1
    assert before["in backoff"]["wait"].is_backoff
    assert (
        before["on an escalation"]["wait"].escalates_at
        < before["on an escalation"]["wait"].default_at
    )
    assert before["on a token"]["wait"].deadline_at is None
    after_kill = await open_ledger(killed(path, tmp_path / "killed"), clock=clock, settings=SMALL)
    _same(await memory_of(after_kill, sessions), before)
    await after_kill.close()
    again = await opener()
    assert sessions["closed"] not in again.index.heads
    assert sessions["closed while it is held"] in again.index.heads
    _same(await memory_of(again, sessions), before)


def _same(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert after[name] == value, name


async def test_of_more_operations_than_memory_keeps_the_newest_are_restored(
    opener, monkeypatch
) -> None:
    monkeypatch.setattr(ledger_index, "GROUP_MAX", 3)
    monkeypatch.setattr(ledger_index, "GROUPS_MAX", 2)
    ledger = await opener()
    for number in range(9):
        await ledger.start(start_of(operation=OperationKey(id=f"op-{number}", request_hash="h")))
    ledger = await opener()
    assert not ledger.index.operations.is_complete
    assert ledger.index.operations.offset_of("op-8") is not None
    assert ledger.index.operations.offset_of("op-0") is None
    assert await ledger.known_operation("op-0") is not None
    assert await ledger.known_operation("op-9") is None
