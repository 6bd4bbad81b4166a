"""Who is at a wait: claimed by an open form, renewed, released, seen in lists, overridden knowingly (S-81)."""

from __future__ import annotations

from typing import Any

import pytest

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
    await bench.advance(298, step=15)
    await bench.advance(12, step=2)

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
    await bench.sees("is claimed by mia until")
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
