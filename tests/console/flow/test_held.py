"""What was confirmed can be taken back until its time has passed; one wait after the other (0044)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helmr.person.forms import Blank
from helmr_console.screens.answer import FRESH_S
from helmr_console.screens.submit import TOO_SOON
from helmr_console.widgets.field_row import ChoiceField
from tests.console.flow.bench import Bench

HOLD_S = 5.0
APPROVE = {"decision": "approve"}


async def form_on(bench: Bench, wait: dict[str, Any]) -> Any:
    """The form of this wait, once it is on top and could be read."""
    await bench.until(lambda: getattr(bench.app.screen, "wait_id", "") == wait["id"])
    screen = await bench.form()
    await bench.until(bench.may_send)
    return screen


def drafts(bench: Bench) -> dict[str, dict[str, Any]]:
    """The drafts on disk, by wait."""
    files = bench.app.shared.files.drafts.folder.glob("*.json")
    return {one.name.split(".")[0]: json.loads(one.read_text()) for one in files}


async def test_one_wait_after_the_other_by_one_letter_each(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(3)]
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(3)
    await bench.press("n")
    for number, (wait, key) in enumerate(zip(waits, ("a", "r", "3"), strict=True)):
        await form_on(bench, wait)
        await bench.sees(f"{number + 1} of 3 > Publish {number}?")
        await bench.press(key, "ctrl+s")
    inbox = await bench.on("InboxScreen")
    await bench.sees("3 pending, last sends in 5 s · u takes it back")
    assert not inbox.list.keys, "what is held is not offered again"
    for wait in waits:
        assert (await bench.wait(wait["id"]))["status"] == "pending", (
            "nothing leaves before its time"
        )
    await bench.advance(6)
    for wait, decision in zip(waits, ("approve", "reject", "edit"), strict=True):
        await bench.stack.run_until(wait["run"]["id"], "succeeded")
        records = await bench.records(wait["session"]["id"])
        assert [one["data"] for one in records] == [{"decision": decision}]
    await bench.until(lambda: not drafts(bench))
    assert not len(bench.app.shared.outbox)


async def test_what_is_taken_back_is_asked_again_with_what_was_entered(bench: Bench) -> None:
    first = await bench.ask(subject="First?", timeout="5m")
    second = await bench.ask(subject="Second?", timeout="9m")
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(2)
    await bench.press("n")
    await form_on(bench, first)
    await bench.press("r", "tab", "n", "o", "ctrl+s")
    await form_on(bench, second)
    await bench.sees("sends in 5 s · u takes it back")
    await bench.press("u")
    screen = await form_on(bench, first)
    assert screen.form.cells() == {"decision": 1, "note": "no"}
    assert any("Taken back, nothing was sent: First?" in text for text in bench.toasts())
    await bench.advance(7)
    assert (await bench.wait(first["id"]))["status"] == "pending"
    await bench.press("a", "ctrl+s")
    screen = await form_on(bench, second)
    await bench.sees("2 of 2 > Second?")
    await bench.press("s")
    await bench.on("InboxScreen")
    await bench.advance(6)
    await bench.stack.run_until(first["run"]["id"], "succeeded")
    records = await bench.records(first["session"]["id"])
    assert [one["data"] for one in records] == [{"decision": "approve", "note": "no"}]
    assert (await bench.wait(second["id"]))["status"] == "pending"


@pytest.mark.long  # tests/review/test_pending.py
async def test_a_key_takes_back_while_a_text_is_typed(bench: Bench) -> None:
    first = await bench.ask(subject="First?", timeout="5m")
    second = await bench.ask(subject="Second?", timeout="9m")
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(2)
    await bench.press("n")
    await form_on(bench, first)
    await bench.press("a", "ctrl+s")
    screen = await form_on(bench, second)
    await bench.press("tab", "u", "p")
    assert screen.form.cells()["note"] == "up"
    await bench.sees("F5 takes it back")
    await bench.press("f5")
    await form_on(bench, first)
    kept = drafts(bench)[second["id"]]
    assert kept["cells"]["note"] == "up", "what was being typed is kept too"


@pytest.mark.long  # tests/review/test_pending.py
async def test_who_leaves_while_an_answer_is_held_is_asked_and_has_sent_nothing(
    bench: Bench,
) -> None:
    wait = await bench.ask(subject="First?", timeout="5m")
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(1)
    await bench.press("n")
    await form_on(bench, wait)
    await bench.press("a", "ctrl+s")
    await bench.on("InboxScreen")
    await bench.press("q")
    assert any("1 pending: wait until sent" in text for text in bench.toasts())
    assert bench.app.is_running
    await bench.close()
    assert drafts(bench)[wait["id"]]["operation_id"] is None, "it never left"
    assert (await bench.wait(wait["id"]))["status"] == "pending"


@pytest.mark.long  # tests/review/test_outcome.py
async def test_a_rival_during_the_grace_is_told_and_the_text_is_kept(bench: Bench) -> None:
    wait = await bench.ask(subject="First?", timeout="5m")
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(1)
    await bench.press("n")
    await form_on(bench, wait)
    await bench.press("r", "tab", "m", "i", "n", "e", "ctrl+s")
    await bench.on("InboxScreen")
    await bench.answer(wait["id"], APPROVE)
    await bench.until(lambda: wait["id"] not in bench.app.shared.store.waits)
    await bench.advance(6)
    await bench.until(lambda: any("Not sent" in text for text in bench.toasts()))
    told = bench.toasts()[-1]
    assert "L shows theirs beside yours" in told
    assert "mine" in told
    await bench.sees("L Conflicts")
    await bench.press("L")
    await bench.on("TextScreen")
    for said in (
        "First?",
        "answered by ben, said by key local at 2026-11-24",
        '"decision": "approve"',
        "[-approve-][+reject+]",
        '+ note  "mine"',
    ):
        assert said in bench.text(), said
    await bench.press("escape")
    await bench.on("InboxScreen")
    assert drafts(bench)[wait["id"]]["cells"]["note"] == "mine"
    assert [one["data"] for one in await bench.records(wait["session"]["id"])] == [APPROVE]


@pytest.mark.long
async def test_a_rival_of_whom_the_feed_has_not_told_yet(bench: Bench) -> None:
    """The refusal is the gateway's."""
    wait = await bench.ask(subject="First?", timeout="5m")
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(1)
    await bench.press("n")
    await form_on(bench, wait)
    await bench.press("r", "ctrl+s")
    await bench.on("InboxScreen")
    await bench.answer(wait["id"], APPROVE)
    await bench.until(lambda: wait["id"] not in bench.app.shared.store.waits)
    bench.app.shared.store.ended.clear()  # as if it had not come
    await bench.advance(6)
    await bench.until(lambda: any("already answered" in text for text in bench.toasts()))
    assert "answered by ben" in bench.toasts()[-1]
    assert "L shows theirs beside yours" in bench.toasts()[-1]
    kept = drafts(bench)[wait["id"]]
    assert (kept["cells"]["decision"], kept["operation_id"]) == (1, None)


async def test_no_answer_leaves_while_the_gateway_is_away_and_its_draft_stays(bench: Bench) -> None:
    wait = await bench.ask(subject="First?")
    await bench.open(hold_s=20.0)
    await bench.inbox(1)
    await bench.press("n")
    await form_on(bench, wait)
    await bench.press("a", "ctrl+s")
    await bench.on("InboxScreen")
    await bench.wire.cut()
    await bench.advance(21)
    await bench.until(lambda: any("not answering" in text for text in bench.toasts()))
    assert wait["id"] in drafts(bench)
    await bench.wire.start()
    await bench.advance(12)
    await bench.sees("live")
    await bench.until(lambda: wait["id"] in bench.app.shared.open_ids())
    assert (await bench.wait(wait["id"]))["status"] == "pending"


@pytest.mark.long
async def test_a_form_with_free_text_keeps_its_review_and_one_without_is_held(bench: Bench) -> None:
    first = await bench.ask(subject="First?", timeout="5m")
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(1)
    await bench.press("a")
    await form_on(bench, first)
    await bench.press("a", "ctrl+s")
    await bench.sees("^s sends it.")
    assert not len(bench.app.shared.outbox)
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    await bench.stack.run_until(first["run"]["id"], "succeeded")


@pytest.mark.long  # each question one entry: tests/review/test_pending.py; batches go: test_lists.py
async def test_a_batch_is_held_as_one_and_leaves_as_one(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(3)]
    await bench.open(hold_s=HOLD_S)
    inbox = await bench.inbox(3)
    await bench.press("space", "space", "space", "B")
    await bench.form()
    await bench.press("a", "tab", "tab", "3", "ctrl+s")
    await bench.sees("^s sends it.")
    await bench.press("ctrl+s")
    await bench.sees("Pending: nothing has been sent")
    await bench.until(lambda: len(bench.app.shared.outbox) == 1)
    await bench.advance(3)
    assert set(drafts(bench)) == {wait["id"] for wait in waits}
    assert {one["operation_id"] for one in drafts(bench).values()} == {None}
    await bench.press("u")
    await bench.sees("^s sends it.")
    await bench.advance(7)
    for wait in waits:
        assert (await bench.wait(wait["id"]))["status"] == "pending"
    await bench.press("ctrl+s")
    await bench.until(lambda: len(bench.app.shared.outbox) == 1)
    await bench.advance(6)
    await bench.sees("3 of 3 done, 3 accepted")
    for wait in waits:
        await bench.stack.run_until(wait["run"]["id"], "succeeded")
    assert not drafts(bench)
    await bench.press("escape")
    await bench.on("InboxScreen")
    assert not inbox.list.keys


@pytest.mark.long
async def test_esc_and_stop_take_a_held_batch_back(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(2)]
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(2)
    await bench.press("space", "space", "B")
    await bench.form()
    await bench.press("a", "tab", "tab", "2", "ctrl+s")
    for key in ("escape", "f8"):
        await bench.press("ctrl+s")
        await bench.until(lambda: len(bench.app.shared.outbox) == 1)
        await bench.press(key)
        await bench.sees("^s sends it.")
        assert not len(bench.app.shared.outbox)
    await bench.advance(7)
    for wait in waits:
        assert (await bench.wait(wait["id"]))["status"] == "pending"


@pytest.mark.long
async def test_without_a_grace_time_everything_is_reviewed_also_one_by_one(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(2)]
    await bench.open(hold_s=0.0)
    await bench.inbox(2)
    await bench.press("n")
    for wait in waits:
        await form_on(bench, wait)
        await bench.press("a", "ctrl+s")
        await bench.sees("^s sends it.")
        await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    for wait in waits:
        await bench.stack.run_until(wait["run"]["id"], "succeeded")


@pytest.mark.long  # tests/review/test_question.py
async def test_a_text_has_the_focus_at_once_and_esc_gives_the_letters_back(bench: Bench) -> None:
    first = await bench.ask("talk", subject="First?")
    second = await bench.ask("order", subject="Second?")
    await bench.open(hold_s=HOLD_S, size=(120, 36))
    inbox = await bench.inbox(2)
    by_id = {one["id"]: one for one in (first, second)}
    asked = [by_id[key] for key in inbox.list.keys]
    await bench.press("n")
    screen = await form_on(bench, asked[0])
    await bench.press("s")
    assert screen.form.focused_row().text() == "s", "a letter is text"
    await bench.sees("F8 Skip")
    await bench.sees("esc Keys")
    assert "Delegate" not in bench.text(), "its key is a letter"
    await bench.press("escape")
    assert screen.focused is None
    await bench.sees("s Skip")
    await bench.sees("d Delegate")
    await bench.press("s")
    await form_on(bench, asked[1])
    assert drafts(bench)[asked[0]["id"]]["cells"]
    await bench.press("escape", "escape")
    await bench.on("InboxScreen")


# --- the next is there at once


def asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The waits that the console reads from now on."""
    waits, found = bench.app.shared.client.waits, []
    read = waits.get

    async def counted(wait_id: str) -> Any:
        found.append(wait_id)
        return await read(wait_id)

    monkeypatch.setattr(waits, "get", counted)
    return found


@pytest.mark.long  # tests/review/test_queue.py
async def test_the_next_wait_is_read_while_this_one_is_on_screen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(3)]
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(3)
    await bench.press("n")
    await form_on(bench, waits[0])
    await bench.until(lambda: bench.screen.turns.ahead is not None)
    read = asked_for(bench, monkeypatch)
    await bench.press("a", "ctrl+s")
    screen = await form_on(bench, waits[1])
    assert waits[1]["id"] not in read, "it was there"
    assert isinstance(bench.app.focused, ChoiceField)
    assert screen.form.cells() == {"decision": Blank.NOT_SENT, "note": Blank.NOT_SENT}
    await bench.until(lambda: waits[2]["id"] in read)
    assert waits[1]["id"] not in read
    wait = await bench.wait(waits[1]["id"])
    await bench.until(lambda: bench.screen.claim.state.own is not None)
    assert wait["status"] == "pending"


@pytest.mark.long
async def test_what_was_read_ahead_and_is_over_is_not_asked(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(3)]
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(3)
    await bench.press("n")
    await form_on(bench, waits[0])
    await bench.until(lambda: bench.screen.turns.ahead is not None)
    await bench.answer(waits[1]["id"], APPROVE)
    await bench.until(lambda: waits[1]["id"] not in bench.app.shared.store.waits)
    await bench.press("a", "ctrl+s")
    await form_on(bench, waits[2])


@pytest.mark.long
async def test_who_is_at_the_next_wait_is_read_again_before_it_is_old(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(2)]
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(2)
    await bench.press("n")
    await form_on(bench, waits[0])
    await bench.until(lambda: bench.screen.turns.ahead is not None)
    read = asked_for(bench, monkeypatch)
    await bench.advance(FRESH_S - 2)
    assert waits[1]["id"] not in read
    await bench.advance(4)
    await bench.until(lambda: waits[1]["id"] in read)


@pytest.mark.long  # drafts come back: test_hands.py, tests/review/test_question.py
async def test_a_draft_stands_in_the_form_that_was_read_ahead(bench: Bench) -> None:
    first = await bench.ask(subject="First?", timeout="5m")
    second = await bench.ask(subject="Second?", timeout="9m")
    await bench.open(hold_s=HOLD_S)
    inbox = await bench.inbox(2)
    await bench.press("j", "a")
    await form_on(bench, second)
    await bench.press("r", "escape")
    await bench.until(lambda: bench.app.screen is inbox)
    await bench.press("g", "n")
    await form_on(bench, first)
    await bench.until(lambda: bench.screen.turns.ahead is not None)
    await bench.press("a", "ctrl+s")
    screen = await form_on(bench, second)
    assert screen.form.cells()["decision"] == 1
    await bench.sees("draft restored; F9 discards it")


@pytest.mark.long  # a key too soon: tests/review/test_submission.py
async def test_that_a_key_came_too_soon_is_said_of_its_own_form_only(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(2)]
    await bench.open(hold_s=HOLD_S)
    await bench.inbox(2)
    await bench.press("n")
    await form_on(bench, waits[0])
    bench.screen.submission.is_to_draw()
    await bench.press("a")
    await bench.pilot.press("ctrl+s")
    await bench.sees(TOO_SOON)
    bench.screen.submission.quiet_s = 0.0
    await bench.press("ctrl+s")
    await form_on(bench, waits[1])
    assert TOO_SOON not in bench.text()


@pytest.mark.long
async def test_what_is_behind_a_form_asks_and_draws_nothing_until_it_is_in_front(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 5}m") for n in range(3)]
    await bench.open(hold_s=HOLD_S)
    inbox = await bench.inbox(3)
    await bench.press("a")
    await form_on(bench, waits[0])
    read = asked_for(bench, monkeypatch)
    told: list[str] = []
    monkeypatch.setattr(inbox, "store_changed", lambda: told.append("changed"))
    await bench.answer(waits[0]["id"], APPROVE)
    await bench.until(lambda: waits[0]["id"] not in bench.app.shared.store.waits)
    await bench.sees("The wait is fulfilled by")
    assert not told
    assert set(read) <= {waits[0]["id"]}
    monkeypatch.undo()
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.sees("1 gone, . merges")
