"""Two people, one wait: claims by the harness's clients, hot and parked, and what transcripts say of them (S-81)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr import streams, task, timers, tokens
from helmr.client import AsyncClient
from helmr.errors import BadDuration, BadRequest, WaitClaimed, WaitNotFound, WaitResolved
from helmr.models import WaitStatus
from helmr.testing import Harness, HarnessSession

answers = streams.input("answers", schema=str)


@task
async def asks(payload: Any) -> list[str]:
    return [
        await answers.wait(subject="first?", assignee="ada").unwrap(),
        await answers.wait(subject="second?", timeout="1d").unwrap(),
    ]


@task
async def signs(payload: Any) -> Any:
    token = await tokens.create(timeout="2h", schema=str)
    return await token.wait(subject="sign?").unwrap()


@task
async def sleeps(payload: Any) -> None:
    await timers.sleep("1h")


class Claims:
    """A session that waits, and two people."""

    def __init__(self, h: Harness, session: HarnessSession) -> None:
        self.h, self.session = h, session
        self.mia: AsyncClient = h.async_client(on_behalf_of="mia")
        self.tom: AsyncClient = h.async_client(on_behalf_of="tom")

    @classmethod
    async def of(cls, h: Harness, name: str, *, parked: bool = False) -> Claims:
        claims = cls(h, await h.start(name))
        await h.settle()
        if parked:
            await claims.session.park()
        return claims

    async def wait_id(self) -> str:
        return str((await self.session.wait())["wait_id"])

    async def said(self) -> list[tuple[str, ...]]:
        """Of claims, and which answers stand between: kind, reason or data, whose."""
        found: list[tuple[str, ...]] = []
        for entry in await self.session.transcript():
            who = str(entry.principal.on_behalf_of)
            if entry.kind.value.startswith(("wait.claim", "wait.assign")):
                found.append((entry.kind.value, str(entry.body.get("reason", "")), who))
            elif entry.kind == "input.accepted":
                found.append((entry.kind.value, str(entry.body["data"]), who))
        return found


@pytest.mark.parametrize("parked", [False, True], ids=["hot", "parked"])
async def test_who_claims_answers_and_the_other_is_told_who_is_there(harness, parked) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks", parked=parked)
        wait_id = await claims.wait_id()
        receipt = await claims.mia.waits.claim(wait_id)
        assert receipt.claim is not None
        assert (receipt.claim.until - receipt.claim.since).total_seconds() == 900
        for seen in (
            await claims.tom.waits.get(wait_id),
            (await claims.tom.waits.page()).items[0],
            (await claims.tom.sessions.open(claims.session.id).get()).wait,
            (await claims.tom.sessions.page()).items[0].wait,
        ):
            assert seen is not None
            assert seen.claim == receipt.claim
        with pytest.raises(WaitClaimed) as refused:
            await claims.tom.waits.answer(wait_id, "tom's")
        assert refused.value.facts["claim"]["on_behalf_of"] == "mia"
        assert await claims.said() == []
        await claims.mia.waits.answer(wait_id, "mia's")
        assert await claims.said() == [
            ("wait.claimed", "", "mia"),
            ("input.accepted", "mia's", "mia"),
        ]
        assert (await claims.tom.waits.get(wait_id)).claim is None


@pytest.mark.parametrize("parked", [False, True], ids=["hot", "parked"])
async def test_an_override_answers_and_says_whom_it_passed_over(harness, parked) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks", parked=parked)
        wait_id = await claims.wait_id()
        await claims.mia.waits.claim(wait_id)
        await claims.tom.waits.answer(wait_id, "tom's", override_claim=True)
        assert await claims.said() == [
            ("wait.claimed", "", "mia"),
            ("wait.claim_ended", "overridden", "tom"),
            ("input.accepted", "tom's", "tom"),
        ]
        with pytest.raises(WaitResolved) as lost:
            await claims.mia.waits.answer(wait_id, "mia's")
        assert lost.value.facts["data"] == "tom's"


@pytest.mark.parametrize("parked", [False, True], ids=["hot", "parked"])
async def test_a_claim_that_lapsed_is_in_nobodys_way(harness, parked) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks", parked=parked)
        wait_id = await claims.wait_id()
        await claims.mia.waits.claim(wait_id, expires_in="5m")
        await h.advance("4m")
        await claims.mia.waits.claim(wait_id, expires_in="5m")
        await h.advance("2m")
        with pytest.raises(WaitClaimed):
            await claims.tom.waits.answer(wait_id, "too soon")
        await h.advance("3m")
        assert (await claims.tom.waits.get(wait_id)).claim is None
        await claims.tom.waits.answer(wait_id, "tom's")
        assert await claims.said() == [
            ("wait.claimed", "", "mia"),
            ("wait.claim_ended", "lapsed", "None"),
            ("input.accepted", "tom's", "tom"),
        ]


async def test_a_release_lets_the_next_one_claim(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        wait_id = await claims.wait_id()
        assert (await claims.tom.waits.release(wait_id)).claim is None
        await claims.mia.waits.claim(wait_id)
        with pytest.raises(WaitClaimed):
            await claims.tom.waits.release(wait_id)
        assert (await claims.mia.waits.release(wait_id)).claim is None
        await claims.tom.waits.claim(wait_id)
        await claims.tom.waits.answer(wait_id, "tom's")
        assert await claims.said() == [
            ("wait.claimed", "", "mia"),
            ("wait.claim_ended", "released", "mia"),
            ("wait.claimed", "", "tom"),
            ("input.accepted", "tom's", "tom"),
        ]


async def test_sends_links_and_deadlines_look_at_no_claim(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        await claims.mia.waits.claim(await claims.wait_id())
        await claims.session.send("answers", "sent")
        wait_id = await claims.wait_id()
        assert (await claims.tom.waits.get(wait_id)).claim is None
        await claims.mia.waits.claim(wait_id, expires_in="23h")
        await claims.session.park()
        await h.advance("1d")
        assert (await claims.tom.waits.get(wait_id)).status is WaitStatus.TIMED_OUT
        assert await claims.said() == [
            ("wait.claimed", "", "mia"),
            ("input.accepted", "sent", "None"),
            ("wait.claimed", "", "mia"),
            ("wait.claim_ended", "lapsed", "None"),
        ]


async def test_a_claim_of_the_next_wait_counts_also_if_no_time_has_passed(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        await claims.mia.waits.claim(await claims.wait_id())
        await claims.session.send("answers", "sent")
        second = await claims.wait_id()
        await claims.mia.waits.claim(second)
        with pytest.raises(WaitClaimed):
            await claims.tom.waits.answer(second, "tom's")
        await claims.mia.waits.answer(second, "mia's")
        assert await claims.said() == [
            ("wait.claimed", "", "mia"),
            ("input.accepted", "sent", "None"),
            ("wait.claimed", "", "mia"),
            ("input.accepted", "mia's", "mia"),
        ]


async def test_a_token_wait_is_answered_past_a_claim_only_by_an_override(harness) -> None:
    async with harness(signs) as h:
        claims = await Claims.of(h, "signs")
        wait_id = await claims.wait_id()
        await claims.mia.waits.claim(wait_id)
        with pytest.raises(WaitClaimed):
            await claims.tom.waits.answer(wait_id, "tom's")
        await claims.tom.waits.answer(wait_id, "tom's", override_claim=True)
        assert await claims.session.result() == "tom's"
        [completed] = [e for e in h.entries() if e.kind == "token.completed"]
        assert completed.body["overrides"]["claimed_by"]["on_behalf_of"] == "mia"


async def test_a_completion_looks_at_no_claim(harness) -> None:
    async with harness(signs) as h:
        claims = await Claims.of(h, "signs")
        wait_id = await claims.wait_id()
        await claims.mia.waits.claim(wait_id)
        token_id = (await claims.mia.waits.get(wait_id)).token_id
        assert token_id is not None
        await claims.tom.tokens.complete(token_id, "tom's")
        assert await claims.session.result() == "tom's"


async def test_a_claim_does_not_survive_its_wait_nor_go_over_to_a_fork(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        first = await claims.wait_id()
        await claims.mia.waits.claim(first)
        await claims.mia.waits.answer(first, "one")
        second = await claims.wait_id()
        await claims.mia.waits.claim(second)
        await claims.session.rewind(wait_id=first, keep_answers=False)
        again = await claims.wait_id()
        assert again not in (first, second)
        assert (await claims.tom.waits.get(again)).claim is None
        await claims.tom.waits.answer(again, "tom's")
        opened = [e for e in await claims.session.transcript() if e.kind == "wait.opened"]
        handle = claims.tom.sessions.open(claims.session.id)
        made = await handle.fork(to_op=opened[-1].op, reason="to compare")
        copies = [e.kind async for e in claims.tom.sessions.open(made.id).transcript()]
        assert "wait.fulfilled" in copies
        assert not [kind for kind in copies if kind.startswith("wait.claim")]


async def test_a_note_says_its_own_seq_behind_what_it_brings_along(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        await claims.mia.waits.claim(await claims.wait_id())
        note = await claims.mia.sessions.open(claims.session.id).note("is at it")
        by_seq = {e.seq: e.kind.value for e in await claims.session.transcript()}
        assert by_seq[note.seq] == "note.added"
        assert by_seq[note.seq - 1] == "wait.claimed"


async def test_a_holder_that_dies_takes_no_claim_along(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        wait_id = await claims.wait_id()
        await claims.mia.waits.claim(wait_id)
        await claims.session.kill()
        with pytest.raises(WaitClaimed):
            await claims.tom.waits.answer(wait_id, "tom's")
        await claims.mia.waits.answer(wait_id, "mia's")
        assert [kind for kind, *_ in await claims.said()] == ["wait.claimed", "input.accepted"]


async def test_an_assignment_is_an_entry_and_shows_at_once(harness) -> None:
    async with harness(asks) as h:
        claims = await Claims.of(h, "asks")
        wait_id = await claims.wait_id()
        assert (await claims.mia.waits.assign(wait_id, assignee="tom")).assignee == "tom"
        assert (await claims.mia.waits.get(wait_id)).assignee == "tom"
        assert [w.id async for w in claims.mia.waits.list(assignee="tom")] == [wait_id]
        await claims.mia.waits.assign(wait_id, assignee="tom")
        await claims.tom.waits.assign(wait_id, assignee=None)
        assert (await claims.mia.waits.get(wait_id)).assignee is None
        made = [e for e in await claims.session.transcript() if e.kind == "wait.assigned"]
        assert [(e.body.get("from_assignee"), e.body.get("assignee")) for e in made] == [
            ("ada", "tom"),
            ("tom", None),
        ]
        await claims.mia.waits.answer(wait_id, "one")
        with pytest.raises(WaitResolved):
            await claims.mia.waits.assign(wait_id, assignee="ada")


async def test_what_can_not_be_claimed_or_assigned_says_why(harness) -> None:
    async with harness(asks, sleeps) as h:
        claims = await Claims.of(h, "asks")
        wait_id = await claims.wait_id()
        for wrong in ("0s", "25h", "soon"):
            with pytest.raises(BadDuration):
                await claims.mia.waits.claim(wait_id, expires_in=wrong)
        with pytest.raises(BadRequest):
            await claims.mia.waits.assign(wait_id, assignee="two\nlines")
        with pytest.raises(WaitNotFound):
            await claims.mia.waits.claim("wait_01h455vb4pex5vsknk084sn02q")
        await claims.mia.waits.answer(wait_id, "one")
        with pytest.raises(WaitResolved):
            await claims.mia.waits.claim(wait_id)
        timer = await Claims.of(h, "sleeps")
        for refused in (
            timer.mia.waits.claim(await timer.wait_id()),
            timer.mia.waits.assign(await timer.wait_id(), assignee="ada"),
        ):
            with pytest.raises(BadRequest):
                await refused
