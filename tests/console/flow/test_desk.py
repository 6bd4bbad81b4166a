"""What is done with a wait besides answering it: claimed, given to somebody, snoozed, in the list and one by one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from helmr.person.review.personal import PersonalFiles
from tests.console.flow.bench import Bench
from tests.console.flow.test_claims import claim, who_is_at


async def is_at(bench: Bench, wait_id: str, person: str | None) -> None:
    """Return when this person is at the wait."""

    async def holds() -> bool:
        return await who_is_at(bench, wait_id) == person

    await bench.until(holds)


async def given_to(bench: Bench, wait_id: str) -> Any:
    return (await bench.wait(wait_id))["assignee"]


# --- claims


async def test_a_key_claims_a_row_and_releases_it(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await bench.press("c")
    await is_at(bench, wait["id"], "ana")
    await bench.sees("○ ana")
    await bench.press("c")
    await is_at(bench, wait["id"], None)
    await bench.sees("Released")


@pytest.mark.long  # pressed again: tests/review/test_claims.py
async def test_anothers_claim_is_taken_over_by_the_second_key_only(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await claim(bench, wait["id"], person="mia")  # the list does not know it yet
    await bench.press("c")
    await bench.sees("Claimed by mia")
    assert await who_is_at(bench, wait["id"]) == "mia"
    await bench.press("c")
    await is_at(bench, wait["id"], "ana")


# --- given to somebody


@pytest.mark.long
async def test_a_row_is_given_to_somebody_and_to_nobody(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await bench.press("d")
    await bench.on("DelegateScreen")
    await bench.sees("assignee    no one")
    await bench.press(*"tom")
    await bench.until(bench.may_send)
    await bench.press("enter")
    await bench.sees("No one here has the name tom.")
    await bench.press("ctrl+s")
    await bench.inbox(1)
    assert await given_to(bench, wait["id"]) == "tom"
    await bench.sees("@tom")
    await bench.press("d")
    await bench.on("DelegateScreen")
    await bench.sees("Known here")
    await bench.until(bench.may_send)
    await bench.press("enter")
    await bench.inbox(1)
    assert await given_to(bench, wait["id"]) is None
    kinds = [entry["kind"] for entry in await bench.entries(wait["session"]["id"])]
    assert kinds.count("wait.assigned") == 2


@pytest.mark.long
async def test_a_wait_that_is_over_meanwhile_is_given_to_nobody(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await bench.press("d")
    await bench.on("DelegateScreen")
    await bench.press(*"ana")
    await bench.answer(wait["id"], {"decision": "approve"})
    await bench.until(lambda: bench.app.shared.store.waits == {})
    await bench.until(bench.may_send)
    await bench.press("enter")
    await bench.sees("Not sent: the wait is fulfilled")
    await bench.press("escape")
    await bench.on("InboxScreen")
    assert await given_to(bench, wait["id"]) is None


# --- snoozed


async def test_a_row_that_is_put_off_is_gone_until_its_time_is_over(bench: Bench) -> None:
    await bench.ask(subject="Publish one?", timeout="8h")
    await bench.ask(subject="Publish two?", timeout="9h")
    await bench.open()
    await bench.inbox(2)
    await bench.press("z")
    await bench.on("PickScreen")
    await bench.press("enter")
    await bench.inbox(1)
    await bench.sees("1 snoozed")
    assert "Publish one?" not in bench.text()
    await bench.press("slash", *"is", "colon", *"snoozed", "enter")
    await bench.inbox(1)
    await bench.sees("snoozed, back in")
    assert "Publish one?" in bench.text()
    await bench.press("escape")
    await bench.inbox(1)
    await bench.advance(600, step=15)
    await bench.inbox(2)
    assert "snoozed" not in bench.text()


@pytest.mark.long
async def test_a_wait_is_woken_before_its_time(bench: Bench) -> None:
    await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    await bench.press("z", "enter")
    await bench.inbox(0)
    await bench.press("slash", *"is", "colon", *"snoozed", "enter")
    await bench.inbox(1)
    await bench.press("z")
    await bench.sees("wake")
    await bench.press("enter")
    await bench.inbox(0)
    await bench.press("escape")
    await bench.inbox(1)


@pytest.mark.long
async def test_no_deadline_passes_while_a_wait_is_put_off(bench: Bench) -> None:
    await bench.ask(subject="Near?", timeout="9m")
    await bench.ask(subject="Far?", timeout="30m")
    await bench.open()
    await bench.inbox(2)
    await bench.press("z")
    await bench.sees("it ends too soon")
    await bench.press("j", "z")
    await bench.on("PickScreen")
    await bench.sees("10m before it ends")
    assert "4h" not in bench.text(), "as far as it goes, and no further"


@pytest.mark.long  # tests/review/test_snoozes.py
async def test_what_another_program_put_off_is_gone_here_too(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", timeout="8h")
    await bench.open()
    await bench.inbox(1)
    files = [PersonalFiles.within(bench.folder / "state", name) for name in ("eve", "ana")]
    until = bench.clock.now() + timedelta(hours=1)
    await asyncio.to_thread(files[0].snoozes.snooze, wait["id"], until)
    await bench.advance(15)
    await bench.inbox(1)  # eve's, on the same machine
    await asyncio.to_thread(files[1].snoozes.snooze, wait["id"], until)
    await bench.advance(15)
    await bench.inbox(0)


# --- one by one


@pytest.mark.long  # tests/review/test_queue.py
async def test_one_by_one_goes_on_with_what_comes_meanwhile_and_not_with_what_stood_above(
    bench: Bench,
) -> None:
    for n in (1, 2):
        await bench.ask(subject=f"Publish {n}?", timeout=f"{n}h")
    await bench.open(hold_s=5.0)
    await bench.inbox(2)
    await bench.press("j", "n")
    await bench.form()
    await bench.sees("1 of 1 > Publish 2?")
    came = await bench.ask(subject="Publish 3?", timeout="1m")
    await bench.until(lambda: came["id"] in bench.app.shared.store.waits)
    await bench.press("s")
    await bench.sees("2 of 2 > Publish 3?")
    await bench.form()
    await bench.press("s")
    await bench.on("InboxScreen")
    await bench.press(".")
    await bench.inbox(3)


@pytest.mark.long  # what is asked next: tests/review/test_queue.py
async def test_one_by_one_goes_on_from_what_was_seen_to_otherwise(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n}h") for n in (1, 2, 3)]
    await bench.open(hold_s=5.0)
    await bench.inbox(3)
    await bench.press("n")
    await bench.form()
    await bench.sees("1 of 3 > Publish 1?")
    await is_at(bench, waits[0]["id"], "ana")
    await bench.press("d")
    await bench.on("DelegateScreen")
    await bench.press(*"tom")
    await bench.until(bench.may_send)
    await bench.press("enter", "ctrl+s")
    await bench.sees("│ Publish 2?")
    assert await given_to(bench, waits[0]["id"]) == "tom"
    await is_at(bench, waits[0]["id"], None)
    await bench.form()
    await bench.press("z")
    await bench.on("PickScreen")
    await bench.press("enter")
    await bench.sees("│ Publish 3?")
    await is_at(bench, waits[1]["id"], None)
    await bench.form()
    await is_at(bench, waits[2]["id"], "ana")
    await bench.press("c")
    await bench.sees("Released")
    await is_at(bench, waits[2]["id"], None)
    await bench.press("c")
    await is_at(bench, waits[2]["id"], "ana")
    await bench.press("s")
    await bench.inbox(2)
    assert await who_is_at(bench, waits[2]["id"]) == "ana", "claimed by a key, it stays so"
