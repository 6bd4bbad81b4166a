"""A host gives permits out as the directory says that is there, whatever calls of earlier ones still come (S-119)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from helmr_runtime.clock import FakeClock
from helmr_runtime.ports import PermitChange, PermitGiven
from helmr_runtime.session.events import SessionView
from helmr_runtime.session.permits import HostPermits, LimitPermit
from helmr_runtime.session.run_permits import RunPermits
from tests.directory.clock import settle


def asked(permits: HostPermits) -> LimitPermit:
    """A step asks for a permit."""
    permit = LimitPermit("few", "key", ("ses_1", 1), goes_on=False, on_given=lambda: None)
    permits.ask(permit)
    return permit


async def test_a_late_call_of_an_earlier_directory_changes_nothing() -> None:
    permits = HostPermits(FakeClock(), {"few": True})
    first = await permits.news("first", -1)
    permit = asked(permits)
    heard = await permits.news("first", first.version)
    assert [line.change for line in heard.lines] == [PermitChange.ASKED]
    second = await permits.news("second", -1)
    assert second.is_whole
    late = await permits.news("first", heard.version)
    assert (late.lines, late.is_whole) == ((), False)
    permits.give("first", (PermitGiven(ticket=permit.ticket),))
    assert not permit.is_given
    permits.give("second", (PermitGiven(ticket=permit.ticket),))
    assert permit.is_given


async def test_the_directory_that_is_there_is_heard_again_after_one_that_was_never_heard() -> None:
    permits = HostPermits(FakeClock(), {"few": True})
    second = await permits.news("second", -1)
    pending = asyncio.create_task(permits.news("second", second.version))
    await settle()
    assert (await permits.news("first", -1)).is_whole
    passed_by = await pending
    permit = asked(permits)
    again = await permits.news("second", passed_by.version)
    assert again.is_whole
    assert [line.ticket for line in again.lines] == [permit.ticket]
    permits.give("second", (PermitGiven(ticket=permit.ticket),))
    assert permit.is_given


async def test_a_call_that_was_cut_off_is_made_again_until_it_is_heard() -> None:
    permits = HostPermits(FakeClock(), {"few": True})
    second = await permits.news("second", -1)
    await permits.news("first", -1)
    asked(permits)
    passed_by = await permits.news("second", second.version)
    assert (passed_by.lines, passed_by.is_whole) == ((), False)
    assert (await permits.news("second", passed_by.version)).is_whole


async def test_a_permit_to_start_comes_back_from_a_session_that_leaves_before_its_code_is_there() -> (
    None
):
    """It was given while the session was being parked: without code, nothing would end it."""
    host = HostPermits(FakeClock(), {"few": True})
    first = await host.news("directory", -1)
    state = SimpleNamespace(id="ses_1", run=None)
    session = SimpleNamespace(state=state, registered=None, is_over=False, take=lambda event: None)
    permits = RunPermits(cast(SessionView, session), host, lambda: True)
    assert permits.waits(0, "few")
    [asked_line] = (await host.news("directory", first.version)).lines
    host.give("directory", (PermitGiven(ticket=asked_line.ticket),))
    assert not permits.waits(0, "few")
    permits.cut_off(leaves=True, has_code=False)
    [_, left] = (await host.news("directory", first.version)).lines
    assert (left.change, left.ticket) == (PermitChange.LEFT, asked_line.ticket)
