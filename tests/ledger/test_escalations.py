"""Escalations of sessions that nobody holds: the ledger runs them, over restarts and beside completions (S-82)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from helmr import escalation
from helmr.errors import WaitResolved
from helmr.escalation import escalation_json
from helmr.models import WaitInfo
from helmr.wait_options import JSON
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Entry, EntryKind, iso
from helmr_runtime.core.run import opening
from tests.ledger.conftest import Opener
from tests.ledger.facts import complete_token, create_token
from tests.ledger.sessions import ALICE, Hand, running

HANG_S = 20
DAY_S = 86_400
STEPS = (
    escalation.remind("1h"),
    escalation.assign("2h", to="lead"),
    escalation.default("3h", "no"),
)


async def waiting(ledger: Any, clock: FakeClock, **more: Any) -> tuple[Hand, str]:
    """A parked session with an escalation, and its wait's id."""
    hand = await running(ledger, clock)
    said: dict[str, Any] = {
        "escalation": [
            dict(escalation_step) for escalation_step in escalation_json(STEPS, JSON, None)
        ]
    }
    said |= {"kind": "input", "stream": "approval", **more}
    deadline_at = said.pop("deadline_at", None)
    told = said if deadline_at is None else {**said, "deadline_at": iso(deadline_at)}
    wait = hand.wait(deadline_at=deadline_at, **said, **opening(told, clock.now()))
    await hand.stored(wait, release=True)
    return hand, wait.body["wait_id"]


async def entries(ledger: Any, hand: Hand) -> list[Entry]:
    loaded = await ledger.snapshot(hand.session_id)
    return [e for e in loaded.entries if e.seq > hand.seq]


async def until(ask: Callable[[], Any]) -> None:
    """Return once that is so."""
    async with asyncio.timeout(HANG_S):
        while not await ask():
            await asyncio.sleep(0.005)


async def escalated(ledger: Any, hand: Hand, count: int) -> list[tuple[str, Any]]:
    """Kind and escalation step of what the ledger has written, once it is that many entries."""
    await until(lambda: _reaches(ledger, hand, count))
    found = await entries(ledger, hand)
    return [(e.kind.value, e.body.get("escalation_step")) for e in found]


async def _reaches(ledger: Any, hand: Hand, count: int) -> bool:
    return len(await entries(ledger, hand)) >= count


async def test_escalation_steps_are_written_when_they_are_due_and_the_default_readies_the_run(
    ledger: Any, clock: FakeClock
) -> None:
    hand, wait_id = await waiting(ledger, clock)
    reminded = [("wait.reminded", 0)]
    clock.move_to(clock.now() + timedelta(hours=1))
    assert await escalated(ledger, hand, 1) == reminded
    assert list((await ledger.work()).added) == []
    clock.move_to(clock.now() + timedelta(hours=1))
    assert await escalated(ledger, hand, 2) == [*reminded, ("wait.assigned", 1)]
    one = await ledger.get_wait(wait_id)
    assert (one["assignee"], one["next_escalation"]) == ("lead", 2)
    clock.move_to(clock.now() + timedelta(hours=1))
    await escalated(ledger, hand, 4)
    record, fulfilled = (await entries(ledger, hand))[-2:]
    assert (record.kind, record.body["data"]) == (EntryKind.INPUT_ACCEPTED, "no")
    assert (fulfilled.body["next"], fulfilled.body["mode"]) == ("queued", "default")
    (item,) = (await ledger.work()).added
    assert item.session_id == hand.session_id


async def test_a_restart_that_was_down_over_two_escalation_steps_writes_each_once(
    opener: Opener, clock: FakeClock
) -> None:
    hand, wait_id = await waiting(await opener(), clock)
    clock.move_to(clock.now() + timedelta(hours=2.5))
    for _ in range(3):
        duck = await opener()
        assert await escalated(duck, hand, 2) == [("wait.reminded", 0), ("wait.assigned", 1)]
    clock.move_to(clock.now() + timedelta(hours=1))
    duck = await opener()
    assert len(await escalated(duck, hand, 4)) == 4
    assert (await duck.get_wait(wait_id))["mode"] == "default"
    assert await duck.verify_chain(hand.session_id) == hand.seq + 4


async def test_what_is_next_is_known_behind_a_restart_that_read_it_from_the_tables(
    opener: Opener, clock: FakeClock
) -> None:
    hand, wait_id = await waiting(await opener(), clock)
    clock.move_to(clock.now() + timedelta(hours=1))
    duck = await opener()
    await escalated(duck, hand, 1)
    before = await duck.get_wait(wait_id)
    duck = await opener()
    assert await duck.get_wait(wait_id) == before
    assert before["next_escalation"] == 1
    clock.move_to(clock.now() + timedelta(hours=1))
    assert len(await escalated(duck, hand, 2)) == 2


async def test_a_held_session_is_its_hosts_to_escalate(ledger: Any, clock: FakeClock) -> None:
    hand, _ = await waiting(ledger, clock)
    await hand.adopt()
    clock.move_to(clock.now() + timedelta(hours=2))
    await hand.stored(hand.accepted(1, stream="other"))
    assert await entries(ledger, hand) == []
    await ledger.abandon(hand.session_id, hand.epoch)
    assert len(await escalated(ledger, hand, 2)) == 2


async def test_a_hundred_escalations_at_one_instant_are_escalated_once_each(
    ledger: Any, clock: FakeClock
) -> None:
    hands = [(await waiting(ledger, clock))[0] for _ in range(100)]
    clock.move_to(clock.now() + timedelta(hours=1))
    for hand in hands:
        assert await escalated(ledger, hand, 1) == [("wait.reminded", 0)]


async def test_a_token_that_was_completed_in_time_beats_the_default_and_is_delivered(
    ledger: Any, clock: FakeClock
) -> None:
    token = create_token(DAY_S)
    await ledger.fact(token)
    token_id = token.new.token_id
    hand, _ = await waiting(ledger, clock, kind="token", stream=None, token_id=token_id)
    await ledger.fact(complete_token(token_id, "yes"))
    clock.move_to(clock.now() + timedelta(hours=5))
    await ledger.fact(create_token(DAY_S))  # a turn of the ledger, at that time
    (item,) = (await ledger.work()).added
    assert item.kind != "run"
    assert await entries(ledger, hand) == []


async def test_nobody_can_answer_or_claim_at_the_default_or_later(
    ledger: Any, clock: FakeClock
) -> None:
    token = create_token(DAY_S)
    await ledger.fact(token)
    token_id = token.new.token_id
    hand, wait_id = await waiting(ledger, clock, kind="token", stream=None, token_id=token_id)
    await hand.adopt()  # so that nobody writes the default yet
    clock.move_to(clock.now() + timedelta(hours=3))
    with pytest.raises(WaitResolved, match="default"):
        await ledger.claim_wait(hand.session_id, wait_id, ALICE, for_s=60, override=False)
    answer = replace(complete_token(token_id, "yes"), answers=(hand.session_id, wait_id))
    with pytest.raises(WaitResolved, match="default"):
        await ledger.fact(answer)
    await ledger.fact(complete_token(token_id, "yes"))  # the token itself is not the wait


async def test_waits_are_listed_by_what_ends_them_first_be_it_the_default_or_the_deadline(
    ledger: Any, clock: FakeClock
) -> None:
    late = clock.now() + timedelta(days=7)
    _, by_default = await waiting(ledger, clock, deadline_at=late)  # its default comes in 3 h
    _, by_deadline = await waiting(
        ledger, clock, escalation=[], deadline_at=clock.now() + timedelta(hours=4)
    )
    _, never = await waiting(ledger, clock, escalation=[])
    _, soonest = await waiting(
        ledger, clock, escalation=[], deadline_at=clock.now() + timedelta(hours=2)
    )
    listed, cursor = [], None
    while True:
        page = await ledger.list_waits(limit=1, cursor=cursor)
        listed += [WaitInfo.model_validate(one) for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [one.id for one in listed] == [soonest, by_default, by_deadline, never]
    assert listed[1].ends_at == clock.now() + timedelta(hours=3)
    assert [one.ends_at for one in listed[2:]] == [listed[2].deadline_at, None]
