"""A batch: its texts can be read before it goes, the unlike ones first; what did not go stays marked."""

from __future__ import annotations

import asyncio

import pytest

from tests.console.flow.bench import Bench
from tests.console.flow.test_hostile import walked
from tests.hostile import HOSTILE

HANG_S = 400.0


async def test_every_text_of_a_batch_can_be_read_and_taken_out_before_it_goes(bench: Bench) -> None:
    texts = [
        "Close the account of gus.",
        *(f"Publish the note of {name}." for name in ("ada", "bea", "cem", "dan")),
    ]
    waits = [
        await bench.ask(subject=f"Wait {n}?", body=text, timeout=f"{90 - n}m")
        for n, text in enumerate(texts)
    ]
    await bench.open(size=(120, 40))
    inbox = await bench.inbox(5)
    await bench.press("asterisk", "B")
    screen = await bench.form()
    await bench.sees("1 unlike the others, first in the list")
    await bench.press("ctrl+t")
    await bench.sees("Close the account of gus.")
    await bench.sees("unlike the others: lacks the word")
    await bench.press("ctrl+l")
    await bench.sees("left out by you")
    await bench.sees("type 4 to confirm")
    for text in reversed(texts[1:]):
        await bench.sees(text)
        await bench.press("ctrl+t")
    await bench.sees("In this order")
    await bench.press("space")
    screen.count.value = "4"
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await bench.press("ctrl+s")
    await bench.sees("4 of 4 done, 4 accepted")
    found = [await bench.wait(wait["id"]) for wait in waits]
    assert [one["status"] for one in found] == ["pending", *["fulfilled"] * 4]
    batch_ids = {one["batch_id"] for one in found[1:]}
    assert batch_ids == {screen.batch_id}
    assert found[0]["batch_id"] is None
    await bench.sees(f"batch {screen.batch_id}")
    entries = await bench.entries(waits[1]["session"]["id"], "wait.fulfilled")
    named = [
        one["body"]["wait_id"] for one in entries if one["body"].get("batch_id") == screen.batch_id
    ]
    assert named == [waits[1]["id"]]
    await bench.press("escape")
    await bench.on("InboxScreen")
    assert inbox.list.marks == {waits[0]["id"]}, "what did not go stays marked"


@pytest.mark.long  # what leaves and what stays: tests/review/test_pending.py
async def test_what_a_stop_left_stays_marked_and_goes_as_another_batch(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{10 + n}m") for n in range(3)]
    await bench.open(size=(120, 40))
    inbox = await bench.inbox(3)
    await bench.press("asterisk", "B")
    screen = await bench.form()
    await bench.press("space")
    screen.count.value = "3"
    await bench.press("ctrl+s")
    real = bench.app.shared.client.waits.answer

    async def slow(*args: object, **more: object) -> object:
        await bench.pilot.press("f8")
        return await real(*args, **more)

    bench.app.shared.client.waits.answer = slow  # type: ignore[method-assign,assignment]
    await bench.press("ctrl+s")
    await bench.sees("1 of 3 done, 1 accepted, 2 stopped")
    bench.app.shared.client.waits.answer = real  # type: ignore[method-assign]
    await bench.press("escape")
    await bench.on("InboxScreen")
    assert inbox.list.marks == {wait["id"] for wait in waits[1:]}
    await bench.press("B")
    again = await bench.form()
    assert again is not screen
    await bench.press("space")
    again.count.value = "2"
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await bench.press("ctrl+s")
    await bench.sees("2 of 2 done, 2 accepted")
    ids = [(await bench.wait(wait["id"]))["batch_id"] for wait in waits]
    assert ids[0] != ids[1] == ids[2]


async def test_on_a_narrow_screen_a_text_takes_the_place_of_the_form(bench: Bench) -> None:
    for n in range(2):
        await bench.ask(subject=f"Publish {n}?", body=f"The text {n}.", timeout=f"{10 + n}m")
    await bench.open(size=(80, 24))
    await bench.inbox(2)
    await bench.press("asterisk", "B")
    await bench.form()
    for n in range(2):
        await bench.press("ctrl+t")
        await bench.sees(f"The text {n}.")
    await bench.press("ctrl+t")
    await bench.sees("type 2 to confirm")


@pytest.mark.parametrize(
    "count", [24, pytest.param(491, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_a_batch_takes_all_of_them_and_goes_on_behind_the_list(
    bench: Bench, count: int
) -> None:
    for n in range(count):
        await bench.ask(subject=f"Publish {n}? {HOSTILE}".replace("\n", " ")[:190])
    await bench.open(size=(100, 30))
    inbox = await bench.inbox(count)
    await bench.press("asterisk", "asterisk", "B")
    screen = await bench.form()
    await bench.sees(f"{count} waits share stream approval")
    await bench.press("space")
    screen.count.value = f"{count}"
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    go, real = asyncio.Event(), bench.app.shared.client.waits.answer

    async def held(*args: object, **more: object) -> object:
        await go.wait()
        return await real(*args, **more)

    bench.app.shared.client.waits.answer = held  # type: ignore[method-assign,assignment]
    await bench.press("ctrl+s")
    await bench.sees(f"0 of {count}")
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.sees(f"batch ░░░░░░░░░░░░░░░░░░░░ 0 of {count}")
    await bench.press("v")
    await bench.on("BatchSeenScreen")
    drawn = [line for line in bench.text().splitlines() if "Publish" in line]
    assert len(drawn) >= 20, "a line for each"
    await walked(bench)
    assert [line.strip("│╭ ").split()[0] for line in drawn[:2]] == [">", "·"]
    await bench.press("escape")
    await bench.on("InboxScreen")
    go.set()
    async with asyncio.timeout(HANG_S):
        while bench.app.shared.sending:
            await asyncio.sleep(0.1)
    await bench.sees(f"Batch: {count} of {count} done, {count} accepted")
    await bench.until(lambda: not inbox.list.keys)
    found = bench.app.shared.store.ended.values()
    assert sum(one.status.value == "fulfilled" for one in found) == count


async def test_a_batch_says_how_many_it_does_not_take_and_they_stay_marked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr.person.review.batches.BATCH_MAX", 3)
    for n in range(5):
        await bench.ask(subject=f"Publish {n}?", timeout=f"{10 + n}m")
    await bench.open(size=(120, 40))
    inbox = await bench.inbox(5)
    await bench.press("asterisk", "B")
    screen = await bench.form()
    await bench.sees("3 waits share stream approval")
    await bench.sees("2 more are marked and stay so: a batch has 3 at most")
    await bench.press("space")
    screen.count.value = "3"
    await bench.press("ctrl+s", "ctrl+s")
    await bench.sees("3 of 3 done, 3 accepted")
    await bench.press("escape")
    await bench.on("InboxScreen")
    assert len(inbox.list.marks) == 2
