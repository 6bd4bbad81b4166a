"""Pickers take j, k, digits and letters; an area's number leads back to its list."""

from __future__ import annotations

import pytest

from tests.console.flow.bench import Bench


async def test_j_and_k_move_a_digit_picks_and_letters_filter(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("y")
    screen = await bench.on("PickScreen")
    first = screen.list.cursor
    await bench.press("j", "j", "k")
    assert screen.list.index == 1
    assert screen.list.cursor != first
    await bench.sees("2 ")
    await bench.press("s")
    assert (screen.field.value, screen.field.has_focus) == ("s", True)
    await bench.press(*"ession")
    await bench.until(lambda: "session id" in bench.text())
    shown = [screen.choices[int(key)] for key in screen.list.keys]
    assert shown
    assert all("session" in f"{one.label} {one.detail}".casefold() for one in shown)
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.press("y", "1")
    await bench.on("InboxScreen")
    assert any(text.startswith("Copied") for text in bench.toasts())


@pytest.mark.long
async def test_1_leads_back_to_the_inbox_from_a_session_that_was_opened_there(
    bench: Bench,
) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("o")
    await bench.on("SessionScreen")
    await bench.sees("[1 Inbox]")
    await bench.sees("Inbox > ses…")
    await bench.press("1")
    await bench.on("InboxScreen")
    await bench.press("2")
    await bench.on("SessionsScreen")


@pytest.mark.long  # tests/review/test_drafts_and_batches.py
async def test_what_was_begun_has_a_sign_and_is_found(bench: Bench) -> None:
    await bench.ask(subject="First?", timeout="5m")
    await bench.ask(subject="Second?", timeout="9m")
    await bench.open(size=(120, 36))
    inbox = await bench.inbox(2)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("1", "tab", *"hm")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await bench.press("escape", "escape")
    await bench.on("InboxScreen")
    await bench.advance(2)
    await bench.sees("~ First?")
    await bench.press("slash", *"is:draft", "enter")
    await bench.until(lambda: len(inbox.list.keys) == 1)


@pytest.mark.long  # tests/review/test_pending.py
async def test_a_held_answer_that_did_not_leave_says_so_until_it_is_looked_at(bench: Bench) -> None:
    wait = await bench.ask(subject="First?", timeout="5m")
    await bench.ask(subject="Second?", timeout="9m")
    await bench.open(size=(120, 36))
    await bench.inbox(2)
    bench.app.shared.unsent.came_back(wait["id"])
    bench.app.shared.lists_changed()
    await bench.sees("1 not sent")
    await bench.sees("~ not sent: First?")
    await bench.press("g", "a")
    await bench.form()
    await bench.until(lambda: not bench.app.shared.unsent.returned)


@pytest.mark.parametrize(("size", "cursor"), [((80, 24), "g"), ((120, 36), "G")])
async def test_a_menu_is_a_box_at_the_row_that_it_is_about(
    bench: Bench, size: tuple[int, int], cursor: str
) -> None:
    for n in range(24):
        await bench.ask(subject=f"Publish {n}?", timeout=f"{n + 60}m")
    await bench.open(size=size)
    inbox = await bench.inbox(24)
    await bench.press(cursor)
    row, subject = bench.app.cursor_position.y, f"Publish {0 if cursor == 'g' else 23}?"
    await bench.press("z")
    screen = await bench.on("PickScreen")
    box = screen.query_one("#box").region
    assert box.height <= 11
    assert box.y == row + 1 or box.bottom == row, "below its row or above it"
    drawn = bench.text().splitlines()
    assert subject in drawn[row], "the row can be read"
    assert sum("Publish" in line for line in drawn) >= 8, "so can the list around it"
    await bench.press("2")
    await bench.on("InboxScreen")
    await bench.until(lambda: len(inbox.list.keys) == 23)
