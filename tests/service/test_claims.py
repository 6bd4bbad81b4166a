"""What claims cost beside real parts: no commit and no wake-up, and what a restart of the ledger leaves (S-81)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from helmr.models import ClaimRequest
from helmr_runtime.core.entries import Principal
from helmr_runtime.rpc.calls import LEDGER
from helmr_runtime.service.caller import Caller
from tests.service.stack import Stack, until

ROOM = 4
MIA = Principal("api_key", "key_1", "claims", "mia")
CLAIMS = 1_000
ANSWER = {"data": {"decision": "approve"}}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, linger_s=0.01)
    await stack.start(sessions_per_host=ROOM)
    yield stack
    await stack.stop()


class Person:
    """Somebody at the desk."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.http = stack.client(**{"On-Behalf-Of": name})

    async def post(self, wait_id: str, what: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/v1/waits/{wait_id}/{what}", json=body)


@pytest.fixture
async def mia(stack: Stack) -> AsyncIterator[Person]:
    person = Person(stack, "mia")
    yield person
    await person.http.aclose()


@pytest.fixture
async def tom(stack: Stack) -> AsyncIterator[Person]:
    person = Person(stack, "tom")
    yield person
    await person.http.aclose()


async def parked(stack: Stack) -> str:
    """A wait of a session that nobody holds."""
    session = (await stack.started())["session"]

    async def is_parked() -> bool:
        held = await stack.calls.call(LEDGER, "held")
        return session["id"] not in [one.session_id for one in held]

    await until(is_parked)
    return str(session["wait"]["id"])


def stored(stack: Stack) -> int:
    """How many transactions the ledger has made."""
    assert stack.ledger._ledger is not None
    return len(stack.ledger._ledger._group.latency._times)


@contextmanager
def calls(stack: Stack) -> Iterator[Counter[str]]:
    """The calls between actors meanwhile."""
    before = Counter(stack.calls.counter)
    made: Counter[str] = Counter()
    yield made
    for (kind, method), count in (stack.calls.counter - before).items():
        if method not in ("feed", "work", "watch", "chunks", "ping"):
            made[f"{kind}.{method}"] += count


@contextmanager
def written(stack: Stack) -> Iterator[list[set[str]]]:
    """The transactions of the ledger meanwhile, each as the sessions that it was about."""
    assert stack.ledger._ledger is not None
    group = stack.ledger._ledger._group
    commit, found = group._commit, []

    async def noted(writes: Any) -> None:
        found.append({write.session_id for write in writes})
        await commit(writes)

    group._commit = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        group._commit = commit  # type: ignore[method-assign]


def kinds_of(entries: list[dict[str, Any]]) -> list[str]:
    return [one["kind"] for one in entries]


async def transcript(stack: Stack, wait_id: str) -> list[dict[str, Any]]:
    wait = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    path = f"/v1/sessions/{wait['session_id']}/transcript"
    found = await stack.http.get(path, params={"limit": 200})
    items: list[dict[str, Any]] = found.json()["items"]
    return items


async def test_a_claim_and_its_renewals_wake_no_session_and_write_nothing(stack, mia) -> None:
    wait_id = await parked(stack)
    before = await transcript(stack, wait_id)
    commits = stored(stack)
    with calls(stack) as made:
        for _ in range(20):
            response = await mia.post(wait_id, "claim")
            assert response.status_code == 200, response.text
    assert made == {"ledger.claim_wait": 20}
    assert stored(stack) == commits
    assert await transcript(stack, wait_id) == before
    listed = (await stack.http.get("/v1/waits")).json()["items"]
    assert [one["claim"]["on_behalf_of"] for one in listed] == ["mia"]


async def test_a_thousand_claims_beside_answers_make_no_commit(stack, tom) -> None:
    answered = [await parked(stack) for _ in range(ROOM)]
    claimed = await parked(stack)
    sessions = {(await transcript(stack, one))[0]["session_id"] for one in answered}
    with written(stack) as transactions:
        for wait_id in answered:
            claiming = [
                stack.service.claims.claim(Caller(MIA), claimed, ClaimRequest())
                for _ in range(CLAIMS // ROOM)
            ]
            *_, done = await asyncio.gather(*claiming, tom.post(wait_id, "answer", **ANSWER))
            assert done.status_code == 200
    assert stack.calls.counter["ledger", "claim_wait"] == CLAIMS
    assert transactions
    assert all(about and about <= sessions for about in transactions)


async def test_a_held_session_hears_of_a_claim_in_one_call_more(tmp_path: Path) -> None:
    stack = Stack(tmp_path, linger_s=300)
    await stack.start(sessions_per_host=ROOM)
    mia, tom = Person(stack, "mia"), Person(stack, "tom")
    try:
        wait_id = (await stack.started())["session"]["wait"]["id"]
        commits = stored(stack)
        with calls(stack) as made:
            assert (await mia.post(wait_id, "claim")).status_code == 200
        assert made == {"ledger.claim_wait": 1, "host.note_claims": 1}
        assert stored(stack) == commits
        with calls(stack) as made:
            refused = await tom.post(wait_id, "answer", **ANSWER)
        assert refused.status_code == 409
        assert refused.json()["code"] == "wait_claimed"
        assert stored(stack) == commits
        assert "ledger.commit" not in made
    finally:
        await mia.http.aclose()
        await tom.http.aclose()
        await stack.stop()


async def test_claim_override_lapse_and_race_each_see_what_happened(stack, mia, tom) -> None:
    wait_id = await parked(stack)
    first = await mia.post(wait_id, "claim", expires_in="30s")
    assert first.json()["claim"]["on_behalf_of"] == "mia"
    taken = await tom.post(wait_id, "claim")
    assert (taken.status_code, taken.json()["code"]) == (409, "wait_claimed")
    over = await tom.post(wait_id, "claim", override_claim=True)
    assert over.json()["claim"]["on_behalf_of"] == "tom"
    lost = await mia.post(wait_id, "answer", **ANSWER)
    assert (lost.status_code, lost.json()["facts"]["claim"]["on_behalf_of"]) == (409, "tom")
    race = await asyncio.gather(
        tom.post(wait_id, "answer", **ANSWER),
        mia.post(wait_id, "answer", data={"decision": "reject"}, override_claim=True),
    )
    assert sorted(one.status_code for one in race) == [200, 409]
    told = next(one.json() for one in race if one.status_code == 409)
    assert told["code"] == "wait_resolved"
    winner = "tom" if race[0].status_code == 200 else "mia"
    assert told["facts"]["resolved_by"]["on_behalf_of"] == winner
    entries = await transcript(stack, wait_id)
    claims = [one for one in entries if one["kind"].startswith("wait.claim")]
    reasons = [one["body"].get("reason", "claimed") for one in claims]
    assert reasons[:3] == ["claimed", "overridden", "claimed"]
    assert (len(reasons) == 4) == (winner == "mia")
    assert kinds_of(entries).index("input.accepted") > kinds_of(entries).index("wait.claimed")


async def test_two_operators_one_wait_and_what_each_was_told(stack, mia, tom) -> None:
    """Claim, refusal, lapse, override, race: mia's claim lapses while she is away, tom comes, both send."""
    wait_id = await parked(stack)
    assert (await mia.post(wait_id, "claim", expires_in="300ms")).status_code == 200
    early = await tom.post(wait_id, "answer", **ANSWER)
    assert (early.status_code, early.json()["code"]) == (409, "wait_claimed")
    assert early.json()["facts"]["claim"]["on_behalf_of"] == "mia"
    assert "mia" in early.json()["detail"]

    async def is_toms() -> bool:
        claimed = await tom.post(wait_id, "claim", expires_in="1h")
        assert claimed.status_code in (200, 409)
        return bool(claimed.status_code == 200)

    await until(is_toms)  # without an override: hers has lapsed
    seen = (await mia.http.get(f"/v1/waits/{wait_id}")).json()
    assert seen["claim"]["on_behalf_of"] == "tom"
    late = await mia.post(wait_id, "answer", data={"decision": "reject"})
    assert (late.status_code, late.json()["facts"]["claim"]["on_behalf_of"]) == (409, "tom")
    both = await asyncio.gather(
        mia.post(wait_id, "answer", data={"decision": "reject"}, override_claim=True),
        tom.post(wait_id, "answer", **ANSWER),
    )
    assert sorted(one.status_code for one in both) == [200, 409]
    won, lost = sorted(both, key=lambda one: one.status_code)
    winner, given = ("mia", "reject") if won is both[0] else ("tom", "approve")
    facts = lost.json()["facts"]
    assert facts["resolved_by"]["on_behalf_of"] == winner
    assert facts["data"]["decision"] == given
    over = (await stack.http.get(f"/v1/waits/{wait_id}")).json()
    assert (over["answer"]["decision"], over["resolved_by"]["on_behalf_of"]) == (given, winner)
    entries = await transcript(stack, wait_id)
    claims = [one for one in entries if one["kind"].startswith("wait.claim")]
    reasons = [one["body"].get("reason", one["principal"].get("on_behalf_of")) for one in claims]
    assert reasons == ["mia", "lapsed", "tom", *(["overridden"] if winner == "mia" else [])]
    assert [one["kind"] for one in entries].count("input.accepted") == 1


async def test_a_claim_that_comes_while_its_session_is_taken_up_counts(stack, mia, tom) -> None:
    """A note may reach the host before the claim that came with the adoption, or after it."""
    for _ in range(10):
        wait_id = await parked(stack)
        claimed, noted, done = await asyncio.gather(
            mia.post(wait_id, "claim"),
            stack.http.post(
                f"/v1/sessions/{(await transcript(stack, wait_id))[0]['session_id']}/notes",
                json={"text": "hello"},
            ),
            tom.post(wait_id, "answer", **ANSWER),
        )
        assert noted.status_code == 201
        if done.status_code == 200:
            assert claimed.status_code in (200, 409)
        else:
            assert done.json()["code"] == "wait_claimed"
            assert (await tom.post(wait_id, "answer", **ANSWER)).status_code == 409
            assert (await mia.post(wait_id, "answer", **ANSWER)).status_code == 200


async def test_a_restart_of_the_ledger_forgets_claims_and_a_renewal_brings_one_back(
    stack, mia, tom
) -> None:
    wait_id = await parked(stack)
    assert (await mia.post(wait_id, "claim")).status_code == 200
    ledger = stack.ledger._ledger
    assert ledger is not None
    await ledger.close()
    stack.ledger._ledger = None
    assert (await tom.http.get(f"/v1/waits/{wait_id}")).json()["claim"] is None
    assert (await mia.post(wait_id, "claim")).status_code == 200
    assert (await tom.post(wait_id, "answer", **ANSWER)).status_code == 409
    assert (await mia.post(wait_id, "answer", **ANSWER)).status_code == 200
    assert kinds_of(await transcript(stack, wait_id)).count("wait.claimed") == 1


async def test_an_assignment_is_in_lists_and_tables_also_after_a_restart(stack, mia) -> None:
    wait_id = await parked(stack)
    await stack.http.get("/v1/waits")  # the tables have the wait; what comes now changes its row
    assert (await mia.post(wait_id, "assign", assignee="tom")).json()["assignee"] == "tom"
    assert (await stack.http.get(f"/v1/waits/{wait_id}")).json()["assignee"] == "tom"
    listed = (await stack.http.get("/v1/waits", params={"assignee": "tom"})).json()["items"]
    assert [one["id"] for one in listed] == [wait_id]
    ledger = stack.ledger._ledger
    assert ledger is not None
    await ledger.close()
    stack.ledger._ledger = None
    sql = f"SELECT assignee FROM waits WHERE wait_id = '{wait_id}'"
    assert (await stack.http.post("/v1/query", json={"sql": sql})).json()["rows"] == [["tom"]]
    assert (await mia.post(wait_id, "assign", assignee=None)).status_code == 200
    assert (await stack.http.get(f"/v1/waits/{wait_id}")).json()["assignee"] is None
    assert (await mia.post(wait_id, "assign")).status_code == 400
