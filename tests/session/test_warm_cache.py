"""What a host keeps of the sessions that it gave up: how much, until when, and that going on from it is the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helmr import task
from helmr.errors import Moved
from helmr.models import SessionStatus
from helmr.testing import TESTER, Harness, HarnessSession
from helmr.wire import ids
from helmr_runtime.core import checkpoint
from helmr_runtime.core.checkpoint import INLINE_BYTES_MAX
from helmr_runtime.core.commands import Resume, Send
from helmr_runtime.core.decide import decide
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import Flush, Loaded
from helmr_runtime.ports.ledger import restore
from helmr_runtime.session.committer import UNSAVED_MAX
from helmr_runtime.session.host import HostActor
from helmr_runtime.session.warm_cache import STATE_BYTES, WarmCache, WarmState
from tests.core.builder import picture
from tests.session.adopting import host_of, messages, send, until

pytestmark = pytest.mark.allows_blocking


@task
async def takes(payload: Any) -> int:
    """Every message until there is a last one."""
    count = 0
    while await messages.wait().unwrap() != "last":
        count += 1
    return count


def left(session_id: str, *, unconsumed_bytes: int = 0) -> WarmState:
    state = SessionState(session_id)
    state.unconsumed_bytes = unconsumed_bytes
    return WarmState(state, {}, 0)


# --- how much is kept -----------------------------------------------------------------------------


def test_what_was_given_up_first_leaves_first() -> None:
    states = WarmCache(2 * STATE_BYTES)
    one, two, three = (left(f"ses_{name}") for name in ("one", "two", "three"))
    for kept in (one, two, one, three):
        states.keep(kept)
    assert states.take("ses_two") is None
    assert states.take("ses_one") is one
    assert states.take("ses_one") is None, "an adoption has it now"
    assert states.take("ses_three") is three


def test_a_state_that_takes_more_than_all_may_is_not_kept() -> None:
    states = WarmCache(4 * STATE_BYTES)
    small, large = left("ses_small"), left("ses_large", unconsumed_bytes=4 * STATE_BYTES)
    states.keep(small)
    states.keep(large)
    assert states.take("ses_large") is None
    assert states.take("ses_small") is small
    states.keep(left("ses_large"))
    states.keep(large)
    assert states.take("ses_large") is None, "what was kept of it before is old"


def test_a_session_that_is_over_is_not_kept() -> None:
    states = WarmCache()
    ended, open_again = left("ses_ended"), left("ses_open")
    ended.state.status = SessionStatus.CLOSED
    states.keep(ended)
    states.keep(open_again)
    assert states.take("ses_ended") is None
    assert states.take("ses_open") is open_again


# --- going on from it -----------------------------------------------------------------------------


class Watched:
    """A host, what its ledger gave it, and what it sent there."""

    def __init__(self, h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.h = h
        self.host = host_of(h)
        self.loaded: list[Loaded] = []
        self.flushes: list[Flush] = []
        load, commit = h.ledger.load, h.ledger.commit

        async def noted_load(*arguments: Any, **more: Any) -> Loaded:
            self.loaded.append(await load(*arguments, **more))
            return self.loaded[-1]

        async def noted_commit(flush: Flush) -> Any:
            self.flushes.append(flush)
            return await commit(flush)

        monkeypatch.setattr(h.ledger, "load", noted_load)
        monkeypatch.setattr(h.ledger, "commit", noted_commit)

    async def decide(self, session: HarnessSession, command: Send | None = None) -> None:
        """As the directory has it decided where there is no room for code."""
        adopted = await self.host.adopt(
            session.id,
            command=command or send(),
            crash=None,
            catalog_hash="test",
            executes=False,
        )
        assert adopted.released

    async def resume(self, session: HarnessSession, host: HostActor | None = None) -> None:
        """Have its code go on, and park it where it waits."""
        host = host or self.host
        resume = Resume(principal=TESTER)
        await host.adopt(session.id, command=resume, crash=None, catalog_hash="test")
        live = host.slots[session.id].live
        await until(lambda: host.is_settled and live.is_parkable)
        await host.release(session.id, "linger")

    async def stored(self, session: HarnessSession) -> SessionState:
        """The fold of all its entries."""
        state = SessionState(session.id)
        for entry in self.h.ledger.entries_of(session.id):
            state.apply(entry)
        return state


async def parked(h: Harness) -> HarnessSession:
    session = await h.start(takes)
    await session.park()
    return session


async def test_what_is_given_up_is_adopted_again_without_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(takes) as h:
        session = await parked(h)
        watched = Watched(h, monkeypatch)
        for _ in range(3):
            await watched.decide(session)
            await watched.resume(session)
        assert [one.is_known for one in watched.loaded] == [False, *[True] * 5]
        kept = watched.host._kept.take(session.id)
        assert kept is not None
        assert (kept.state.operations, kept.state.send_keys) == ({}, {})
        assert picture(kept.state) == picture(await watched.stored(session))
        assert picture(restore(session.id, await h.ledger.snapshot(session.id))) == picture(
            kept.state
        )


async def test_what_another_host_wrote_meanwhile_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Harness(takes) as h:
        session = await parked(h)
        watched, other = Watched(h, monkeypatch), host_of(h)
        await watched.decide(session)
        await watched.resume(session, other)
        await watched.decide(session)
        await watched.resume(session)
        assert [one.is_known for one in watched.loaded] == [False, False, False, True]
        await watched.decide(session, _last())
        await watched.resume(session)
        assert await session.result() == 2


async def test_commands_without_room_write_a_checkpoint_only_after_many_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(takes) as h:
        session = await parked(h)
        watched = Watched(h, monkeypatch)
        for _ in range(2 * UNSAVED_MAX):
            await watched.decide(session)
        saved = [at for at, flush in enumerate(watched.flushes) if flush.checkpoint is not None]
        entries = [len(flush.entries) for flush in watched.flushes]
        assert len(saved) >= 1
        assert sum(entries[: saved[0]]) <= UNSAVED_MAX < sum(entries[: saved[0] + 1])
        tail = (await h.ledger.snapshot(session.id)).entries
        assert len(tail) <= UNSAVED_MAX
        fresh = host_of(h)
        await watched.resume(session, fresh)
        run = (await h.ledger.snapshot(session.id)).checkpoint
        assert run is not None
        assert picture(checkpoint.restore(session.id, run, {})) == picture(
            await watched.stored(session)
        )


async def test_large_entries_are_named_in_checkpoints_of_later_adoptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(takes) as h:
        session = await parked(h)
        watched = Watched(h, monkeypatch)
        await watched.decide(session, _send("x" * (2 * INLINE_BYTES_MAX)))
        await watched.decide(session)
        await watched.resume(session)
        assert [one.is_known for one in watched.loaded] == [False, True, True]
        loaded = await h.ledger.snapshot(session.id)
        large = [
            entry.feed_offset
            for entry in h.ledger.entries_of(session.id)
            if len(entry.body_json) > INLINE_BYTES_MAX and entry.kind is not EntryKind.STEP_STARTED
        ]
        assert loaded.checkpoint is not None
        assert set(checkpoint.refs(loaded.checkpoint)) == set(large)
        assert large


async def test_a_journal_that_a_checkpoint_holds_is_not_written_again_by_a_kept_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES_MIN", 4096)
    async with Harness(takes) as h:
        session = await parked(h)
        watched = Watched(h, monkeypatch)
        for _ in range(30):
            await watched.decide(session)
        await watched.resume(session)
        await watched.decide(session)
        await watched.resume(session)
        assert watched.loaded[-1].is_known
        saved = [flush.checkpoint for flush in watched.flushes if flush.checkpoint is not None]
        assert len(checkpoint.pieces(saved[-1])) == 1
        assert len(saved[-1]) < len(saved[-2]) / 2
        loaded = await h.ledger.snapshot(session.id)
        assert picture(restore(session.id, loaded)) == picture(await watched.stored(session))


async def test_a_call_that_comes_while_a_session_is_given_up_is_decided_or_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It never writes to a state that the next adoption goes on from."""
    async with Harness(takes) as h:
        session = await parked(h)
        watched = Watched(h, monkeypatch)
        beside: list[asyncio.Future[Any]] = []

        async def call(flush: Flush) -> None:
            if not beside:
                beside.append(asyncio.ensure_future(watched.host.command(session.id, send())))
                await asyncio.sleep(0)

        h.ledger.before_commit = call
        await watched.decide(session)
        h.ledger.before_commit = None
        with pytest.raises(Moved):
            await beside[0]
        await watched.decide(session)
        assert watched.loaded[-1].is_known
        kept = watched.host._kept.take(session.id)
        assert kept is not None
        assert picture(kept.state) == picture(await watched.stored(session))


async def test_nobody_writes_to_a_state_that_was_given_up() -> None:
    async with Harness(takes) as h:
        session = await parked(h)
        host = host_of(h)
        await host.adopt(session.id, command=None, crash=None, catalog_hash="test")
        held = host.slots[session.id].live
        await until(lambda: host.is_settled and host.slots[session.id].live.is_parkable)
        await host.release(session.id, "linger")
        decided = decide(held.state, send(), held.context())
        with pytest.raises(Moved):
            held.write(decided.drafts)
        kept = host._kept.take(session.id)
        assert kept is not None
        assert kept.state.seq == len(h.ledger.entries_of(session.id))


def _send(data: str) -> Send:
    return Send(
        principal=TESTER,
        record_id=ids.new_id(ids.RECORD),
        stream="messages",
        data=data,
        next_run_id=ids.new_id(ids.RUN),
    )


def _last() -> Send:
    return _send("last")
