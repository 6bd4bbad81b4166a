"""A wait that two people must agree on, in the console: who stands for what, whose turn it is, who may only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.agreeing import FIVE, THREE, asks, key_of, stack_of_people, votes
from tests.console.flow.bench import Bench, benched


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with benched(stack_of_people, tmp_path, monkeypatch) as found:
        yield found


async def test_the_second_person_sees_who_stands_for_what_and_agrees(bench: Bench) -> None:
    wait_id, run_id = await asks(bench.stack)
    await bench.open(key=await key_of(bench.stack, "ana"))
    await bench.inbox(1)
    await bench.sees("Refund Ada?  0 of 2")
    await votes(bench.stack, "bo", wait_id, FIVE)
    await bench.sees("Refund Ada?  1 of 2")
    await bench.press("a")
    screen = await bench.form()
    await bench.sees('1 of 2 agree: bo stands for {"decision": "approve", "cents": 5')
    assert screen.form.cells()["cents"] == "5", "the form starts from the newest proposal"
    assert not screen.form.result().data.get("note"), "and not with the other's comment"
    await bench.press("1", "ctrl+s")
    await bench.sees("a vote: the wait is fulfilled once 2 people")
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    run = await bench.stack.run_until(run_id, "succeeded")
    assert run["result"] == ["approve", 5, None]


@pytest.mark.long
async def test_a_vote_leaves_its_wait_in_the_inbox_with_what_has_been_said(bench: Bench) -> None:
    wait_id, _ = await asks(bench.stack)
    await votes(bench.stack, "bo", wait_id, THREE)
    await bench.open(key=await key_of(bench.stack, "ana"))
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("1", "tab")
    screen.form.query("Input").first().value = "5"
    await bench.press("ctrl+s", "ctrl+s")
    await bench.inbox(1)
    await bench.sees("Vote recorded")
    await bench.sees("Refund Ada?  1 of 2")
    await bench.press("a")
    await bench.form()
    await bench.sees('1 of 2 agree: ana stands for {"decision": "approve", "cents": 5')
    await bench.sees('bo stands for {"decision": "approve", "cents": 3')
    await bench.sees("you have voted: another answer replaces yours")
    assert (await bench.wait(wait_id))["voters"] == ["bo", "ana"]


@pytest.mark.long
async def test_votes_of_a_batch_leave_their_waits_in_the_inbox(bench: Bench) -> None:
    first, second = [(await asks(bench.stack))[0] for _ in range(2)]
    await bench.open(size=(120, 40), key=await key_of(bench.stack, "ana"))
    await bench.inbox(2)
    await bench.press("asterisk", "B")
    screen = await bench.form()
    await bench.press("1", "tab")
    screen.form.query("Input").first().value = "5"
    screen.count.value = "2"
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await bench.press("ctrl+s")
    await bench.sees("2 of 2 done, 2 accepted")
    await bench.sees("1 of 2 agree; 1 more")
    await bench.press("escape")
    await bench.inbox(2)
    await bench.sees("Refund Ada?  1 of 2")
    for wait_id in (first, second):
        assert (await bench.wait(wait_id))["voters"] == ["ana"]


async def mine(bench: Bench, person: str) -> list[str]:
    """The ids of the waits that the gateway lists as this person's."""
    headers = {"Authorization": f"Bearer {await key_of(bench.stack, person)}"}
    async with httpx.AsyncClient(base_url=bench.stack.url, headers=headers) as http:
        listed = (await http.get("/v1/waits", params={"mine": True})).json()["items"]
        everything = (await http.get("/v1/waits")).json()["items"]
    assert [one["id"] for one in everything if one["is_mine"]] == [one["id"] for one in listed]
    return [one["id"] for one in listed]


@pytest.mark.long
async def test_an_escalation_gives_a_wait_to_a_group_and_its_people_find_it(bench: Bench) -> None:
    receipt = await bench.stack.started("escalates", {})
    wait_id = receipt["session"]["wait"]["id"]
    await bench.open(key=await key_of(bench.stack, "ana"))
    await bench.inbox(1)
    assert (await mine(bench, "cy"), await mine(bench, "ana")) == ([wait_id], [])
    await bench.press("/", *"is", "colon", *"mine", "enter")
    await bench.inbox(0)
    await bench.advance(7_200, step=1_800)
    await bench.advance(16)
    assert (await mine(bench, "cy"), await mine(bench, "ana")) == ([], [wait_id])
    await bench.inbox(1)
    await bench.sees("@group:finance")


async def test_who_may_not_answer_reads_why_before_typing(bench: Bench) -> None:
    wait_id, _ = await asks(bench.stack)
    await bench.open(key=await key_of(bench.stack, "cy"), identity="cy")
    await bench.inbox(1)
    await bench.sees("you may not answer: it is answered by 2")
    await bench.press("a")
    screen = await bench.form()
    await bench.sees("To be read only: nothing can be sent from here")
    await bench.press("1", "ctrl+s", "ctrl+s")
    assert screen.form.disabled
    assert not screen.form.is_touched()
    found = await bench.wait(wait_id)
    assert (found["status"], found["voters"], found["claim"]) == ("pending", [], None)
    await bench.press("escape")
    await bench.inbox(1)


async def test_a_review_leaves_out_what_a_key_may_not_answer_and_says_so(bench: Bench) -> None:
    """Under a key that is no person's, which can't vote."""
    await asks(bench.stack)
    await bench.open()
    await bench.inbox(1)
    await bench.press("n")
    await bench.sees("There is nothing here to answer; 1 left out, which you may not answer")
    await bench.on("InboxScreen")
