"""An answer that is accepted and whose run does not go on is shown wherever an operator looks."""

from __future__ import annotations

from helmr_runtime.directory.actor import DirectoryActor
from tests.console.flow.bench import Bench


async def without_room(bench: Bench, session_id: str) -> DirectoryActor:
    """Park the session, and let no room be had from now on; the directory."""
    directory = bench.stack.directory
    assert directory is not None
    slot = directory._holds.holder(session_id)
    assert slot is not None
    await bench.until(lambda: slot.parkable_at is not None)
    assert await directory._holds._release(slot, "linger")
    assert directory._holds.holder(session_id) is None
    await directory.set_room(0, why=None)
    return directory


async def test_an_answered_run_that_does_not_go_on_is_shown_in_inbox_sessions_and_system(
    bench: Bench,
) -> None:
    wait = await bench.ask("sign", subject="Sign here?")
    await bench.open()
    await bench.inbox(1)
    directory = await without_room(bench, wait["session"]["id"])
    await bench.answer(wait["id"], {"decision": "approve", "note": None})
    await bench.until(lambda: wait["id"] in bench.app.shared.store.ended)
    assert not bench.app.shared.store.stuck(), "a moment is no news"
    await bench.advance(6)
    await bench.sees("1 answered, not gone on yet")
    await bench.press("2")
    await bench.sees("not gone on yet")
    await bench.sees("queued")
    await bench.press("4")
    await bench.sees("1 answered run has not gone on yet, the oldest for")
    await bench.sees("ready, with warnings")
    await bench.press("1")
    await bench.sees("not gone on for")
    await directory.set_room(4, why=None)
    await bench.stack.run_until(wait["run"]["id"], "succeeded")
    await bench.until(lambda: not bench.app.shared.store.resolved)


async def test_a_token_wait_shows_its_tokens_question_and_counts_down_to_its_expiry(
    bench: Bench,
) -> None:
    made = await bench.stack.http.post(
        "/v1/tokens", json={"subject": "Does the vendor agree?", "body": "# Look", "timeout": "2h"}
    )
    await bench.open()
    await bench.inbox(0)
    await bench.stack.started("pick-up", made.json()["id"])
    await bench.inbox(1)
    await bench.sees("Does the vendor agree?")
    await bench.sees("2h 00m")
    assert "for ever" not in bench.text()
