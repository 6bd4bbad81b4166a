"""Who is at a wait: claimed by an open form, renewed, released, seen in lists, overridden knowingly (S-81)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from helmr.client.waits import AsyncWaits
from tests.console.flow.bench import Bench


async def claim(bench: Bench, wait_id: str, *, person: str) -> dict[str, Any]:
    response = await bench.stack.http.post(
        f"/v1/waits/{wait_id}/claim", headers={"On-Behalf-Of": person}
    )
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()["claim"]
    return made


async def who_is_at(bench: Bench, wait_id: str) -> str | None:
    found = (await bench.wait(wait_id))["claim"]
    return found["on_behalf_of"] if found is not None else None


@pytest.mark.long  # tests/review/test_claims.py
async def test_an_open_form_claims_its_wait_and_leaving_it_releases(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    await bench.form()

    async def is_claimed() -> bool:
        return await who_is_at(bench, wait["id"]) == "ana"

    async def is_free() -> bool:
        return await who_is_at(bench, wait["id"]) is None

    await bench.until(is_claimed)
    first = (await bench.wait(wait["id"]))["claim"]
    lasts = datetime.fromisoformat(first["until"]) - datetime.fromisoformat(first["since"])
    assert lasts == timedelta(minutes=2), "a window that is closed without a word is not missed"
    await bench.advance(60, step=2)

    async def is_renewed() -> bool:
        found = (await bench.wait(wait["id"]))["claim"]
        return found["since"] == first["since"] and found["until"] > first["until"]

    await bench.until(is_renewed)
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.until(is_free)


async def test_a_claim_of_another_is_seen_and_overridden_only_knowingly(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await claim(bench, wait["id"], person="mia")
    await bench.open()
    await bench.inbox(1)
    await bench.sees("○ mia")
    await bench.press("a")
    await bench.form()
    await bench.sees("Claimed by mia, 1")
    assert await who_is_at(bench, wait["id"]) == "mia", "to look takes nothing from her"
    await bench.press("space", "ctrl+s")
    await bench.sees("overrides the claim of mia")
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    found = await bench.wait(wait["id"])
    assert (found["status"], found["resolved_by"]["on_behalf_of"]) == ("fulfilled", "ana")
    entries = await bench.entries(wait["session"]["id"])
    ended = [one for one in entries if one["kind"] == "wait.claim_ended"]
    assert [one["body"]["reason"] for one in ended] == ["overridden"]


@pytest.mark.long  # tests/review/test_claims.py; over HTTP: tests/service/test_claims.py
async def test_a_claim_taken_over_meanwhile_refuses_the_answer_once(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()

    async def is_claimed() -> bool:
        return await who_is_at(bench, wait["id"]) == "ana"

    await bench.until(is_claimed)
    response = await bench.stack.http.post(
        f"/v1/waits/{wait['id']}/claim",
        json={"override_claim": True},
        headers={"On-Behalf-Of": "mia"},
    )
    assert response.status_code == 200
    await bench.press("space", "ctrl+s", "ctrl+s")
    await bench.sees("Not sent: someone else has claimed it")
    assert screen.form.cells()["decision"] == 0, "what was entered is kept"
    assert (await bench.wait(wait["id"]))["status"] == "pending"
    await bench.press("ctrl+s")
    await bench.sees("overrides the claim of mia")
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    assert (await bench.wait(wait["id"]))["status"] == "fulfilled"


@pytest.mark.long
async def test_who_comes_to_a_wait_shows_in_a_list_that_is_open(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await claim(bench, wait["id"], person="mia")
    await bench.advance(16)
    await bench.sees("○ mia")
    await bench.press("/")
    await bench.press(*"is", "colon", *"claimed", "enter")
    await bench.inbox(1)


# --- two who go along the same list


async def in_front(bench: Bench, wait: dict[str, Any]) -> Any:
    """The form of this wait."""
    await bench.until(lambda: getattr(bench.app.screen, "wait_id", "") == wait["id"])
    return await bench.form()


async def test_in_a_review_no_page_is_turned_that_another_has_come_to(bench: Bench) -> None:
    """What mia has claimed since the list was read, and since the next wait was read ahead."""
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}h") for n in range(4)]
    await bench.open(hold_s=5.0)
    await bench.inbox(4)
    await claim(bench, waits[0]["id"], person="mia")
    await bench.press("n")
    await in_front(bench, waits[1])
    assert await who_is_at(bench, waits[1]["id"]) == "ana", "before it is shown"
    await bench.until(lambda: bench.screen.turns.ahead is not None)
    assert bench.screen.turns.ahead.wait.id == waits[2]["id"]
    await claim(bench, waits[2]["id"], person="mia")
    await bench.press("f8")
    await in_front(bench, waits[3])
    assert await who_is_at(bench, waits[1]["id"]) is None
    assert "Claimed by" not in bench.text()
    await bench.press("f8")  # what others are at comes last, and says so
    await in_front(bench, waits[0])
    await bench.sees("Claimed by mia, 1")
    assert [await who_is_at(bench, one["id"]) for one in waits] == ["mia", None, "mia", None]


async def test_ending_gives_back_what_an_open_form_has_claimed(bench: Bench) -> None:
    first = await bench.ask(subject="First?", timeout="1h")
    kept = await bench.ask(subject="Kept?", timeout="2h")
    await bench.open()
    await bench.inbox(2)
    await bench.press("j", "c")
    await bench.until(lambda: bench.screen.wait_in_front().claim is not None)
    await bench.press("k", "a")
    await bench.form()
    await bench.until(lambda: bench.screen.claim.state.own is not None)
    assert await who_is_at(bench, first["id"]) == "ana"
    await bench.exit.aclose()
    assert await who_is_at(bench, first["id"]) is None
    assert await who_is_at(bench, kept["id"]) == "ana", "claimed by a key"


@pytest.mark.parametrize("key", ["a", "n"])
async def test_a_claim_whose_reply_is_on_its_way_is_given_back_too(
    bench: Bench, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = await bench.ask(subject="First?")
    await bench.open()
    await bench.inbox(1)
    claims = AsyncWaits.claim

    async def replies_late(self: AsyncWaits, *args: Any, **options: Any) -> Any:
        await claims(self, *args, **options)
        await asyncio.Event().wait()

    monkeypatch.setattr(AsyncWaits, "claim", replies_late)
    await bench.app._press_keys([key])  # the form never comes to rest

    async def is_claimed() -> bool:
        return await who_is_at(bench, wait["id"]) == "ana"

    await bench.until(is_claimed)
    await bench.exit.aclose()
    assert not await is_claimed()
