"""Escalations by the harness's clock: live, parked, killed and gone back on (S-82)."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

import pytest

from helmr import PendingWait, escalation, streams, task, tokens
from helmr.errors import BadEscalation, SchemaMismatch, WaitResolved
from helmr.models import AnswerMode, TokenStatus, WaitStatus
from helmr.testing import Harness, HarnessSession

approval = streams.input("approval", schema=bool)


async def _or_none(wait: PendingWait[Any]) -> Any:
    result = await wait
    return result.value if result.ok else None


@task
async def asks(payload: Any) -> Any:
    """Twice, so that a rewind has something behind it."""
    first = await approval.wait(
        subject="publish?",
        assignee="ada",
        escalation=[
            escalation.remind("1h"),
            escalation.assign("2h", to="lead"),
            escalation.remind("30m", from_="assigned"),
            escalation.default("4h", False),
        ],
        timeout="1d",
    ).unwrap()
    return [first, await _or_none(approval.wait(subject="and now?", timeout="1h"))]


@task
async def signs(payload: Any) -> Any:
    token = await tokens.create(schema=str, escalation=[escalation.default("1h", "unsigned")])
    return [token.id, await token.wait(subject="sign?").unwrap()]


@task
async def signs_otherwise(payload: Any) -> Any:
    token = await tokens.create(escalation=[escalation.default("1h", "unsigned")])
    return await _or_none(token.wait(schema=int, timeout="2h"))


@task
async def reminds(payload: Any) -> Any:
    token = await tokens.create(
        timeout="1h", escalation=[escalation.remind("30m"), escalation.remind("2h")]
    )
    return await _or_none(token.wait())


@task
async def misfits(payload: Any) -> Any:
    with contextlib.suppress(SchemaMismatch):
        await tokens.create(schema=int, escalation=[escalation.default("1h", "one")])
    await tokens.create(timeout="1h", escalation=[escalation.default("1h", 1)])


async def escalated(session: HarnessSession) -> list[tuple[str, Any]]:
    """What of escalations the transcript says: kind, and the escalation step or how the wait was answered."""
    return [
        (entry.kind.value, entry.body.get("escalation_step", entry.body.get("mode")))
        for entry in await session.transcript()
        if entry.kind in ("wait.reminded", "wait.assigned", "wait.fulfilled", "wait.timed_out")
    ]


async def begun(h: Harness, name: str, *, parked: bool) -> HarnessSession:
    session = await h.start(name)
    await h.settle()
    if parked:
        await session.park()
    return session


@pytest.mark.parametrize("parked", [False, True], ids=["live", "parked"])
async def test_escalation_steps_fire_each_at_its_time_and_are_seen(
    harness: Any, parked: bool
) -> None:
    async with harness(asks) as h:
        session = await begun(h, "asks", parked=parked)
        waits = h.async_client().waits
        wait_id = (await session.wait())["wait_id"]

        async def next_is() -> tuple[Any, ...]:
            one = await waits.get(wait_id)
            assert [w async for w in waits.list()] == [one.model_copy(update=_NOT_LISTED)]
            hours = (
                _hours(one.opened_at, one.next_escalation_at),
                _hours(one.opened_at, one.default_at),
            )
            return (one.assignee, one.next_escalation, *hours)

        assert await next_is() == ("ada", 2, 0.5, 4)
        await h.advance("59m")
        assert await escalated(session) == [("wait.reminded", 2)]
        await h.advance("1m")
        assert await next_is() == ("ada", 1, 2, 4)
        await h.advance("1h")
        assert await next_is() == ("lead", 3, 4, 4)
        await h.advance("2h")
        assert await escalated(session) == [
            ("wait.reminded", 2),
            ("wait.reminded", 0),
            ("wait.assigned", 1),
            ("wait.fulfilled", "default"),
        ]
        answered = await waits.get(wait_id)
        assert (answered.status, answered.mode) == (WaitStatus.FULFILLED, AnswerMode.DEFAULT)
        assert (answered.next_escalation, answered.default_at) == (None, None)
        by = answered.resolved_by
        assert by is not None
        assert (by.type, by.name) == ("runtime", "escalation")
        with pytest.raises(WaitResolved):
            await waits.answer(wait_id, True)
        await h.advance("1h")
        assert await session.result() == [False, None]


@pytest.mark.parametrize("parked", [False, True], ids=["live", "parked"])
async def test_escalation_steps_fire_once_each_over_kills_and_parks(
    harness: Any, parked: bool
) -> None:
    async with harness(asks) as h:
        session = await begun(h, "asks", parked=parked)
        for _ in range(16):
            await h.advance("15m")
            await session.kill()
            if parked:
                await h.settle()
        assert [e for e in await escalated(session) if e[0] != "wait.timed_out"] == [
            ("wait.reminded", 2),
            ("wait.reminded", 0),
            ("wait.assigned", 1),
            ("wait.fulfilled", "default"),
        ]
        await session.answer(True)
        assert await session.result() == [False, True]


@pytest.mark.parametrize("parked", [False, True], ids=["live", "parked"])
async def test_an_answer_before_the_default_stands_and_ends_the_escalation(
    harness: Any, parked: bool
) -> None:
    async with harness(asks) as h:
        session = await begun(h, "asks", parked=parked)
        await h.advance("1h")
        await session.answer(True)
        await h.advance("5h")
        assert await session.result() == [True, None]
        assert [kind for kind, _ in await escalated(session)] == [
            "wait.reminded",
            "wait.reminded",
            "wait.fulfilled",
            "wait.timed_out",
        ]


@pytest.mark.parametrize("parked", [False, True], ids=["live", "parked"])
async def test_a_token_s_escalation_answers_its_wait_and_leaves_it_pending(
    harness: Any, parked: bool
) -> None:
    async with harness(signs) as h:
        session = await begun(h, "signs", parked=parked)
        opened = await session.wait()
        assert [escalation_step["do"] for escalation_step in opened["escalation"]] == ["default"]
        await h.advance("1h")
        token_id, signed = await session.result()
        assert signed == "unsigned"
        assert (await h.async_client().tokens.get(token_id)).status is TokenStatus.PENDING
        await h.complete_token(token_id, "ada")


@pytest.mark.parametrize("parked", [False, True], ids=["live", "parked"])
async def test_a_token_completed_before_the_default_wins(harness: Any, parked: bool) -> None:
    async with harness(signs) as h:
        session = await begun(h, "signs", parked=parked)
        token_id = (await session.wait())["token_id"]
        await h.advance("59m")
        await h.complete_token(token_id, "ada")
        await h.advance("5m")
        assert (await session.result())[1] == "ada"


@pytest.mark.parametrize("parked", [False, True], ids=["live", "parked"])
async def test_an_escalation_step_before_a_token_expires_fires_and_one_behind_does_not(
    harness: Any, parked: bool
) -> None:
    async with harness(reminds) as h:
        session = await begun(h, "reminds", parked=parked)
        await h.advance("3h")
        assert await session.result() is None
        assert await escalated(session) == [("wait.reminded", 0), ("wait.timed_out", None)]


async def test_a_wait_with_a_schema_of_its_own_has_no_escalation_of_its_token(harness: Any) -> None:
    async with harness(signs_otherwise) as h:
        session = await h.start("signs_otherwise")
        assert "escalation" not in await session.wait()
        await h.advance("3h")
        assert await session.result() is None


async def test_a_token_s_default_fits_its_schema_and_comes_before_it_expires(harness: Any) -> None:
    async with harness(misfits) as h:
        session = await h.start("misfits")
        assert (await session.error())["code"] == BadEscalation.code


async def test_a_rewind_ends_an_escalation_and_the_next_wait_begins_its_own(harness: Any) -> None:
    async with harness(asks) as h:
        session = await h.start("asks")
        await h.advance("3h")
        first = (await session.wait())["wait_id"]
        await session.rewind(wait_id=first)
        again = await session.wait()
        assert again["wait_id"] != first
        assert again["next_escalation"] == 2
        await h.advance("2h")
        assert [
            escalation_step
            for kind, escalation_step in await escalated(session)
            if kind == "wait.reminded"
        ] == [
            2,
            0,
            2,
            0,
        ]


async def test_a_claim_stops_no_escalation_step(harness: Any) -> None:
    async with harness(asks) as h:
        session = await begun(h, "asks", parked=True)
        claims = h.async_client(on_behalf_of="mia").waits
        await claims.claim((await session.wait())["wait_id"], expires_in="5h")
        await h.advance("4h")
        kinds = [e.kind.value for e in await session.transcript()]
        assert kinds.index("wait.claimed") < kinds.index("wait.reminded")
        assert ("wait.fulfilled", "default") in await escalated(session)


_NOT_LISTED = {"json_schema": None, "body": None}


def _hours(since: datetime, until: datetime | None) -> float | None:
    return None if until is None else round((until - since).total_seconds() / 3600, 6)
