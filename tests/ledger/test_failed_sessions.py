"""A session whose newest run failed says so, in objects, lists and counts, until the run is retried."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.models import SessionInfo
from helmr_runtime.core.entries import Draft, EntryKind
from tests.ledger.sessions import Hand, begin, parked, running

ERROR = {
    "code": "task_failed",
    "type": "CardDeclined",
    "message": "no money\nnone at all",
    "traceback": "File pay.py",
}


async def failed(ledger: Any, clock: Any, *then: str) -> Hand:
    """A session whose run failed, released."""
    hand = await running(ledger, clock)
    last = [hand.closed()] if "closed" in then else []
    await hand.stored(hand.draft(EntryKind.RUN_FAILED, error=ERROR), *last)
    await hand.stored(checkpoint=True, release=True)
    return hand


async def test_it_tells_the_error_without_its_traceback_and_the_list_the_same(ledger, clock):
    hand = await failed(ledger, clock)
    found = SessionInfo.model_validate(await ledger.get_session(hand.session_id))
    assert (found.activity, found.run_id, found.run_status) == ("idle", hand.run_id, "failed")
    assert found.error is not None
    assert found.error.text == "CardDeclined: no money\nnone at all"
    assert found.error.traceback is None
    (listed,) = (await ledger.list_sessions())["items"]
    of_list = found.model_copy(update={"unconsumed": None})  # which a list does not count
    assert SessionInfo.model_validate(listed) == of_list
    # The tables are written now: told from them, it is the same.
    again = SessionInfo.model_validate(await ledger.get_session(hand.session_id))
    assert again == found


@pytest.mark.parametrize("status", ["queued", "running", "waiting", "succeeded", "blocked"])
async def test_every_newest_run_tells_its_status(ledger, clock, status):
    if status == "queued":
        hand = await begin(ledger, clock)
    elif status == "waiting":
        hand, _ = await parked(ledger, clock)
    else:
        hand = await running(ledger, clock)
        end: dict[str, Draft] = {
            "succeeded": hand.succeeded(3),
            "blocked": hand.draft(EntryKind.RUN_BLOCKED, code="task_missing", message="no t"),
        }
        await hand.stored(*([end[status]] if status in end else []))
    found = await ledger.get_session(hand.session_id)
    (listed,) = (await ledger.list_sessions(run_status=status))["items"]
    for one in (found, listed):
        assert one["run_status"] == status
        said = one["error"] and (one["error"]["code"], one["error"]["message"])
        assert said == (("task_missing", "no t") if status == "blocked" else None)
    assert (await ledger.list_sessions(run_status="failed"))["items"] == []


async def test_open_ones_are_counted_until_the_run_is_retried_also_after_a_restart(
    duck, opener, clock
):
    assert (await duck.stats())["counts"]["failed"] == 0
    hands = [await failed(duck, clock) for _ in range(3)]
    await failed(duck, clock, "closed")
    await parked(duck, clock)
    assert (await duck.stats())["counts"]["failed"] == 3
    assert (await duck.stats())["counts"]["idle"] == 3
    again = await opener()
    assert (await again.stats())["counts"]["failed"] == 3
    hand = Hand(again, clock, hands[0].session_id, hands[0].run_id)
    await hand.adopt()
    await hand.stored(hand.draft(EntryKind.RUN_RETRIED, attempt=2))
    assert (await again.stats())["counts"]["failed"] == 2
    found = await again.list_sessions(run_status="failed", status="open")
    assert {one["id"] for one in found["items"]} == {one.session_id for one in hands[1:]}
