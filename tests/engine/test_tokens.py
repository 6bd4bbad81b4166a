"""Tokens in tasks: made once, completed once, heard by every wait (S-13, S-14, S-40…S-43)."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from helmr import WaitCancelled, WaitTimeout, auth, step, streams, task, tokens
from helmr.errors import SchemaMismatch, TokenCancelled, TokenCompleted, TokenExpired
from helmr.testing import RunFailed
from runtime.core.entries import EntryKind

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


def _completion(h, url):
    from runtime.core.tokens import CompleteToken

    token_id, principal = h._token_of(url)
    token = h.ledger.book.tokens.get(token_id)
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
        token_id = next(iter(h.ledger.book.tokens)).id
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
        assert h.ledger.book.keys.public_tokens[public_token_id].token.max_uses == 2
