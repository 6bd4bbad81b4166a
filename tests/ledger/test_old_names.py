"""A ledger whose entries have names of before: shown in today's, its chain as it was written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from helmr.wire.old_names import ENTRY_FIELDS
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports.ledger import restore
from helmr_runtime.security.keys import read_key_ring
from tests.fixtures.earlier import Earlier
from tests.ledger.sessions import SMALL

pytestmark = pytest.mark.allows_blocking

EARLIER = Earlier("ledger_0_2_0")
SESSIONS: dict[str, str] = EARLIER.made["old"]["sessions"]
ALL = 10_000


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[DuckLedger]:
    """The ledger as it was left, a minute later."""
    path = EARLIER.unpack(tmp_path / "data")
    ring = read_key_ring(path.parent / "master-keys.json", {})
    clock = FakeClock(EARLIER.made_at + timedelta(minutes=1))
    opened = await open_ledger(path, clock=clock, settings=SMALL, ring=ring)
    yield opened
    await opened.close()


async def entries_of(ledger: DuckLedger, name: str) -> list[Entry]:
    found = await ledger.entries_after(0, ALL)
    return [one for one in found if one.session_id == SESSIONS[name]]


async def test_no_entry_has_a_name_of_before_and_every_chain_verifies(ledger: DuckLedger) -> None:
    found = await ledger.entries_after(0, ALL)
    for one in found:
        assert one.body.keys().isdisjoint(ENTRY_FIELDS.get(one.kind.value, {})), one
    assert {one.kind.value for one in found} >= ENTRY_FIELDS.keys()
    for session_id in SESSIONS.values():
        assert await ledger.verify_chain(session_id) > 0


async def test_an_escalation_is_shown_as_far_as_it_was(ledger: DuckLedger) -> None:
    entries = await entries_of(ledger, "ask")
    opened = next(one for one in entries if one.kind.value == "wait.opened")
    wait = await ledger.get_wait(opened.body["wait_id"])
    assert wait is not None
    assert [one["do"] for one in wait["escalation"]] == ["remind", "assign", "remind", "default"]
    assert (wait["next_escalation"], wait["assignee"]) == (2, "grace")
    assert wait["next_escalation_at"] < wait["default_at"]
    steps = [one.body["escalation_step"] for one in entries if "escalation_step" in one.body]
    assert steps == [0, 1]


@pytest.mark.parametrize("name", SESSIONS)
async def test_a_session_goes_on_with_the_state_that_its_entries_say(
    ledger: DuckLedger, name: str
) -> None:
    loaded = await ledger.load(SESSIONS[name], "slot-1")
    restored = restore(SESSIONS[name], loaded)
    folded = SessionState(SESSIONS[name])
    for entry in await entries_of(ledger, name):
        folded.apply(entry)
    assert restored.run is not None
    assert folded.run is not None
    assert restored.run.crashes == folded.run.crashes
    if name == "crash":
        assert restored.run.crashes == 3
    else:
        assert restored.run.wait is not None
        assert folded.run.wait is not None
        assert restored.run.wait.escalation is not None
        assert restored.run.wait.escalation == folded.run.wait.escalation
