"""What both ledgers promise of lines: records that they write themselves into sessions which no host holds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from helmr.errors import ExternalIdConflict, IdempotencyConflict, OperationConflict, TooLarge
from helmr.models import RECORD_BYTES_MAX
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import OperationKey, Send
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import SessionLine
from helmr_runtime.ports.ledger import restore
from tests.ledger.sessions import ALICE, Hand, start_of

AnyLedger = MemoryLedger | LedgerActor
STREAM = "log"


def line_of(data: Any = 1, *, key: str | None = None, payload: Any = None) -> SessionLine:
    """A line of the session `agent-1`, whose task does nothing."""
    start = start_of(task="log", external_id="agent-1", payload=payload)
    send = Send(
        principal=ALICE,
        operation=OperationKey(
            id=ids.new_id(ids.OPERATION), request_hash=jsontext.same_data_hash([data])
        ),
        record_id=ids.new_id(ids.RECORD),
        stream=STREAM,
        data=data,
        idempotency_key=key,
        next_run_id=ids.new_id(ids.RUN),
    )
    return SessionLine(start=replace(start, done_by="code-1"), send=send)


async def said(ledger: AnyLedger, session_id: str) -> list[tuple[int, Any]]:
    """Number and data of what stands there."""
    found = await ledger.inputs(session_id, STREAM)
    return [(one["seq"], one["data"]) for one in found["items"]]


async def agent(ledger: AnyLedger) -> str:
    [found] = (await ledger.list_sessions(external_id="agent-1"))["items"]
    return str(found["id"])


async def test_the_first_line_makes_the_session_and_gives_no_one_work(ledger):
    line = line_of("a")
    assert await ledger.write_line(line) is not None
    assert await agent(ledger) == line.start.session_id
    kinds = [one.kind for one in (await ledger.snapshot(line.start.session_id)).entries]
    assert kinds == [
        "session.created",
        "run.created",
        "run.started",
        "run.succeeded",
        "input.accepted",
    ]
    assert (await ledger.work()).added == ()
    run = await ledger.get_run(line.start.run_id)
    assert (run["status"], run["result"]) == ("succeeded", None)


async def test_lines_follow_one_another_and_the_session_is_whole(ledger):
    for data in "abc":
        await ledger.write_line(line_of(data))
    session_id = await agent(ledger)
    assert await said(ledger, session_id) == [(1, "a"), (2, "b"), (3, "c")]
    assert restore(session_id, await ledger.snapshot(session_id)).unconsumed_count == 3


async def test_a_key_writes_one_line(ledger):
    first = await ledger.write_line(line_of("a", key="k"))
    again = await ledger.write_line(line_of("a", key="k"))
    assert again["record_id"] == first["record_id"]
    with pytest.raises(IdempotencyConflict):
        await ledger.write_line(line_of("b", key="k"))
    assert await said(ledger, await agent(ledger)) == [(1, "a")]


async def test_a_repeated_line_gets_its_first_receipt(ledger):
    line = line_of("a")
    first = await ledger.write_line(line)
    again = await ledger.write_line(line)
    assert again["record_id"] == first["record_id"]
    assert line.send.operation is not None
    other = replace(
        line.send, operation=replace(line.send.operation, request_hash="of another request")
    )
    with pytest.raises(OperationConflict):
        await ledger.write_line(replace(line, send=other))
    assert await said(ledger, await agent(ledger)) == [(1, "a")]


async def test_a_session_that_a_host_holds_is_left_to_it(ledger):
    await ledger.write_line(line_of("a"))
    session_id = await agent(ledger)
    loaded = await ledger.load(session_id, "slot-1")
    assert await ledger.write_line(line_of("b")) is None
    await ledger.abandon(session_id, loaded.epoch)
    assert await ledger.write_line(line_of("c")) is not None
    assert await said(ledger, session_id) == [(1, "a"), (2, "c")]


async def test_what_a_host_has_written_meanwhile_is_before_the_next_line(ledger, clock):
    line = line_of("a")
    await ledger.write_line(line)
    hand = Hand(ledger, clock, line.start.session_id, line.start.run_id)
    await hand.adopt()
    await hand.stored(hand.accepted("b", stream=STREAM, stream_seq=2, key="k"), release=True)
    await ledger.write_line(line_of("c"))
    again = await ledger.write_line(line_of("b", key="k"))
    assert again is not None
    found = await said(ledger, line.start.session_id)
    assert found == [(1, "a"), (2, "b"), (3, "c")]


async def test_it_is_written_with_the_start_that_it_is_about(ledger):
    start, line = start_of(external_id="call-1"), line_of("asked")
    made = await ledger.start_session(start, line)
    assert (made["created"], made["lined"]) == (True, True)
    again = await ledger.start_session(start_of(external_id="call-1"), line_of("asked"))
    assert (again["created"], again["lined"]) == (False, False)
    assert await said(ledger, line.start.session_id) == [(1, "asked")]


async def test_a_start_does_not_fail_with_its_line(ledger):
    line = line_of("x" * (RECORD_BYTES_MAX + 1))
    made = await ledger.start_session(start_of(external_id="call-1"), line)
    assert (made["created"], made["lined"]) == (True, False)
    with pytest.raises(TooLarge):
        await ledger.write_line(line)
    assert (await ledger.list_sessions(external_id="agent-1"))["items"] == []


async def test_a_name_of_another_session_is_a_conflict(ledger):
    await ledger.write_line(line_of("a"))
    with pytest.raises(ExternalIdConflict):
        await ledger.write_line(line_of("b", payload="another"))


async def test_one_that_rides_goes_by_itself_if_nothing_follows(ledger):
    assert await ledger.write_line(line_of("a"), rides=True) is not None
    assert await said(ledger, await agent(ledger)) == [(1, "a")]


async def test_one_that_rides_goes_with_the_next_commit(actor):
    await actor.open()
    committed, database = [], actor._ledger._group.database
    commit = database.commit

    def counted(appends):
        committed.append([entry.session_id for entry in appends.entries])
        commit(appends)

    database.commit = counted
    line, start = line_of("a"), start_of()
    riding = asyncio.ensure_future(actor.write_line(line, rides=True))
    await asyncio.sleep(0)
    await actor.start(start)
    await riding
    assert [set(one) for one in committed] == [{line.start.session_id, start.session_id}]
