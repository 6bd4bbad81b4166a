"""Queued runs resume oldest first; waiting sessions linger until their time is over or others need
the slot."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from helmr.errors import StoreUnavailable
from helmr_runtime.core.commands import Command
from helmr_runtime.ports import Busy, Released, WorkItem
from tests.directory.fakes import World, note, settle, until


def _executes(slot: Any, session_id: str) -> bool:
    return bool(slot.session_id == session_id and slot.is_executing)


async def test_queued_runs_resume_in_order_as_slots_come_free(world: World) -> None:
    for n in range(5):
        world.ledger.add(f"s{n}", queued=True)
    await world.directory(slots=1)
    (slot,) = world.living("slot")
    for n in range(5):
        expected = f"s{n}"
        await until(functools.partial(_executes, slot, expected))
        await slot.report("parkable")
    await until(lambda: len(slot.adoptions) == 5)
    assert slot.adoptions == [f"s{n}" for n in range(5)]


async def test_a_run_that_the_list_names_while_a_desk_holds_it_is_resumed_when_the_desk_lets_go(
    world: World,
) -> None:
    """The list is here before the answer to the release; nothing else would look again."""
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("busy"))
    slot = world.holder("s1")
    (desk,) = world.living("desk")
    head = world.ledger.add("s2")
    release, let_go = desk.release, asyncio.Event()

    async def slowly(session_id: str, reason: str) -> Any:
        reply = await release(session_id, reason)
        head.queued = True
        await world.ledger.bump()
        await let_go.wait()
        return reply

    desk.release = slowly  # type: ignore[method-assign]
    await directory.route("s2", note("decided at a desk", operation="op_2"))
    await until(lambda: head.queued)
    await slot.report("parkable")
    await settle()
    assert slot.session_id == "s1"
    let_go.set()
    await until(lambda: slot.session_id == "s2")


async def test_a_queued_run_waits_while_every_slot_executes(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("busy"))
    world.ledger.add("s2", queued=True)
    await world.ledger.bump()
    await settle()
    slot = world.holder("s1")
    assert slot.releases == []
    assert (await directory.status())["queue"] == 1
    await world.clock.advance(7)
    assert (await directory.status())["queue_oldest_s"] == 7
    await slot.report("parkable")
    await until(lambda: slot.session_id == "s2")
    assert slot.releases == ["evict"]
    assert (await directory.status())["queue_oldest_s"] == 0


async def test_a_command_does_not_overtake_the_queue(world: World) -> None:
    directory = await world.directory(slots=1, desks=1)
    world.ledger.add("s1")
    await directory.route("s1", note("busy"))
    world.ledger.add("s2", queued=True)
    world.ledger.add("s3")
    await world.ledger.bump()
    await settle()
    routed = await directory.route("s3", note("x"))
    assert routed.actor == world.living("desk")[0].name
    slot = world.holder("s1")
    await slot.report("parkable")
    await until(lambda: slot.session_id == "s2")


async def test_a_waiting_session_lingers_and_is_then_parked(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    await slot.report("parkable")
    await settle()
    await world.clock.advance(29.0, step_s=1.0)
    assert slot.releases == []
    assert (await directory.status())["slots"]["lingering"] == 1
    await world.clock.advance(2.0, step_s=1.0)
    assert slot.releases == ["linger"]
    assert world.ledger.heads["s1"].holder is None
    assert (await directory.status())["slots"]["free"] == 1


async def test_a_session_that_is_busy_again_is_not_parked(world: World) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    await slot.report("parkable")
    await settle()
    await slot.report("busy")
    await settle()
    await world.clock.advance(40.0, step_s=1.0)
    assert slot.releases == []


async def test_what_an_actor_says_while_it_is_asked_for_its_session_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = await world.directory(slots=1)
    world.ledger.add("s1")
    world.ledger.add("s2")
    await directory.route("s1", note("x"))
    slot = world.holder("s1")
    await slot.report("parkable")
    await settle()
    slot.is_executing = True
    release = slot.release

    async def waits_again(session_id: str, reason: str) -> Released | Busy:
        reply = await release(session_id, reason)
        await slot.report("parkable")
        await settle()  # the directory hears of it before it gets the reply
        return reply

    monkeypatch.setattr(slot, "release", waits_again)
    await world.clock.advance(31.0, step_s=1.0)
    assert slot.releases == ["linger"]
    assert (await directory.status())["slots"]["lingering"] == 1
    await directory.route("s2", note("x"))
    assert slot.session_id == "s2"
    assert slot.releases == ["linger", "evict"]


async def test_the_session_that_waits_longest_gives_its_slot_up(world: World) -> None:
    directory = await world.directory(slots=2)
    for session_id in ("s1", "s2", "s3"):
        world.ledger.add(session_id)
    await directory.route("s1", note("x"))
    await directory.route("s2", note("x"))
    first, second = world.holder("s1"), world.holder("s2")
    await second.report("parkable")
    await settle()
    await world.clock.advance(1.0)
    await first.report("parkable")
    await settle()
    await directory.route("s3", note("x"))
    assert second.session_id == "s3"
    assert first.session_id == "s1"


async def test_from_three_slots_on_one_is_kept_free(world: World) -> None:
    directory = await world.directory(slots=3)
    for n in range(3):
        world.ledger.add(f"s{n}")
        await directory.route(f"s{n}", note("x"))
    longest = world.holder("s1")
    await longest.report("parkable")
    await until(lambda: longest.session_id is None)
    assert longest.releases == ["evict"]
    await world.holder("s0").report("parkable")
    await settle()
    assert (await directory.status())["slots"] == {
        "total": 3,
        "free": 1,
        "lingering": 1,
        "starting": 0,
        "busy": 1,
    }


async def test_a_session_that_cannot_be_resumed_does_not_block_the_others(world: World) -> None:
    world.ledger.add("s1", queued=True)
    world.ledger.add("s2", queued=True)
    broken = world.ledger.heads.pop("s1")
    world.ledger.extra.append(WorkItem(kind="run", session_id="s1", queued_at=world.clock.now()))
    directory = await world.directory(slots=1)
    (slot,) = world.living("slot")
    await until(lambda: slot.session_id == "s2")
    status = await directory.status()
    assert status["failing"] == 1
    assert "can't be resumed" in status["warnings"][0]
    world.ledger.heads["s1"] = broken
    await slot.report("parkable")
    await settle()
    await world.clock.advance(5.0)
    await until(lambda: slot.session_id == "s1")


async def test_a_ledger_that_restarts_is_asked_again(world: World) -> None:
    world.ledger.is_down = True
    await world.directory(slots=1)
    world.ledger.add("s1", queued=True)
    await world.ledger.bump()
    await settle()
    world.ledger.is_down = False
    await world.clock.advance(5.0)
    (slot,) = world.living("slot")
    await until(lambda: slot.session_id == "s1")


async def test_a_delivery_is_routed_and_repeated_until_it_succeeds(world: World) -> None:
    tries: list[str] = []

    async def deliver(item: WorkItem) -> Command:
        tries.append(item.session_id)
        if len(tries) == 1:
            raise StoreUnavailable("not now")
        return note("delivered")

    world.ledger.add("s1")
    world.ledger.extra.append(
        WorkItem(
            kind="delivery",
            session_id="s1",
            queued_at=world.clock.now(),
            wait_id="wait_1",
            token_id="tok_1",
        )
    )
    await world.directory(slots=1, deliver=deliver)
    await settle()
    await world.clock.advance(1.0)
    await until(lambda: "delivered" in world.ledger.heads["s1"].commits)
    assert tries == ["s1", "s1"]
