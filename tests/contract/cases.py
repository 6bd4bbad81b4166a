"""The contract: what a client can do, whichever way it goes. Each case is a coroutine of a client and its way.

The cases run in tests of their own, in a child process and beside other sessions of the same runtime: they name what
they make by fresh tags and ids, and look only at that.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helmr import auth
from helmr.errors import (
    AttachmentNotFound,
    BadFilter,
    BadId,
    BadQuery,
    BadRequest,
    Conflict,
    DelegationNotFound,
    ExternalIdConflict,
    IdempotencyConflict,
    KeyNotFound,
    NotAnAnswerer,
    NoticeTargetNotFound,
    OperationConflict,
    OpNotFound,
    PersonNotFound,
    RunActive,
    RunNotFound,
    RunNotRetryable,
    SchemaMismatch,
    ScopeDenied,
    SessionChanged,
    SessionNotFound,
    SessionTerminal,
    StreamNotFound,
    TaskNotFound,
    TokenCancelled,
    TokenCompleted,
    TokenExhausted,
    TokenNotFound,
    Unauthenticated,
    UsageError,
    WaitNotAmendable,
    WaitNotFound,
    WaitResolved,
    WaitTimedOut,
)
from helmr.evidence import evidence
from helmr.models import ChunkInfo, ChunksEnd, RecordInfo
from helmr.signing import fingerprint
from helmr.wire import ids
from helmr_runtime.core.session_file import BackupReader, FileReader, read_session
from helmr_runtime.security.file_signatures import check_signature
from tests import signers
from tests.contract.contract_tasks import FILE
from tests.contract.repeating import KINDS
from tests.of_features import of_features

BOUND_S = 30.0
MISSING = "01h455vb4pex5vsknk084sn02q"
PERSON = "Zoë"
APPROVE, REJECT = {"decision": "approve"}, {"decision": "reject"}


async def _real_time(seconds: float) -> None:
    """Passes by itself."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the client reaches the sessions, and what differs with it.

    Attributes:
        principal: Who acts, in transcripts.
        has_sql: There is a database to ask.
        pass_time: Lets a fake clock move.
    """

    principal: str
    has_sql: bool = True
    pass_time: Callable[[float], Awaitable[None]] = _real_time


def fresh(what: str) -> str:
    """A name that nobody else uses."""
    return f"{what}-{secrets.token_hex(6)}"


async def all_of(found: Any) -> list[Any]:
    """What an async iterator gives."""
    return [one async for one in found]


async def reviewing(client: Any, **options: Any) -> tuple[Any, Any]:
    """A session that waits for its decision, and the wait."""
    started = await client.sessions.start_and_wait(
        "contract-review", {"title": "News"}, timeout=BOUND_S, **options
    )
    [wait] = await all_of(client.waits.list(session_id=started.id))
    return started, wait


# --- the cases ------------------------------------------------------------------------------------


async def a_session_from_start_to_close(client: Any, way: Way) -> None:
    name, tag = fresh("external"), fresh("tag")
    started, wait = await reviewing(client, external_id=name, tags=[tag], metadata={"a": [1, 1.0]})
    assert started.created
    receipt = await client.waits.answer(wait.id, APPROVE)
    assert receipt.run_id == started.started_run.id
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert run.result == {"status": "approve"}
    session = await client.sessions.find(name)
    assert session.id == started.id
    found = await session.get()
    assert (found.tags, found.metadata, found.wait) == ([tag], {"a": [1, 1.0]}, None)
    note = await session.note("seen")
    again = await session.run()
    assert (await client.runs.cancel(again.id)).status == "cancelled"
    assert [one.id for one in await all_of(session.runs())] == [again.id, run.id]
    assert (await session.close()).status == "closed"
    assert (await session.close()).status == "closed"
    entries = await all_of(session.transcript(limit=3))
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))
    assert entries[note.seq - 1].kind == "note.added"


async def who_acted_is_recorded(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    await client.waits.answer(wait.id, APPROVE)
    await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    session = client.sessions.open(started.id)
    [record] = await all_of(session.input("approval").list())
    assert (record.principal.type, record.principal.on_behalf_of) == (way.principal, PERSON)
    assert record.consumed_by == wait.id
    resolved = await client.waits.get(wait.id)
    assert resolved.resolved_by.type == way.principal
    first = await session.transcript_page(limit=1)
    assert first.items[0].principal.on_behalf_of == PERSON


async def sessions_are_found_by_what_they_are(client: Any, way: Way) -> None:
    tag = fresh("tag")
    made = [
        (await client.sessions.start("contract-echo", number, tags=[tag])).id for number in range(3)
    ]
    await client.sessions.open(made[0]).cancel()
    assert [one.id for one in await all_of(client.sessions.list(tag=tag, limit=1))] == made[::-1]
    assert [one.id for one in await all_of(client.sessions.list(tag=tag, status="open"))] == [
        made[2],
        made[1],
    ]
    assert await all_of(client.sessions.list(tag=tag, task="contract-review")) == []
    page = await client.sessions.page(tag=tag, limit=2)
    rest = await client.sessions.page(tag=tag, limit=2, cursor=page.next_cursor)
    assert [one.id for one in (*page.items, *rest.items)] == made[::-1]
    assert rest.next_cursor is None


async def runs_are_listed_and_waited_for(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-fails", "why")
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert (run.status, run.attempt, run.error.message) == ("failed", 1, "why")
    await client.runs.retry(run.id)
    again = await client.runs.wait(run.id, timeout=BOUND_S)
    assert (again.status, again.attempt) == ("failed", 2)
    assert (await client.runs.get(run.id)).attempt == 2
    mine = {"session_id": started.id}
    assert [one.id for one in await all_of(client.runs.list(**mine, status="failed"))] == [run.id]
    assert (await client.runs.page(**mine, status="succeeded", limit=1)).items == []
    waiting = await client.sessions.start("contract-review", {"title": "A"})
    found = await client.runs.wait(waiting.started_run.id, timeout=BOUND_S, until="stopped")
    assert found.status == "waiting"
    journal = await client.runs.journal(waiting.started_run.id)
    assert (journal.session_id, journal.payload) == (waiting.id, {"title": "A"})
    assert [one.kind for one in journal.entries][-1] == "wait.opened"


async def an_answer_is_tried(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    before = await all_of(client.sessions.open(started.id).transcript())
    found = await client.waits.dry_run(wait.id, APPROVE)
    assert (found.session_id, found.wait_id) == (started.id, wait.id)
    assert await all_of(client.sessions.open(started.id).transcript()) == before
    with pytest.raises(SchemaMismatch):
        await client.waits.dry_run(wait.id, {"decision": "maybe"})
    assert (await client.waits.get(wait.id)).status == "pending"


async def a_wrong_answer_is_amended(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    await client.waits.answer(wait.id, APPROVE)
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    seen = await client.waits.preview_amend(wait.id)
    assert (seen.run_id, seen.amends, seen.asked_again) == (run.id, wait.id, [])
    assert [one.stream for one in seen.outputs] == ["progress"]
    with pytest.raises(SchemaMismatch):
        await client.waits.amend(wait.id, {"decision": "maybe"}, preview=seen, reason="misread")
    await client.waits.amend(wait.id, REJECT, preview=seen, reason="misread")
    again = await client.runs.wait(run.id, timeout=BOUND_S)
    assert (again.attempt, again.result) == (2, {"status": "reject"})
    with pytest.raises(WaitNotAmendable):
        await client.waits.preview_amend(wait.id)
    entries = await all_of(client.sessions.open(started.id).transcript())
    [rewound] = [one for one in entries if one.kind == "run.rewound"]
    assert (rewound.body["reason"], rewound.principal.on_behalf_of) == ("misread", PERSON)


async def a_run_goes_back(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    run_id = started.started_run.id
    seen = await client.runs.preview_rewind(run_id, wait_id=wait.id)
    assert [one.wait_id for one in seen.asked_again] == [wait.id]
    await client.runs.rewind(run_id, preview=seen, reason="look again")
    with pytest.raises(WaitResolved, match=f"{PERSON}.*look again") as told:
        await client.waits.answer(wait.id, APPROVE)
    assert told.value.facts["reason"] == "rewound"
    await client.runs.wait(run_id, timeout=BOUND_S, until="stopped")
    [asked] = await all_of(client.waits.list(session_id=started.id))
    assert asked.id != wait.id
    with pytest.raises(SessionChanged) as changed:
        await client.runs.rewind(run_id, preview=seen, reason="once more")
    assert changed.value.facts["preview"]["run_id"] == run_id
    assert asked.question_hash == wait.question_hash
    await client.waits.answer(asked.id, APPROVE)
    assert (await client.runs.wait(run_id, timeout=BOUND_S)).result == {"status": "approve"}
    with pytest.raises(OpNotFound):
        await client.runs.preview_rewind(run_id, to_op=99)


async def a_session_is_forked(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    await client.waits.answer(wait.id, APPROVE)
    await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    origin = client.sessions.open(started.id)
    before = await all_of(origin.transcript())
    with pytest.raises(SchemaMismatch):
        await origin.fork(wait_id=wait.id, reason="what if", answer={"decision": "maybe"})
    other = await origin.fork(wait_id=wait.id, reason="what if", answer=REJECT)
    run = await client.runs.wait(other.started_run.id, timeout=BOUND_S)
    assert run.result == {"status": "reject"}
    assert (await other.get()).forked_from.session_id == started.id
    mine = await all_of(client.sessions.list(forked_from=started.id))
    assert [one.id for one in mine] == [other.id]
    asked = await origin.fork(wait_id=wait.id, reason="ask anew")
    found = await client.runs.wait(asked.started_run.id, timeout=BOUND_S, until="stopped")
    assert found.status == "waiting"
    entries = await all_of(other.transcript())
    [forked] = [one for one in entries if one.kind == "session.forked"]
    assert (forked.body["reason"], forked.principal.on_behalf_of) == ("what if", PERSON)
    assert await all_of(origin.transcript()) == before
    assert [one.data for one in await all_of(other.output("progress").read())] == [
        "asked",
        "reject",
    ]


async def the_inbox_is_read_and_answered(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    mine = {"session_id": started.id, "task": "contract-review", "stream": "approval"}
    assert wait.body is None  # lists leave the long parts out
    full = await client.waits.get(wait.id)
    assert (full.subject, full.body) == ("Publish News?", "# Look")
    assert full.json_schema["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert (await client.sessions.open(started.id).get()).wait.id == wait.id
    page = await client.waits.page(**mine, kind="input", limit=1)
    assert [one.id for one in page.items] == [wait.id]
    assert (full.initial, full.can_decline, full.on_decline) == (REJECT, True, REJECT)
    assert (full.priority, full.tags, full.assignee) == ("high", ["news"], "ada")
    assert [escalation_step["do"] for escalation_step in full.escalation] == ["remind", "default"]
    assert len(full.question_hash) == 32
    for wanted, found in [
        ({"priority": "high"}, 1),
        ({"priority": "low"}, 0),
        ({"tag": "news"}, 1),
        ({"tag": "new"}, 0),
        ({"assignee": "ada"}, 1),
        ({"assignee": "Ada"}, 0),
    ]:
        assert len((await client.waits.page(**mine, **wanted)).items) == found, wanted
    await client.waits.answer(wait.id, REJECT)
    assert await all_of(client.waits.list(**mine)) == []
    assert [one.id for one in await all_of(client.waits.list(**mine, status="fulfilled"))] == [
        wait.id
    ]


async def a_wait_is_claimed_assigned_and_released(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    claim = (await client.waits.claim(wait.id, expires_in="1h")).claim
    assert (claim.principal.type, claim.on_behalf_of) == (way.principal, PERSON)
    renewed = (await client.waits.claim(wait.id, expires_in="2h")).claim
    assert (renewed.since, renewed.until > claim.until) == (claim.since, True)
    assert (await client.waits.get(wait.id)).claim == renewed
    assert (await client.waits.page(session_id=started.id)).items[0].claim == renewed
    assert (await client.waits.release(wait.id)).claim is None
    assert (await client.waits.get(wait.id)).claim is None
    assert (await client.waits.assign(wait.id, assignee="tom")).assignee == "tom"
    assert [one.id for one in await all_of(client.waits.list(assignee="tom"))].count(wait.id) == 1
    await client.waits.claim(wait.id)
    await client.waits.answer(wait.id, APPROVE)
    with pytest.raises(WaitResolved):
        await client.waits.claim(wait.id)
    kinds = [one.kind for one in await all_of(client.sessions.open(started.id).transcript())]
    told = [kind for kind in kinds if kind.startswith(("wait.", "input."))]
    assert told == [
        "wait.opened",
        "wait.claimed",
        "wait.claim_ended",
        "wait.assigned",
        "wait.claimed",
        "input.accepted",
        "wait.fulfilled",
    ]


async def only_people_who_are_signed_in_vote(client: Any, way: Way) -> None:
    """No client here is such a person: keys of people over HTTP are in tests/http/test_people.py."""
    started = await client.sessions.start_and_wait("contract-votes", timeout=BOUND_S)
    [wait] = await all_of(client.waits.list(session_id=started.id))
    assert wait.approvals == 2
    with pytest.raises(NotAnAnswerer):
        await client.waits.answer(wait.id, APPROVE)
    receipt = await client.waits.withdraw(wait.id)  # of a vote that there is not
    assert (receipt.outcome, receipt.have, receipt.need) == ("withdrawn", 0, 2)
    assert (await client.waits.get(wait.id)).status == "pending"
    await client.waits.answer(wait.id, APPROVE, override_reason="both are ill")
    assert (await client.runs.wait(started.started_run.id, timeout=BOUND_S)).result == "approve"
    assert (await client.waits.get(wait.id)).override_reason == "both are ill"
    with pytest.raises(WaitResolved):
        await client.waits.withdraw(wait.id)
    with pytest.raises(WaitNotFound):
        await client.waits.withdraw(f"wait_{MISSING}")


async def links_to_answer_by_are_made_listed_and_revoked(client: Any, way: Way) -> None:
    _, wait = await reviewing(client)
    made = await client.waits.link(wait.id, person="ada", expires_in="1h")
    assert "/v1/links/hlmr_link_" in made.url
    assert [one.id for one in await client.waits.links(wait.id)] == [made.id]
    assert (await client.waits.unlink(wait.id, link_id=made.id)).is_live is False
    assert [one.is_live for one in await client.waits.links(wait.id)] == [False]


async def sends_say_what_they_did(client: Any, way: Way) -> None:
    started, _ = await reviewing(client)
    approval = client.sessions.open(started.id).input("approval")
    first = await approval.send(REJECT, correlation_id="other", idempotency_key="k")
    assert first.outcome == "unmatched"
    again = await approval.send(REJECT, correlation_id="other", idempotency_key="k")
    assert (again.duplicate, again.record_id) == (True, first.record_id)
    assert (await approval.send(REJECT, correlation_id="review-1")).outcome == "fulfilled"
    page = await approval.page(limit=1)
    assert [one.seq for one in page.items] == [1]
    assert [one.seq for one in await all_of(approval.list(after=1))] == [2]


async def what_comes_after_a_deadline_is_late(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-deadline", "1s")
    await client.runs.wait(started.started_run.id, timeout=BOUND_S, until="stopped")
    [wait] = await all_of(client.waits.list(session_id=started.id))
    await way.pass_time(2.0)
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert run.result == "late"
    with pytest.raises(WaitTimedOut):
        await client.waits.answer(wait.id, APPROVE)
    sent = await client.sessions.open(started.id).input("approval").send(APPROVE)
    assert sent.outcome == "late"


async def a_repeated_operation_gives_its_first_receipt(client: Any, way: Way) -> None:
    operation_id = ids.new_id(ids.OPERATION)
    first = await client.sessions.start("contract-echo", 0, operation_id=operation_id)
    again = await client.sessions.start("contract-echo", 0, operation_id=operation_id)
    assert again.id == first.id
    with pytest.raises(OperationConflict):
        await client.sessions.start("contract-echo", 1, operation_id=operation_id)
    words = client.sessions.open(first.id).input("words")
    operation_id = ids.new_id(ids.OPERATION)
    sent = [await words.send("x", operation_id=operation_id) for _ in range(2)]
    assert sent[0].record_id == sent[1].record_id
    token = await client.tokens.create(timeout="1h", schema={"type": "integer"})
    with pytest.raises(OperationConflict):  # though the data does not fit either
        await client.tokens.complete(token.id, "x", operation_id=operation_id)
    key = fresh("key")
    started = [
        await client.sessions.start("contract-echo", 7, idempotency_key=key) for _ in range(2)
    ]
    assert started[0].id == started[1].id
    with pytest.raises(IdempotencyConflict):
        await client.sessions.start("contract-echo", 8, idempotency_key=key)


async def every_operation_can_be_repeated(client: Any, way: Way) -> None:
    for name, kind in KINDS.items():
        prepared = await kind(client)
        operation_id = ids.new_id(ids.OPERATION)
        first = await prepared.call(operation_id)
        if prepared.then is not None:
            await prepared.then()
        if prepared.session_id is not None:
            await client.sessions.open(prepared.session_id).note("something else")
        assert await prepared.call(operation_id) == first, name


async def following_meets_every_record_once(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-echo", 0)
    session = client.sessions.open(started.id)

    async def send() -> None:
        for number in range(20):
            await session.input("words").send(str(number))

    sending = asyncio.create_task(send())
    found: list[str] = []
    async with asyncio.timeout(BOUND_S), aclosing(session.output("echoes").follow()) as feed:
        async for record in feed:
            found.append(record.data["word"])
            if len(found) == 20:
                break
    await sending
    assert found == [str(number) for number in range(20)]
    read = await all_of(session.output("echoes").read(limit=7))
    assert [one.data["count"] for one in read] == list(range(1, 21))
    page = await session.output("echoes").page(after=18)
    assert [one.seq for one in page.items] == [19, 20]
    ended = await session.close(end_input=True)
    assert ended.status == "closed"


async def chunks_come_beside_the_records(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-emits", None)
    session = client.sessions.open(started.id)
    seen: list[Any] = []
    told = seen.append

    async def follow() -> None:
        async with aclosing(session.output("echoes").follow_chunks()) as feed:
            async for one in feed:
                told(one)

    following = asyncio.create_task(follow())
    sent = 0
    async with asyncio.timeout(BOUND_S):
        while len({type(one) for one in seen}) < 3:  # who comes late may see an end and no chunk
            await session.input("words").send(str(sent))
            sent += 1
            await asyncio.sleep(0.02)
        await _close(session)
        await following
    chunks = [one for one in seen if isinstance(one, ChunkInfo)]
    said = [[str(word), piece] for word in range(sent) for piece in range(3)]
    assert [one.data for one in chunks] == said[-len(chunks) :]
    assert {one.lost for one in chunks} == {0}
    assert {one.outcome for one in seen if isinstance(one, ChunksEnd)} == {"succeeded"}
    records = [one.data for one in seen if isinstance(one, RecordInfo)]
    assert records == [str(word) for word in range(sent)]


async def following_an_output_ends_with_its_session(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-echo", 0)
    session = client.sessions.open(started.id)
    echoes = session.output("echoes")
    await session.input("words").send("a")
    found: list[str] = []
    async with asyncio.timeout(BOUND_S):
        async with aclosing(echoes.follow()) as feed:
            async for record in feed:
                found.append(record.data["word"])
                if found == ["a"]:
                    await session.input("words").send("b")
                else:
                    await _close(session)
        assert [one.seq async for one in echoes.follow(after=1)] == [2]
        assert [one.seq async for one in echoes.follow(after=2)] == []
    assert found == ["a", "b"]


async def _close(session: Any) -> None:
    """Once its run waits again."""
    while True:
        try:
            await session.close(end_input=True)
        except RunActive:
            await asyncio.sleep(0.01)
        else:
            return


async def entries_are_followed(client: Any, way: Way) -> None:
    offset = (await client.health()).feed_offset
    started, wait = await reviewing(client)
    session = client.sessions.open(started.id)
    answering = asyncio.create_task(_awaited(client.waits.answer(wait.id, APPROVE)))
    kinds: list[str] = []
    async with asyncio.timeout(BOUND_S), aclosing(session.follow()) as feed:
        async for entry in feed:
            kinds.append(entry.kind)
            if entry.kind == "run.succeeded":
                break
    await answering
    assert kinds[0] == "session.created"
    assert kinds.count("wait.fulfilled") == 1
    seen: list[int] = []
    async with asyncio.timeout(BOUND_S), aclosing(client.events(after=offset)) as feed:
        async for entry in feed:
            assert not seen or entry.feed_offset == seen[-1] + 1
            seen.append(entry.feed_offset)
            if entry.session_id == started.id and entry.kind == "run.succeeded":
                break
    assert seen[0] == offset + 1


async def tokens_are_completed_once(client: Any, way: Way) -> None:
    tag = fresh("tag")
    token = await client.tokens.create(
        timeout="1h",
        tags=[tag],
        subject="Go?",
        facts={"cents": 120},
        links=["https://a.example/1"],
        diff=("a", "b"),
    )
    assert "/v1/callbacks/" in token.callback_url
    assert token.evidence is not None
    assert token.evidence.recorded() == evidence(
        {"cents": 120}, ["https://a.example/1"], ("a", "b")
    )
    started = await client.sessions.start("contract-token", token.id)
    await client.runs.wait(started.started_run.id, timeout=BOUND_S, until="stopped")
    assert (await client.tokens.complete(token.id, {"n": 1})).outcome == "completed"
    assert (await client.tokens.complete(token.id, {"n": 1})).outcome == "already_completed"
    with pytest.raises(TokenCompleted) as completed:
        await client.tokens.complete(token.id, 2)
    assert completed.value.facts["completed_by"]["type"] == way.principal
    run = await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert run.result == {"n": 1}
    assert (await client.tokens.get(token.id)).data == {"n": 1}
    other = await client.tokens.create(timeout="1h", tags=[tag])
    assert (await client.tokens.cancel(other.id)).status == "cancelled"
    with pytest.raises(TokenCancelled):
        await client.tokens.complete(other.id, 1)
    assert [one.id for one in await all_of(client.tokens.list(tag=tag, limit=1))] == [
        other.id,
        token.id,
    ]
    assert [one.id for one in (await client.tokens.page(tag=tag, status="completed")).items] == [
        token.id
    ]
    third = await client.tokens.create(timeout="1h")
    secret = third.public_access_token
    assert (
        await client.tokens.complete(third.id, 3, public_access_token=secret)
    ).outcome == "completed"


async def public_tokens_open_one_thing(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-echo", 0)
    session = client.sessions.open(started.id)
    words, echoes = session.input("words"), session.output("echoes")
    sends = await client.auth.create_public_token(
        scope=auth.send_to("words", session=started.id), max_uses=1
    )
    reads = await client.auth.create_public_token(
        scope=auth.read_from("echoes", session=started.id), expires_in="1h"
    )
    await words.send("x", public_access_token=sends.public_access_token)
    with pytest.raises(TokenExhausted):
        await words.send("y", public_access_token=sends.public_access_token)
    with pytest.raises(ScopeDenied):
        await words.send("y", public_access_token=reads.public_access_token)
    async with asyncio.timeout(BOUND_S):
        feed = echoes.follow(public_access_token=reads.public_access_token)
        async with aclosing(feed):
            assert (await anext(feed)).data["word"] == "x"
    [record] = await all_of(words.list())
    assert record.principal.type == "public_token"
    listed = {one.id: one for one in await all_of(client.auth.list(limit=100))}
    assert (listed[sends.id].uses_left, listed[reads.id].uses_left) == (0, None)
    assert reads.id in [one.id for one in (await client.auth.page(limit=100)).items]
    await client.auth.revoke(reads.id)
    with pytest.raises(Unauthenticated):
        await all_of(echoes.read(public_access_token=reads.public_access_token))


async def keys_are_made_and_revoked(client: Any, way: Way) -> None:
    key = await client.keys.create("viewer", name=fresh("looks"))
    assert key.secret.startswith("hlmr_")
    assert key.id in [one.id for one in await all_of(client.keys.list(limit=100))]
    revoked = await client.keys.revoke(key.id)
    assert revoked.revoked_at is not None
    page = await client.keys.page(limit=100)
    assert key.id in [one.id for one in page.items if one.revoked_at is not None]


async def the_runtime_says_who_calls(client: Any, way: Way) -> None:
    found = await client.people.whoami()
    assert (found.principal.type, found.principal.on_behalf_of) == (way.principal, PERSON)
    assert (found.role, found.person, found.groups_at) == ("admin", None, None)
    signed_in = await client.people.sign_in()
    assert (signed_in.issuer, signed_in.client_id, signed_in.scopes) == (None, None, [])


async def people_are_disabled_enabled_and_unbound(client: Any, way: Way) -> None:
    person = fresh("person")
    with pytest.raises(PersonNotFound):
        await client.people.get(person)
    for change in (client.people.disable, client.people.enable, client.people.unbind):
        with pytest.raises(PersonNotFound):
            await change("\u200b")  # which leaves no name
    _, wait = await reviewing(client)
    await client.waits.assign(wait.id, assignee=person)
    link = await client.waits.link(wait.id, person=person)
    disabled = await client.people.disable(person, reason="left")
    assert (disabled.id, disabled.status, disabled.reason) == (person, "disabled", "left")
    assert (await client.waits.get(wait.id)).assignee is None
    assert [(one.id, one.is_live) for one in await client.waits.links(wait.id)] == [
        (link.id, False)
    ]
    assert await client.people.get(person) == disabled
    assert person in [one.id async for one in client.people.list(limit=200)]
    page = await client.people.page(limit=1)
    assert len(page.items) == 1
    enabled = await client.people.enable(person)
    assert (enabled.disabled_at, enabled.reason) == (None, None)
    await client.waits.assign(wait.id, assignee=person)
    unbound = await client.people.unbind(person)
    assert (unbound.issuer, unbound.subject, unbound.bound_at) == (None, None, None)


async def keys_that_sign_are_registered_and_revoked(client: Any, way: Way) -> None:
    person, key = fresh("person"), signers.fresh_public()
    with pytest.raises(PersonNotFound):
        await client.people.add_key(person, key=key)
    await client.people.disable(person)
    await client.people.enable(person)
    with pytest.raises(BadRequest):
        await client.people.add_key(person, key="ssh-rsa AAAA")
    with pytest.raises(KeyNotFound):
        await client.people.revoke_key(person, fingerprint=fingerprint(key))
    added = await client.people.add_key(person, key=key)
    [one] = added.signing_keys
    assert (f"{one.key} {one.comment}", one.fingerprint) == (key, fingerprint(key))
    assert one.revoked_at is None
    again = await client.people.add_key(person, key=key)
    assert again.signing_keys == added.signing_keys
    revoked = await client.people.revoke_key(person, fingerprint=one.fingerprint, reason="lost")
    assert revoked.signing_keys[0].revoked_at is not None
    with pytest.raises(Conflict):
        await client.people.add_key(person, key=key)


async def people_have_deputies(client: Any, way: Way) -> None:
    person, deputy = fresh("person"), fresh("person")
    ends_at = datetime.now(UTC)
    for name in (person, deputy):
        with pytest.raises(PersonNotFound):
            await client.people.delegate(person, deputy=deputy, ends_at=ends_at, reason="ill")
        ends_at = (await client.people.disable(name)).disabled_at + timedelta(days=14)
        await client.people.enable(name)
    with pytest.raises(BadRequest):
        await client.people.delegate(person, deputy=deputy, ends_at=ends_at)
    made = await client.people.delegate(
        person,
        deputy=deputy,
        ends_at=ends_at,
        starts_at=ends_at - timedelta(days=1),
        reason="ill",
        tasks=["refund"],
        streams=("refunds",),
        tags=["spring"],
    )
    assert (made.delegator, made.deputy, made.ends_at) == (person, deputy, ends_at)
    assert made.scope == "tasks refund; streams refunds; tags spring"
    assert made in [one async for one in client.people.delegations(limit=1)]
    assert (await client.people.get(deputy)).delegations == [made]
    ended = await client.people.undelegate(made.id)
    assert ended.ended_at is not None
    assert await client.people.undelegate(made.id) == ended
    assert made.id not in [one.id async for one in client.people.delegations()]
    with pytest.raises(DelegationNotFound):
        await client.people.undelegate(ids.new_id(ids.DELEGATION))


async def a_session_is_exported_and_verified(client: Any, way: Way) -> None:
    started, wait = await reviewing(client)
    await client.waits.answer(wait.id, APPROVE)
    await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    session = client.sessions.open(started.id)
    data = b"".join([piece async for piece in session.export()])
    assert data == b"".join([piece async for piece in session.export()])
    lines = [line + b"\n" for line in data.splitlines()]
    signed = FileReader(lines).checked
    assert check_signature(signed, [one.key for one in (await client.keys.public()).items])
    found = read_session(lines)
    assert [(one.seq, one.kind, one.body) for one in found.entries] == [
        (one.seq, one.kind, one.body) for one in await all_of(session.transcript())
    ]
    assert found.header["schemas"]["payload"] is not None
    with pytest.raises(SessionNotFound):
        await anext(client.sessions.open(f"ses_{MISSING}").export())


async def a_file_of_a_wait_is_read(client: Any, way: Way) -> None:
    started = await client.sessions.start_and_wait("contract-files", None, timeout=BOUND_S)
    [listed] = await all_of(client.waits.list(session_id=started.id))
    [file] = (await client.waits.get(listed.id)).evidence.attachments
    assert (file.name, file.type, file.size) == ("orders.csv", "text/csv", len(FILE))
    data = b"".join([p async for p in client.waits.attachment(listed.id, attachment=file.id)])
    assert data == FILE
    _, other = await reviewing(client)
    for wait_id, found in ((other.id, file.id), (listed.id, ids.new_id(ids.ATTACHMENT))):
        with pytest.raises(AttachmentNotFound):
            await anext(client.waits.attachment(wait_id, attachment=found))


async def the_runtime_says_what_it_is(client: Any, way: Way) -> None:
    health = await client.health()
    assert health.ready, health.reasons
    tasks = {one.id: one for one in await all_of(client.tasks.list())}
    assert tasks["contract-review"].inputs == ["approval", "words"]
    assert tasks["contract-review"].payload_schema["required"] == ["title"]
    streams = await all_of(client.streams.list())
    assert {"approval", "progress", "words", "echoes"} <= {one.name for one in streams}
    assert await all_of(client.limits.list()) == []


async def history_is_asked_in_sql(client: Any, way: Way) -> None:
    started = await client.sessions.start("contract-echo", 5)
    statement = f"SELECT count(*) AS n FROM sessions WHERE session_id = '{started.id}'"
    if not way.has_sql:
        with pytest.raises(BadQuery):
            await client.query(statement)
        return
    result = await client.query(statement)
    assert list(result.rows()) == [{"n": 1}]
    with pytest.raises(BadQuery):
        await client.query("DELETE FROM sessions")


async def the_ledger_is_backed_up(client: Any, way: Way) -> None:
    if not way.has_sql:
        with pytest.raises(BadRequest):
            await anext(client.backup())
        return
    started = await client.sessions.start("contract-echo", 5)
    data = b"".join([piece async for piece in client.backup()])
    reader = BackupReader(line + b"\n" for line in data.splitlines())
    entries = [row for row in reader.rows() if row[0] == "e"]
    assert len(entries) == reader.header.through
    session = str(ids.to_uuid(started.id))
    assert [row[5] for row in entries if row[2] == session][:2] == [
        "session.created",
        "run.created",
    ]


async def many_runs_are_done_as_they_were_shown(client: Any, way: Way) -> None:
    tag = fresh("bulk")
    made = [await client.sessions.start("contract-fails", "why", tags=[tag]) for _ in range(2)]
    for one in made:
        await client.runs.wait(one.started_run.id, timeout=BOUND_S)
    plan = await client.bulk.preview("retry", filter=f"tag:{tag}", batch_id="monday")
    assert {one.run_id for one in plan.runs} == {one.started_run.id for one in made}
    assert plan.groups() == [(2, "contract-fails  ValueError: why")]
    for _ in range(2):
        found = await all_of(client.bulk.do(plan))
        assert [(one.progress, one.detail) for one in found] == [("accepted", "attempt 2")] * 2
    await client.runs.wait(made[0].started_run.id, timeout=BOUND_S)
    first = await client.bulk.preview("close", session_ids=[made[0].id])
    await client.runs.retry(made[0].started_run.id)
    await client.runs.wait(made[0].started_run.id, timeout=BOUND_S)
    [changed] = await all_of(client.bulk.do(first))
    assert (changed.progress, changed.error) == ("skipped", "session_changed")
    with pytest.raises(BadFilter):
        await client.bulk.preview("cancel", filter="is:fine")


async def old_sessions_are_pruned(client: Any, way: Way) -> None:
    found = await client.prune("3650d", dry_run=True)
    assert (found.sessions, found.entries, found.is_last) == (0, 0, True)
    with pytest.raises(BadRequest):
        await client.prune("23h")


async def every_refusal_is_its_own_error(client: Any, way: Way) -> None:
    started, wait = await reviewing(client, external_id=fresh("external"))
    session = client.sessions.open(started.id)
    approval = session.input("approval")
    with pytest.raises(TaskNotFound):
        await client.sessions.start("nope")
    with pytest.raises(ExternalIdConflict):
        await client.sessions.start(
            "contract-review", {"title": "B"}, external_id=started.session.external_id
        )
    with pytest.raises(SchemaMismatch) as bad:
        await approval.send({"decision": "maybe"})
    assert [one["path"] for one in bad.value.errors] == ["decision"]
    with pytest.raises(SchemaMismatch):
        await client.sessions.start("contract-review", {"title": ""})
    with pytest.raises(StreamNotFound):
        await anext(session.output("nope").follow())
    with pytest.raises(RunActive):
        await session.close()
    with pytest.raises(RunNotRetryable):
        await client.runs.retry(started.started_run.id)
    await approval.send(REJECT, correlation_id="x", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await approval.send(APPROVE, correlation_id="x", idempotency_key="k")
    await client.waits.answer(wait.id, APPROVE)
    with pytest.raises(WaitResolved) as resolved:
        await client.waits.answer(wait.id, REJECT)
    assert resolved.value.facts["data"] == APPROVE
    await client.runs.wait(started.started_run.id, timeout=BOUND_S)
    assert (await session.cancel()).status == "cancelled"
    with pytest.raises(SessionTerminal):
        await approval.send(APPROVE)


async def the_gateway_sends_notices(client: Any, way: Way) -> None:
    refused = BadRequest if way.principal == "ray_job" else NoticeTargetNotFound
    if way.principal == "ray_job":
        with pytest.raises(BadRequest):
            await client.notices.list()
    else:
        assert await client.notices.list() == []
    with pytest.raises(refused):
        await client.notices.test("nobody")
    with pytest.raises(refused):
        await client.notices.retry("nobody")


async def what_is_not_there_is_not_found(client: Any, way: Way) -> None:
    with pytest.raises(SessionNotFound):
        await client.sessions.open(f"ses_{MISSING}").get()
    with pytest.raises(SessionNotFound):
        await client.sessions.open(f"ses_{MISSING}").note("x")
    with pytest.raises(SessionNotFound):
        await client.sessions.find(fresh("external"))
    with pytest.raises(RunNotFound):
        await client.runs.get(f"run_{MISSING}")
    with pytest.raises(WaitNotFound):
        await client.waits.get(f"wait_{MISSING}")
    with pytest.raises(TokenNotFound):
        await client.tokens.get(f"tok_{MISSING}")
    with pytest.raises(KeyNotFound):
        await client.keys.revoke(f"key_{MISSING}")
    with pytest.raises(KeyNotFound):
        await client.auth.revoke(f"pat_{MISSING}")
    with pytest.raises(BadId):
        await client.sessions.open("ses_nonsense").get()


async def a_closed_client_says_so(client: Any, way: Way) -> None:
    """The last thing that is done with a client: each case has its own."""
    await client.close()
    with pytest.raises(UsageError):
        await client.health()


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


CASES: Sequence[Callable[[Any, Way], Awaitable[None]]] = (
    a_session_from_start_to_close,
    who_acted_is_recorded,
    sessions_are_found_by_what_they_are,
    runs_are_listed_and_waited_for,
    an_answer_is_tried,
    a_wrong_answer_is_amended,
    a_run_goes_back,
    a_session_is_forked,
    the_inbox_is_read_and_answered,
    a_wait_is_claimed_assigned_and_released,
    only_people_who_are_signed_in_vote,
    links_to_answer_by_are_made_listed_and_revoked,
    sends_say_what_they_did,
    what_comes_after_a_deadline_is_late,
    a_repeated_operation_gives_its_first_receipt,
    every_operation_can_be_repeated,
    following_meets_every_record_once,
    chunks_come_beside_the_records,
    following_an_output_ends_with_its_session,
    entries_are_followed,
    tokens_are_completed_once,
    public_tokens_open_one_thing,
    keys_are_made_and_revoked,
    the_runtime_says_who_calls,
    people_are_disabled_enabled_and_unbound,
    keys_that_sign_are_registered_and_revoked,
    people_have_deputies,
    *(case for one in of_features("contract") for case in one.CASES),
    the_gateway_sends_notices,
    a_session_is_exported_and_verified,
    a_file_of_a_wait_is_read,
    the_runtime_says_what_it_is,
    history_is_asked_in_sql,
    the_ledger_is_backed_up,
    many_runs_are_done_as_they_were_shown,
    old_sessions_are_pruned,
    every_refusal_is_its_own_error,
    what_is_not_there_is_not_found,
    a_closed_client_says_so,
)


def on_faces() -> list[Any]:
    """Face and case: all cases awaited, and the first blocking, which is the same client made of the awaited one.

    The others are blocking in the long run, and in each over HTTP and over Ray (`tests/stack/test_contract.py`).
    """
    return [
        pytest.param(
            face,
            case,
            id=f"{face}-{case.__name__}",
            marks=[pytest.mark.long] * (face == "blocking" and case is not CASES[0]),
        )
        for face in ("async", "blocking")
        for case in CASES
    ]
