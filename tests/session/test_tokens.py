"""Tokens in tasks: made once, completed once, heard by every wait (S-13, S-14, S-40…S-43)."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from helmr import WaitCancelled, WaitTimeout, auth, step, streams, task, tokens
from helmr.errors import (
    BadRequest,
    SchemaMismatch,
    TokenCancelled,
    TokenCompleted,
    TokenExpired,
    Unavailable,
)
from helmr.testing import TESTER, RunFailed
from helmr.testing.session import token_of
from helmr_runtime.core.entries import EntryKind, iso
from helmr_runtime.core.tokens import CompleteToken

sent: list[str] = []


class Decision(BaseModel):
    decision: Literal["approve", "reject"]


answers = streams.input("answers", schema=str)


@step
async def send_mail(link: str) -> None:
    sent.append(link)


@task(id="by-link")
async def by_link(payload: dict[str, Any]) -> Any:
    token = await tokens.create(timeout=payload.get("timeout", "7d"), tags=["release"])
    if payload.get("pause"):
        await answers.wait()
    await send_mail(token.callback_url)
    await send_mail(token.public_access_token)
    result = await token.wait(schema=Decision, timeout=payload.get("wait_timeout"))
    if result.ok:
        assert isinstance(result.value, Decision)
        return result.value.decision
    if isinstance(result.error, WaitTimeout):
        return "timed out"
    assert isinstance(result.error, WaitCancelled)
    return result.error.facts["reason"]


@task(id="by-id")
async def by_id(token_id: str) -> Any:
    result = await tokens.wait(token_id)
    return result.value if result.ok else type(result.error).__name__


@task(id="handles")
async def handles(token_id: str) -> Any:
    before = await tokens.get(token_id)
    first = await tokens.complete(token_id, {"n": 1})
    again = await tokens.complete(token_id, {"n": 1})
    found = await tokens.list(tag="t", status="completed")
    return [before.status, first.outcome, again.outcome, [one.id for one in found]]


@task(id="shares", streams=[answers])
async def shares(payload: None) -> str:
    public = await auth.create_public_token(
        scope=auth.send_to(answers, correlation_id="a"),
        max_uses=2,
        allowed_origins=["https://a.example"],
    )
    await send_mail(public.public_access_token)
    return public.id


@pytest.fixture(autouse=True)
def clean_mail():
    sent.clear()


async def test_a_completion_by_link_resumes_the_run_with_the_decoded_value(harness):
    async with harness(by_link) as h:
        session = await h.start("by-link", {})
        url = sent[0]
        assert "/v1/callbacks/hlmr_cb_" in url
        receipt = await h.complete_token(url, {"decision": "approve"})
        assert receipt["outcome"] == "completed"
        assert await session.result() == "approve"
        fulfilled = [e for e in await session.transcript() if e.kind is EntryKind.WAIT_FULFILLED]
        assert fulfilled[-1].principal.type == "callback"


async def test_a_token_made_before_a_pause_has_the_same_secrets_after_it(harness):
    async with harness(by_link) as h:
        session = await h.start("by-link", {"pause": True})
        await session.park()
        await session.send("answers", "go")
        await session.park()
        await h.complete_token(sent[0], {"decision": "reject"})
        assert await session.result() == "reject"
        assert len(sent) == 2
        assert sent[1].startswith("hlmr_pat_")
        kinds = [e.kind for e in await session.transcript()]
        assert kinds.count(EntryKind.TOKEN_CREATED) == 1


async def test_no_secret_stands_in_the_transcript(harness):
    async with harness(by_link, shares) as h:
        session = await h.start("by-link", {})
        other = await h.start("shares")
        await h.complete_token(sent[0], {"decision": "reject"})
        text = "".join(
            e.body_json for e in [*await session.transcript(), *await other.transcript()]
        )
        assert "hlmr_" not in text


async def test_the_first_completion_wins_and_others_are_told(harness):
    async with harness(by_link) as h:
        await h.start("by-link", {})
        await h.complete_token(sent[0], {"decision": "approve"})
        again = await h.complete_token(sent[0], {"decision": "approve"})
        assert again["outcome"] == "already_completed"
        with pytest.raises(TokenCompleted) as caught:
            await h.complete_token(sent[0], {"decision": "reject"})
        assert caught.value.facts["completed_by"]["type"] == "callback"


async def test_a_pinned_schema_refuses_what_does_not_fit(harness):
    async with harness(by_link) as h:
        session = await h.start("by-link", {})
        with pytest.raises(SchemaMismatch):
            await h.complete_token(sent[0], {"decision": "maybe"})
        await h.complete_token(sent[0], {"decision": "approve"})
        assert await session.result() == "approve"


async def test_an_expired_token_times_its_waits_out(harness):
    async with harness(by_link) as h:
        session = await h.start("by-link", {"timeout": "1h"})
        await session.park()
        await h.advance("1h")
        assert await session.result() == "timed out"
        with pytest.raises(TokenExpired):
            await h.complete_token(sent[0], {"decision": "approve"})


async def test_a_cancelled_token_cancels_its_waits(harness):
    async with harness(by_link) as h:
        session = await h.start("by-link", {})
        await h.cancel_token(sent[0])
        assert await session.result() == "token_cancelled"
        with pytest.raises(TokenCancelled):
            await h.complete_token(sent[0], {"decision": "approve"})


async def test_one_completion_fulfils_every_wait_also_one_that_opens_later(harness):
    async with harness(by_id) as h:
        token_id = await h.create_token()
        waiting = [await h.start("by-id", token_id) for _ in range(3)]
        await waiting[0].park()
        await h.complete_token(token_id, {"n": 1})
        late = await h.start("by-id", token_id)
        for session in (*waiting, late):
            assert await session.result() == {"n": 1}


async def test_a_completion_before_the_waits_deadline_wins_although_nobody_was_alive(harness):
    async with harness(by_link) as h:
        session = await h.start("by-link", {"wait_timeout": "1h"})
        await session.park()
        h.clock.move_to(h.clock.now())
        await h.ledger.fact(_completion(h, sent[0]))
        h.ledger = h.ledger.restarted()
        await h.advance("2h")
        assert await session.result() == "approve"


async def test_a_deadline_wakes_a_run_whose_host_has_no_code_of_it(harness):
    """A command had the session adopted, and left it waiting on its token."""
    async with harness(by_link) as h:
        session = await h.start("by-link", {"wait_timeout": "1h"})
        await session.park()
        await session.send("answers", "for later")
        await h.advance("2h")
        async with asyncio.timeout(5):
            assert await session.result() == "timed out"


def _completion(h, url):
    token_id, principal = token_of(h.ledger, url)
    token = h.ledger.index.tokens.get(token_id)
    return CompleteToken(
        principal=principal,
        token_id=token_id,
        data={"decision": "approve"},
        checked=token.schema_offsets,
    )


async def test_a_wait_on_no_token_is_cancelled(harness):
    async with harness(by_id) as h:
        session = await h.start("by-id", "tok_01h2xcejqtf2nbrexx3vqjhp41")
        assert await session.result() == "WaitCancelled"


async def test_a_cancelled_session_cancels_its_pending_tokens(harness):
    async with harness(by_link, by_id) as h:
        session = await h.start("by-link", {})
        token_id = next(iter(h.ledger.index.tokens)).id
        other = await h.start("by-id", token_id)
        await session.cancel()
        await h.settle()
        assert (await h.token(token_id)).status == "cancelled"
        assert await other.result() == "WaitCancelled"


async def test_tasks_complete_and_list_tokens_once_each(harness):
    async with harness(handles) as h:
        token_id = await h.create_token(tags=("t",))
        session = await h.start("handles", token_id)
        assert await session.result() == ["pending", "completed", "already_completed", [token_id]]
        assert (await h.token(token_id)).ended_by.type == "task"


async def test_completing_a_completed_token_with_other_data_fails_the_call(harness):
    async with harness(handles) as h:
        token_id = await h.create_token()
        await h.complete_token(token_id, "other")
        session = await h.start("handles", token_id)
        with pytest.raises(RunFailed):
            await session.result()


async def test_a_public_token_of_a_task_with_an_empty_correlation_id_is_refused(harness):
    @task(id="shares-with-all", streams=[answers])
    async def shares_with_all(empty: str) -> str:
        scope = auth.send_to(answers, correlation_id=empty)
        with pytest.raises(BadRequest, match="any question"):
            await auth.create_public_token(scope=scope)
        return "refused"

    async with harness(shares_with_all) as h:
        assert await (await h.start("shares-with-all", " ")).result() == "refused"
        assert not list(h.ledger.index.keys.public_tokens)


async def test_a_public_token_of_a_task_stands_in_its_sessions_state(harness):
    async with harness(shares) as h:
        session = await h.start("shares")
        public_token_id = await session.result()
        known = (await session.state()).public_tokens[public_token_id]
        assert known["scope"] == {
            "type": "session.input.send",
            "session_id": session.id,
            "stream": "answers",
            "correlation_id": "a",
        }
        assert h.ledger.index.keys.public_tokens[public_token_id].token.max_uses == 2


@task(id="asks")
async def asks(payload: dict[str, Any]) -> Any:
    """Waits on a token of its own, or on that of the payload."""
    token: tokens.Token | str | None = payload.get("token_id")
    if token is None:
        token = await tokens.create(timeout="2h", subject="Let it go out?", body="# Look")
    result = await tokens.wait(token, **payload.get("wait", {}))
    return result.value if result.ok else type(result.error).__name__


@pytest.mark.parametrize("made_by", ["task", "client"])
async def test_a_wait_on_a_token_shows_the_tokens_question_and_its_expiry(harness, made_by):
    async with harness(asks) as h:
        payload = {}
        if made_by == "client":
            payload["token_id"] = await h.create_token(
                timeout="2h", subject="Let it go out?", body="# Look"
            )
        session = await h.start("asks", payload)
        shown = await session.wait()
        token = await h.token(shown["token_id"])
        assert (shown["subject"], shown["body"]) == ("Let it go out?", "# Look")
        assert shown["deadline_at"] == iso(token.expires_at)
        assert "timeout_s" not in shown


async def test_what_the_wait_says_itself_goes_before_what_its_token_says(harness):
    async with harness(asks) as h:
        wait = {"subject": "Really?", "timeout": "30m"}
        session = await h.start("asks", {"wait": wait})
        shown = await session.wait()
        assert (shown["subject"], shown["body"]) == ("Really?", "# Look")
        assert "deadline_of" not in shown
        await h.advance("30m")
        assert await session.result() == "WaitTimeout"
        assert (await h.token(shown["token_id"])).status == "pending"


async def test_a_wait_longer_than_its_token_ends_with_the_token(harness):
    async with harness(asks) as h:
        session = await h.start("asks", {"wait": {"timeout": "1d"}})
        shown = await session.wait()
        token = await h.token(shown["token_id"])
        assert (shown["deadline_at"], shown["timeout_s"]) == (iso(token.expires_at), 86_400)
        await session.park()
        await h.advance("2h")
        assert await session.result() == "WaitTimeout"
        [ended] = [e for e in await session.transcript() if e.kind is EntryKind.WAIT_TIMED_OUT]
        assert ended.body["token_id"] == token.id, "the token's end, no timer of the wait"


@pytest.mark.parametrize("is_parked", [False, True])
async def test_a_tokens_expiry_that_a_wait_shows_is_no_timer_of_the_wait(harness, is_parked):
    """A completion before the expiry wins however late it is heard of; only the token's end ends the wait."""
    async with harness(asks) as h:
        session = await h.start("asks", {})
        state = await session.state()
        assert state.wait.deadline_at is None
        if is_parked:
            await session.park()
            h.ledger = h.ledger.restarted()
        head = h.ledger.index.heads[session.id]
        assert head.wait.deadline_at is None
        token_id = head.wait.token_id
        await h.advance("119m")
        assert (await h.token(token_id)).status == "pending"
        assert (await h.complete_token(token_id, "yes"))["outcome"] == "completed"
        await h.advance("1h")
        assert await session.result() == "yes"


async def test_a_token_that_has_ended_shows_its_question_in_the_wait_that_it_ends(harness):
    async with harness(asks) as h:
        token_id = await h.create_token(subject="Let it go out?")
        await h.complete_token(token_id, "yes")
        session = await h.start("asks", {"token_id": token_id})
        assert await session.result() == "yes"
        [opened] = [e for e in await session.transcript() if e.kind is EntryKind.WAIT_OPENED]
        assert opened.body["subject"] == "Let it go out?"


async def test_a_ledger_that_is_away_for_a_moment_costs_no_question(harness, monkeypatch):
    async with harness(asks) as h:
        token_id = await h.create_token(subject="Let it go out?")
        get_token, failures = h.ledger.get_token, [1, 2, 3]

        async def at_last(asked: str) -> Any:
            if failures:
                failures.pop()
                raise Unavailable("the ledger starts")
            return await get_token(asked)

        monkeypatch.setattr(h.ledger, "get_token", at_last)
        session = await h.start("asks", {"token_id": token_id})
        assert (await session.wait())["subject"] == "Let it go out?"
        assert not failures


class Gate:
    """Holds the first commit that fits back until it is opened."""

    def __init__(self, h, monkeypatch, fits):
        self.asked, self._open = asyncio.Event(), asyncio.Event()
        commit, gate = h.ledger.commit, self

        async def held_back(flush):
            if not gate._open.is_set() and fits(flush):
                gate.asked.set()
                await gate._open.wait()
            return await commit(flush)

        monkeypatch.setattr(h.ledger, "commit", held_back)

    def open(self):
        self._open.set()


async def test_a_token_that_is_completed_while_its_waits_session_parks_resumes_it(
    harness, monkeypatch
):
    async with harness(by_id) as h:
        token_id = await h.create_token()
        session = await h.start("by-id", token_id)
        gate = Gate(h, monkeypatch, lambda flush: flush.release)
        parking = asyncio.ensure_future(session.park())
        await gate.asked.wait()
        await h.ledger.fact(
            CompleteToken(principal=TESTER, token_id=token_id, data={"n": 1}, checked=())
        )
        gate.open()
        await parking
        assert await session.result() == {"n": 1}


async def test_a_wait_whose_opening_was_lost_is_opened_by_the_replay_and_parks(
    harness, monkeypatch
):
    async with harness(by_link) as h:

        def opens(flush):
            return any(entry.kind is EntryKind.WAIT_OPENED for entry in flush.entries)

        gate = Gate(h, monkeypatch, opens)
        starting = asyncio.ensure_future(h.start("by-link", {}))
        await gate.asked.wait()
        [session_id] = h._hosts
        await h.kill(session_id)
        gate.open()
        session = await starting
        await session.park()
        await h.complete_token(sent[0], {"decision": "approve"})
        assert await session.result() == "approve"
        kinds = [e.kind for e in await session.transcript()]
        assert kinds.count(EntryKind.WAIT_OPENED) == 1


async def test_a_token_that_has_ended_before_its_wait_opens_leaves_nothing_held(harness):
    async with harness(by_id) as h:
        done, expired = await h.create_token(), await h.create_token(timeout="1h")
        await h.complete_token(done, 1)
        await h.advance("1h")
        sessions = [await h.start("by-id", token_id) for token_id in (done, expired)]
        assert [await session.result() for session in sessions] == [1, "WaitTimeout"]
        for session in sessions:
            await session.park()
        assert not h._hosts
