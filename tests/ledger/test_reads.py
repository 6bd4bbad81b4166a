"""What the service reads: objects, lists with cursors, transcripts, streams, the feed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import BadCursor, ChainBroken, RunNotFound, SessionNotFound, WaitNotFound
from helmr.models import EntryInfo, Page, RecordInfo, RunInfo, SessionInfo, WaitInfo, WaitsQuery
from helmr.wire import ids
from helmr_runtime.core.children import Parent
from helmr_runtime.core.delegations import DeputyFilter
from helmr_runtime.core.entries import EntryKind, Principal
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.service.health import counted
from tests.ledger.facts import complete_token, create_token
from tests.ledger.sessions import (
    ALICE,
    SMALL,
    START_AT,
    Hand,
    begin,
    check_nothing_is_read,
    parked,
    running,
    start_of,
)


async def pages_of(ask: Callable[..., Awaitable[Any]], **filters: Any) -> list[list[Any]]:
    """Every page of a list, two items each."""
    cursor, pages = None, []
    while True:
        page = await ask(limit=2, cursor=cursor, **filters)
        pages.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages


async def test_a_session_shows_its_active_wait_in_full(ledger, clock):
    hand, wait = await parked(ledger, clock, timeout_s=60, tags=("a", "b"), external_id="pr-1")
    found = SessionInfo.model_validate(await ledger.get_session(hand.session_id))
    assert (found.activity, found.external_id, found.tags) == ("waiting", "pr-1", ["a", "b"])
    assert found.wait is not None
    assert found.wait.id == wait.body["wait_id"]
    assert (found.wait.subject, found.wait.body) == ("Publish?", "**Really?**")
    assert found.wait.deadline_at == clock.now() + timedelta(seconds=60)


async def test_reads_show_what_was_acknowledged_a_moment_ago(ledger, clock):
    hand = await running(ledger, clock)
    for number in range(1, 6):
        wait = hand.wait()
        await hand.stored(wait)
        found = await ledger.get_session(hand.session_id)
        assert found["wait"]["id"] == wait.body["wait_id"]
        last = (await ledger.transcript(hand.session_id, after=found["last_seq"] - 1))["items"]
        assert [entry["seq"] for entry in last] == [found["last_seq"]]
        await hand.stored(hand.fulfilled(wait))
        assert (await ledger.get_wait(wait.body["wait_id"]))["status"] == "fulfilled"
        assert len((await ledger.list_waits(status="fulfilled"))["items"]) == number


async def test_a_sessions_task_is_told_without_writing_the_tables(actor, clock):
    hand = await running(actor, clock)
    projected_offset = actor._ledger._group.projector.projected_offset
    assert (await actor.brief(hand.session_id))["task"] == "review"
    assert actor._ledger._group.projector.projected_offset == projected_offset
    assert actor._ledger._group.projector.is_behind


async def test_a_session_that_is_not_there_has_no_task(ledger, clock):
    hand = await running(ledger, clock)
    assert await ledger.brief(hand.session_id) == {"task": "review", "is_over": False}
    for nobody in (ids.new_id(ids.SESSION), ids.SYSTEM_STREAM):
        with pytest.raises(SessionNotFound):
            await ledger.brief(nobody)


async def test_a_run_shows_payload_result_and_error(ledger, clock):
    good = await running(ledger, clock, payload={"n": 1})
    await good.stored(good.succeeded({"ok": True}))
    found = RunInfo.model_validate(await ledger.get_run(good.run_id))
    assert (found.status, found.payload, found.result) == ("succeeded", {"n": 1}, {"ok": True})
    assert found.ended_at == clock.now()
    bad = await running(ledger, clock)
    await bad.stored(
        bad.draft(EntryKind.RUN_BLOCKED, code="nondeterminism", message="op 3 differs")
    )
    found = RunInfo.model_validate(await ledger.get_run(bad.run_id))
    assert found.error is not None
    assert (found.status, found.error.code, found.ended_at) == ("blocked", "nondeterminism", None)
    await bad.stored(bad.draft(EntryKind.RUN_RETRIED, attempt=2))
    found = RunInfo.model_validate(await ledger.get_run(bad.run_id))
    assert (found.status, found.attempt, found.error) == ("queued", 2, None)


async def test_a_continued_run_keeps_its_end(ledger, clock):
    hand = await running(ledger, clock)
    first = hand.run_id
    end = hand.draft(EntryKind.RUN_SUCCEEDED, result=None, continued_by="next")
    hand.run_id = ids.new_id(ids.RUN)
    created = hand.draft(
        EntryKind.RUN_CREATED,
        task="review",
        payload=2,
        started_by={"type": "run", "id": first},
        attempt=1,
    )
    await hand.stored(end, created)
    assert (await ledger.get_run(first))["status"] == "succeeded"
    runs = (await ledger.list_runs(session_id=hand.session_id))["items"]
    assert [run["id"] for run in runs] == [hand.run_id, first]
    assert (await ledger.get_session(hand.session_id))["activity"] == "queued"


async def test_a_resolved_wait_keeps_who_and_when_and_its_text(ledger, clock):
    hand, wait = await parked(ledger, clock)
    await hand.adopt("claims-1")
    clock.move_to(clock.now() + timedelta(seconds=5))
    await hand.stored(hand.accepted(1), hand.fulfilled(wait))
    found = WaitInfo.model_validate(await ledger.get_wait(wait.body["wait_id"]))
    assert found.status == "fulfilled"
    assert found.resolved_by is not None
    assert (found.resolved_by.id, found.resolved_at) == (ALICE.id, clock.now())
    assert (found.subject, found.body) == ("Publish?", "**Really?**")


async def test_a_wait_that_an_earlier_record_satisfied_names_its_sender(ledger, clock):
    hand = await running(ledger, clock)
    sent, wait = hand.accepted(1), hand.wait()
    outcome = hand.draft(
        EntryKind.WAIT_FULFILLED,
        op=wait.op,
        wait_id=wait.body["wait_id"],
        record_id=sent.body["record_id"],
        record_seq=1,
        stream="approval",
        next="running",
    )
    await hand.stored(sent, wait, outcome)
    assert (await ledger.get_wait(wait.body["wait_id"]))["resolved_by"]["id"] == ALICE.id


async def test_unknown_objects_are_not_found(ledger):
    with pytest.raises(SessionNotFound):
        await ledger.get_session(ids.new_id(ids.SESSION))
    with pytest.raises(SessionNotFound):
        await ledger.transcript(ids.new_id(ids.SESSION))
    with pytest.raises(RunNotFound):
        await ledger.get_run(ids.new_id(ids.RUN))
    with pytest.raises(WaitNotFound):
        await ledger.get_wait(ids.new_id(ids.WAIT))


async def test_sessions_are_listed_newest_first_and_filtered(ledger, clock):
    hands = [await begin(ledger, clock, task=f"t{n % 2}", tags=(f"tag{n}",)) for n in range(5)]
    newest_first = [hand.session_id for hand in reversed(hands)]
    pages = await pages_of(ledger.list_sessions)
    assert [[s["id"] for s in page] for page in pages] == [
        newest_first[:2],
        newest_first[2:4],
        newest_first[4:],
    ]
    Page[SessionInfo].model_validate(await ledger.list_sessions())
    assert len((await ledger.list_sessions(task="t0"))["items"]) == 3
    assert [s["id"] for s in (await ledger.list_sessions(tag="tag3"))["items"]] == [
        hands[3].session_id
    ]
    assert (await ledger.list_sessions(tag="tag"))["items"] == []
    await hands[0].adopt()
    await hands[0].stored(hands[0].started())
    assert len((await ledger.list_sessions(activity="running"))["items"]) == 1
    await hands[0].stored(hands[0].succeeded(), hands[0].closed())
    assert len((await ledger.list_sessions(status="closed"))["items"]) == 1
    assert (await ledger.list_sessions(activity="idle"))["items"] == []


async def test_an_external_id_finds_the_open_session_else_the_newest(ledger, clock):
    hands = []
    for _ in range(2):
        hands.append(await running(ledger, clock, external_id="pr-1"))
        await hands[-1].stored(hands[-1].succeeded(), hands[-1].closed())

    async def found(external_id):
        items = (await ledger.list_sessions(external_id=external_id, limit=1))["items"]
        return [item["id"] for item in items]

    assert await found("pr-1") == [hands[-1].session_id]
    opened = await begin(ledger, clock, external_id="pr-1")
    assert await found("pr-1") == [opened.session_id]
    assert await found("pr-2") == []


async def test_a_wait_names_the_parent_of_its_session(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.step("sessions.start review"))
    parent = Parent(session_id=hand.session_id, run_id=hand.run_id, op=hand.op, attempt=1)
    start = replace(start_of(), parent=parent)
    await ledger.start(start)
    child = Hand(ledger, clock, start.session_id, start.run_id)
    await child.adopt()
    asked, own = child.wait(), hand.wait()
    await child.stored(asked, release=True)
    await hand.stored(own, release=True)
    listed = (await ledger.list_waits())["items"]
    assert {one["id"]: one["parent_session_id"] for one in listed} == {
        asked.body["wait_id"]: hand.session_id,
        own.body["wait_id"]: None,
    }
    found = await ledger.get_wait(asked.body["wait_id"])
    assert found["parent_session_id"] == hand.session_id


async def test_waits_are_listed_by_deadline_none_last_then_id(ledger, clock):
    order = []
    # Of the soonest, and of those without a deadline, there are more than one page shows.
    for timeout_s in (None, 30, 10, None, 20, 10, 10, None):
        _, wait = await parked(ledger, clock, timeout_s=timeout_s)
        order.append((timeout_s or 10**9, wait.body["wait_id"]))
    expected = [wait_id for _, wait_id in sorted(order)]
    pages = await pages_of(ledger.list_waits)
    assert [wait["id"] for page in pages for wait in page] == expected
    assert all("body" not in wait for page in pages for wait in page)
    Page[WaitInfo].model_validate(await ledger.list_waits())


ENDED = {"status": "fulfilled"}
LISTED: list[tuple[dict[str, Any], int]] = [
    ({}, 12),
    (ENDED, 2),
    ({"status": "cancelled"}, 0),
    ({"kind": ["timer"]}, 2),
    ({"kind": ["input", "timer"]}, 14),
    ({"task": "refund"}, 6),
    ({"task": "none"}, 0),
    ({"stream": "verdicts"}, 2),
    ({"priority": "high"}, 2),
    ({"tag": "eu"}, 2),
    ({"tag": "own"}, 7),
    ({"tag": "own", "task": "review"}, 1),
    ({"tag": "e"}, 0),
    ({"assignee": "group:finance"}, 2),
    ({"batch_id": "batch_1", **ENDED}, 1),
    ({"resolved_since": START_AT, **ENDED}, 2),
    ({"resolved_since": START_AT + timedelta(hours=1), **ENDED}, 0),
    ({"concerns": ["ada"]}, 4),
    ({"concerns": ["group:finance"]}, 4),
    ({"answerable_by": ["ada"]}, 8),
    ({"answerable_by": ["bo"]}, 8),
    ({"answerable_by": ["cy", "group:finance"]}, 10),
    ({"answerable_by": ["cy", "group:finance"], "task": "refund"}, 5),
    ({"voter": "ada"}, 2),
    ({"answered_by": "ada"}, 2),
    ({"answered_by": "ada", **ENDED}, 1),
]
"""Filters of waits, and the number of waits in `all_sorts` that fit."""


async def all_sorts(ledger: Any, clock: Any) -> str:
    """Waits that each filter tells apart, most of which end at one moment; returns a session with a timer."""
    session_id = ""
    soon = {"deadline_at": clock.now() + timedelta(seconds=10)}
    sorts: list[dict[str, Any]] = [
        soon,
        {"answerers": ["group:finance"], **soon},
        {"answerers": ["ada", "bo"], "approvals": 2, "priority": "high"},
        {"not_by": ["bo"], "tags": ["eu"]},
        {"assignee": "group:finance", "stream": "verdicts"},
        {"assignee": "person:Ada", "tags": ["own"]},
        {"kind": "timer", **soon},
    ]
    for task, tags in (("review", ()), ("refund", ("own",))):
        for sort in sorts:
            hand = await running(ledger, clock, task=task, tags=tags)
            session_id = hand.session_id
            wait = hand.wait(**sort, session_tags=list(tags))
            await hand.stored(wait)
            if "approvals" in sort:
                body = {"person": {"id": "ada"}, "voters": {}, "have": 1, "need": 2}
                body["wait_id"] = wait.body["wait_id"]
                await hand.stored(hand.draft(EntryKind.WAIT_VOTED, op=wait.op, **body))
    for person, how in (("ada", {}), ("bo", {"batch_id": "batch_1"})):
        answered = await running(ledger, clock, task="answered")
        wait = answered.wait()
        answer = replace(answered.fulfilled(wait, **how), principal=Principal("person", person))
        await answered.stored(wait, answer)
    new = create_token()
    await ledger.fact(new)
    ended = await running(ledger, clock, task="ended")
    await ended.stored(ended.wait(kind="token", token_id=new.new.token_id))
    await ledger.fact(complete_token(new.new.token_id))
    return session_id


async def test_a_count_of_waits_is_that_of_a_walk_over_the_pages(ledger: Any, clock: Any) -> None:
    """With each filter, and from each page."""
    session_id = await all_sorts(ledger, clock)
    cases = [*LISTED, ({"session_id": session_id, "kind": ["timer"]}, 1)]
    by_caller = {"mine", "can_answer"}  # the service makes others of them
    known = {"limit", "cursor"} | by_caller
    assert {name for wanted, _ in cases for name in wanted} == {*WaitsQuery.model_fields} - known
    for wanted, count in cases:
        of_any_task = {name: value for name, value in wanted.items() if name != "task"}
        pages = await pages_of(ledger.list_waits, **of_any_task)
        tasks = sorted({wait["task"] for page in pages for wait in page})
        before, cursor = 0, None
        while True:
            found = await ledger.count_waits(limit=2, cursor=cursor, **wanted)
            assert found == {"count": count, "before": before, "tasks": tasks}, (wanted, before)
            page = await ledger.list_waits(limit=2, cursor=cursor, **wanted)
            before, cursor = before + len(page["items"]), page["next_cursor"]
            if cursor is None:
                break
        assert before == count, wanted
    with pytest.raises(BadCursor):
        await ledger.count_waits(cursor="x")


FINANCE = {"delegator": ("cy", "group:finance"), "both": ("cy", "group:finance", "zoe")}
BO = {"delegator": ("bo",), "both": ("bo", "zoe"), "people": ("bo", "zoe")}
BY_DEPUTY: list[tuple[str, dict[str, Any], int]] = [
    ("answerable_by", {}, 10),
    ("answerable_by", {"tasks": ("refund", "none")}, 9),
    ("answerable_by", {"streams": ("verdicts",)}, 8),
    ("answerable_by", {"tags": ("own", "none")}, 9),
    ("answerable_by", {"tags": ("eu",)}, 8),
    ("answerable_by", BO, 10),
    ("answerable_by", {**BO, "people": ("ada", "zoe")}, 8),
    ("answerable_by", {**BO, "delegator": ("none",)}, 8),
    ("concerns", {}, 4),
    ("concerns", {"streams": ("verdicts",)}, 2),
    ("concerns", {"delegator": ("ada",)}, 4),
    ("concerns", {"delegator": ("ada",), "tags": ("own",), "tasks": ("refund",)}, 2),
    ("task", {}, 0),
]
"""Filters for zoe, a delegation to her, and the number of waits in `all_sorts` that fit."""


async def test_waits_of_the_people_whose_deputy_asks_are_listed_and_counted(
    ledger: Any, clock: Any
) -> None:
    await all_sorts(ledger, clock)
    for name, parts, count in BY_DEPUTY:
        by = DeputyFilter(**{"people": ("cy", "zoe"), **FINANCE, **parts})
        wanted = {name: "zoe" if name == "task" else ["zoe"], "by_deputy": [by]}
        pages = await pages_of(ledger.list_waits, **wanted)
        assert sum(map(len, pages)) == count, (name, parts)
        assert (await ledger.count_waits(**wanted))["count"] == count, (name, parts)


async def test_waits_are_found_by_who_answered_or_was_one_of_those_who_voted(ledger, clock):
    found = []
    for answerer in (
        Principal("person", "Ada", via="key_1"),
        Principal("person", "bo", via="key_2"),
        Principal("api_key", "ada", "ada"),
        Principal("link", "pat_1", None, "ada"),
    ):
        hand = await running(ledger, clock)
        wait = hand.wait()
        await hand.stored(wait)
        await hand.stored(replace(hand.fulfilled(wait), principal=answerer))
        found.append(wait.body["wait_id"])
    for person, expected in (("ada", found[:1]), ("person:BO", found[1:2]), ("eve", [])):
        listed = await ledger.list_waits(status="fulfilled", answered_by=person)
        assert [one["id"] for one in listed["items"]] == expected
    assert (await ledger.list_waits(answered_by="ada"))["items"] == []


async def test_waits_show_only_what_somebody_can_answer_unless_asked(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.wait(kind="timer", deadline_at=clock.now() + timedelta(hours=1)))
    assert (await ledger.list_waits())["items"] == []
    assert len((await ledger.list_waits(kind=["timer"]))["items"]) == 1
    assert len((await ledger.list_waits(kind=["timer"], session_id=hand.session_id))["items"]) == 1
    assert (await ledger.list_waits(kind=["timer"], task="other"))["items"] == []


async def test_a_long_body_is_read_whole_and_stands_in_no_list(ledger, clock):
    hand = await running(ledger, clock)
    wait = hand.wait(body="line of a diff\n" * 60_000)
    await hand.stored(wait)
    whole = wait.body["body"]
    assert len(whole) == 900_000
    assert (await ledger.get_wait(wait.body["wait_id"]))["body"] == whole
    assert (await ledger.get_session(hand.session_id))["wait"]["body"] == whole
    [listed] = (await ledger.list_waits())["items"]
    assert "body" not in listed
    [session] = (await ledger.list_sessions())["items"]
    assert session["wait"]["body"] is None


async def test_a_wait_is_listed_as_pending_no_more_once_its_token_is_completed(ledger, clock):
    new = create_token()
    await ledger.fact(new)
    hand = await running(ledger, clock)
    wait = hand.wait(kind="token", token_id=new.new.token_id)
    await hand.stored(wait, checkpoint=True, release=True)
    assert len((await ledger.list_waits())["items"]) == 1
    assert (await ledger.numbers())["waits"][0]["count"] == 1
    await ledger.fact(complete_token(new.new.token_id))
    assert (await ledger.list_waits())["items"] == []
    assert (await ledger.list_waits(session_id=hand.session_id, limit=1))["items"] == []
    assert (await ledger.numbers())["waits"] == []
    await hand.adopt()
    await hand.stored(hand.fulfilled(wait))
    assert (await ledger.list_waits())["items"] == []
    assert len((await ledger.list_waits(status="fulfilled"))["items"]) == 1


async def test_a_wait_says_that_its_token_is_completed_before_its_session_has_decided(
    ledger, clock
):
    new = create_token()
    await ledger.fact(new)
    hand = await running(ledger, clock)
    wait = hand.wait(kind="token", token_id=new.new.token_id)
    wait_id = wait.body["wait_id"]
    await hand.stored(wait, checkpoint=True, release=True)

    async def shown() -> set[tuple[str, str | None]]:
        found = await ledger.get_wait(wait_id)
        session = (await ledger.get_session(hand.session_id))["wait"]
        [listed] = (await ledger.list_sessions())["items"]
        waits = [one for one in (found, session, listed["wait"]) if one is not None]
        return {(one["status"], one["resolving"]) for one in waits}

    async def pending() -> int:
        return counted((await ledger.stats())["counts"])["waits_pending"]

    assert (await shown(), await pending()) == ({("pending", None)}, 1)
    await ledger.fact(complete_token(new.new.token_id))
    assert (await shown(), await pending()) == ({("pending", "completed")}, 0)
    await hand.adopt()
    await hand.stored(hand.fulfilled(wait))
    assert (await shown(), await pending()) == ({("fulfilled", None)}, 0)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "",
        base64.urlsafe_b64encode(b"[1").decode(),
        base64.urlsafe_b64encode(json.dumps(["runs", 3]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["sessions", "3"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["sessions", True]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["sessions", 2**80]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["sessions"]).encode()).decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
async def test_a_cursor_that_the_list_did_not_give_is_refused(ledger, cursor):
    with pytest.raises(BadCursor):
        await ledger.list_sessions(cursor=cursor)


async def test_a_wait_cursor_with_a_bad_id_is_refused(ledger):
    cursor = base64.urlsafe_b64encode(json.dumps(["waits", 1, "nonsense"]).encode()).decode()
    with pytest.raises(BadCursor):
        await ledger.list_waits(cursor=cursor)


async def test_a_transcript_is_paged_by_seq(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.step(), hand.step_done(), hand.wait())
    pages = await pages_of(lambda **more: ledger.transcript(hand.session_id, **more))
    entries = [EntryInfo.model_validate(entry) for page in pages for entry in page]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[0].principal.name == "alice"
    behind = await ledger.transcript(hand.session_id, after=4)
    assert [entry["seq"] for entry in behind["items"]] == [5, 6]


async def test_streams_are_paged_by_their_own_seq(ledger, clock):
    hand = await running(ledger, clock)
    wait = hand.wait()
    await hand.stored(wait)
    taken = hand.accepted({"stream": "other"}, stream_seq=1, correlation_id="c")
    await hand.stored(
        taken, hand.fulfilled(wait, record_id=taken.body["record_id"], stream="approval")
    )
    for seq in range(2, 6):
        await hand.stored(hand.accepted(seq, stream_seq=seq), hand.output(seq, stream_seq=seq - 1))
    pages = await pages_of(lambda **more: ledger.inputs(hand.session_id, "approval", **more))
    records = [RecordInfo.model_validate(record) for page in pages for record in page]
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert records[0].consumed_by == wait.body["wait_id"]
    assert records[1].consumed_by is None
    outputs = await ledger.outputs(hand.session_id, "progress", after=2)
    assert [record["data"] for record in outputs["items"]] == [4, 5]
    assert (await ledger.inputs(hand.session_id, "other"))["items"] == []


async def test_a_record_that_was_given_back_is_consumed_by_nobody_until_the_next_wait(
    ledger, clock
):
    hand = await running(ledger, clock)
    first, second = hand.wait(), hand.wait()
    taken = hand.accepted("x", stream_seq=1)
    names = {"record_id": taken.body["record_id"], "record_seq": 1, "stream": "approval"}
    await hand.stored(first, taken, hand.fulfilled(first, **names))
    body = {**names, "wait_id": first.body["wait_id"], "reason": "task"}
    await hand.stored(hand.draft(EntryKind.INPUT_RETURNED, op=first.op, **body))

    async def consumed_by() -> Any:
        return (await ledger.inputs(hand.session_id, "approval"))["items"][0]["consumed_by"]

    assert await consumed_by() is None
    await hand.stored(second, hand.fulfilled(second, **names))
    assert await consumed_by() == second.body["wait_id"]


async def test_following_the_feed_skips_and_repeats_nothing(ledger, clock):
    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < 200:
            found = await ledger.feed(seen[-1] if seen else 0, 7, 1)
            seen.extend(entry["feed_offset"] for entry in found)

    async def write() -> None:
        hand = await running(ledger, clock)
        while hand.seq < 60:
            await hand.stored(hand.step(), hand.step_done())

    async with asyncio.timeout(20):
        await asyncio.gather(follow(), *(write() for _ in range(4)))
    assert seen == list(range(1, len(seen) + 1))


async def test_the_feed_of_long_ago_is_read_from_the_file(opener, path, clock, actor):
    hand = await running(actor, clock)
    await hand.stored(hand.step(), hand.step_done())
    await actor.close()
    again = await opener()
    found = await again.entries_after(1, 3)
    assert [entry.feed_offset for entry in found] == [2, 3, 4]
    assert found[0].hash == (await again.entry(2)).hash


async def test_a_feed_call_waits_for_the_next_entry(ledger, clock):
    head = await ledger.feed_head()
    asking = asyncio.create_task(ledger.feed(head, 10, 5))
    await begin(ledger, clock)
    assert [entry["kind"] for entry in await asking] == ["session.created", "run.created"]


async def test_a_whole_chain_verifies_and_a_changed_byte_is_named(duck, clock):
    hand = await running(duck, clock)
    await hand.stored(hand.step(), hand.step_done(), hand.wait())
    assert await duck.verify_chain(hand.session_id) == hand.seq
    await duck._group.run_in_writer(
        lambda: duck._database.writer.execute("UPDATE entries SET body = body || ' ' WHERE seq = 5")
    )
    with pytest.raises(ChainBroken) as caught:
        await duck.verify_chain(hand.session_id)
    assert caught.value.facts["seq"] == 5


async def test_a_missing_and_a_cut_entry_are_named(duck, clock):
    hand = await running(duck, clock)
    await hand.stored(hand.step(), hand.step_done(), hand.wait())
    assert await duck.verify_chain(hand.session_id) == hand.seq  # now the database has them
    writer = duck._database.writer
    for seq in (6, 4):
        await duck._group.run_in_writer(writer.execute, "DELETE FROM entries WHERE seq = $1", [seq])
        with pytest.raises(ChainBroken) as caught:
            await duck.verify_chain(hand.session_id)
        assert caught.value.facts["seq"] == seq


async def test_stats_and_counts_say_how_the_ledger_does(actor, clock):
    await parked(actor, clock)
    hand = await running(actor, clock)
    stats = await actor.stats()
    assert stats["open"]
    assert stats["feed_offset"] == await actor.feed_head()
    assert stats["commit_p50_ms"] > 0
    assert stats["failure"] is None
    counts = (await actor.stats())["counts"]
    assert (counts["open"], counts["parked"], counts["held"], counts["running"]) == (2, 1, 1, 1)
    await hand.stored(hand.succeeded(), hand.closed(), release=True)
    assert ((await actor.stats())["counts"])["open"] == 1


async def test_who_asks_how_the_ledger_does_leaves_no_transaction_open(path, clock):
    """The fixtures look at what other tests have read."""
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    try:
        await running(ledger, clock)
        await ledger.stats()
        await check_nothing_is_read(ledger)
    finally:
        await ledger.close()


def test_no_result_is_left_when_its_first_row_is_read(project_root: Path) -> None:
    runtime = project_root / "runtime"
    found = [path for path in runtime.rglob("*.py") if ".fetchone(" in path.read_text("utf-8")]
    assert found == []
