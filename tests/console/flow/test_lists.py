"""The list never moves under the operator; filters, marks, batches, looking things up."""

from __future__ import annotations

import asyncio

import pytest

from helmr.client.profiles import Profile
from helmr_console.actions import ACTIONS, BY_ID
from tests.console.flow.bench import Bench

APPROVE = {"decision": "approve"}


async def test_new_and_gone_rows_wait_until_they_are_let_in(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Old {n}?", timeout=f"{10 + n}m") for n in range(4)]
    await bench.open()
    inbox = await bench.inbox(4)
    await bench.press("j", "j")
    before = list(inbox.list.keys)
    urgent = await bench.ask(subject="Urgent?", timeout="1m")
    await bench.answer(waits[0]["id"], APPROVE)
    await bench.sees("1 new, 1 gone")
    assert inbox.list.keys == before, "nothing moved"
    assert inbox.list.cursor == waits[2]["id"]
    await bench.sees("answered")
    await bench.press("full_stop")
    assert inbox.list.keys[0] == urgent["id"]
    assert inbox.list.cursor == waits[2]["id"], "the cursor is on its row"


@pytest.mark.long  # tests/console/pure/test_lists_and_time.py
async def test_rows_come_in_by_themselves_when_the_cursor_has_rested(bench: Bench) -> None:
    await bench.ask(subject="Old?", timeout="10m")
    await bench.open()
    inbox = await bench.inbox(1)
    await bench.press("p")
    await bench.ask(subject="New?", timeout="1m")
    await bench.sees("1 new")
    await bench.advance(12)
    assert len(inbox.list.keys) == 1, "paused"
    await bench.sees("paused 12s")
    await bench.press("p")
    await bench.advance(2)
    assert len(inbox.list.keys) == 2


@pytest.mark.long  # rows that ended leave: tests/console/pure/test_lists_and_time.py
async def test_a_wait_past_its_deadline_leaves_and_can_be_seen_again(bench: Bench) -> None:
    gone = await bench.ask(subject="Short?", timeout="30s")
    await bench.ask(subject="Long?", timeout="1h")
    await bench.open()
    inbox = await bench.inbox(2)
    await bench.sees("00:30")
    await bench.advance(31)
    await bench.until(lambda: gone["id"] in bench.app.shared.store.ended)
    await bench.advance(12)
    assert gone["id"] not in inbox.list.keys
    await bench.press("e")
    await bench.sees("timed out")
    await bench.press("e")
    assert gone["id"] not in inbox.list.keys


async def test_the_filter_narrows_as_it_is_typed_and_says_what_it_does_not_know(
    bench: Bench,
) -> None:
    for number in range(3):
        await bench.ask(subject=f"Publish {number}?", correlation=f"github:acme/api#{number}")
    await bench.ask("talk", subject="-")
    await bench.open()
    inbox = await bench.inbox(4)
    await bench.press("slash", *"stream:chat")
    assert len(inbox.list.keys) == 1
    await bench.sees("1 of 4 waits")
    await bench.press("escape", "slash", *"strem:x")
    await bench.sees("Did you mean stream:")
    await bench.press("escape", "slash", *"github:acme/api#2")
    await bench.sees('As text: "github:acme/api#2"')
    assert len(inbox.list.keys) == 3, "as it was before the colon"
    await bench.press("escape", "slash", *'"github:acme/api#2"', "enter")
    assert len(inbox.list.keys) == 1
    await bench.press("escape")
    assert len(inbox.list.keys) == 4


async def test_a_batch_goes_one_by_one_and_reports_each(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{10 + n}m") for n in range(4)]
    other = await bench.ask("talk", subject="-")
    await bench.open(size=(120, 40))
    await bench.inbox(5)
    await bench.press("asterisk", "B")
    screen = await bench.form()
    await bench.sees("another stream (chat)")
    await bench.sees("4 waits share stream approval")
    await bench.press("space", "ctrl+s")
    await bench.sees("type 4 to confirm")
    await bench.until(lambda: screen.focused is screen.count)
    await bench.press("4", "ctrl+s")
    await bench.answer(waits[1]["id"], {"decision": "reject"})
    await bench.press("ctrl+s")
    await bench.sees("4 of 4 done, 3 accepted, 1 skipped")
    statuses = [(await bench.wait(wait["id"]))["status"] for wait in (*waits, other)]
    assert statuses == ["fulfilled"] * 4 + ["pending"]
    sent = [(await bench.records(wait["session"]["id"]))[0]["data"]["decision"] for wait in waits]
    assert sent == ["approve", "reject", "approve", "approve"]
    by = [(await bench.wait(wait["id"]))["resolved_by"]["on_behalf_of"] for wait in waits]
    assert by == ["ana", "ben", "ana", "ana"]
    accepted = [
        (await bench.entries(wait["session"]["id"], "input.accepted"))[0]["recorded_at"]
        for n, wait in enumerate(waits)
        if n != 1
    ]
    assert accepted == sorted(accepted), "soonest end first"


@pytest.mark.long
async def test_a_batch_stops_before_the_next(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{10 + n}m") for n in range(3)]
    await bench.open(size=(120, 40))
    await bench.inbox(3)
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
    statuses = [(await bench.wait(wait["id"]))["status"] for wait in waits]
    assert statuses == ["fulfilled", "pending", "pending"]


@pytest.mark.long  # tests/console/pure/test_filters.py
@pytest.mark.parametrize("listed", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_a_pasted_id_of_any_kind_finds_its_session(bench: Bench, listed: bool) -> None:
    await bench.ask(subject="Other?")
    receipt = await bench.stack.started(
        "publish", {"subject": "Mine?", "correlation": "github:acme/api#7"}, external_id="ticket-7"
    )
    session = receipt["session"]
    await bench.open()
    await bench.inbox(2)
    await bench.press("2")
    screen = await bench.on("SessionsScreen")
    await bench.until(lambda: len(screen.list.keys) == 2)
    for word in (session["id"], session["wait"]["id"], "github:acme/api#7", "ticket-7"):
        screen.set_filter("")
        if not listed:
            screen._order.clear()  # as if it lay many pages down
            screen._more = False
            screen.show_now()
        assert len(screen.list.keys) == (2 if listed else 0)
        await bench.press("slash")
        screen.query_one("#filter").value = word
        await bench.press("enter")
        found = await bench.on("SessionScreen")
        assert found.detail.session_id == session["id"], word
        await bench.press("escape")
        await bench.on("SessionsScreen")


async def test_sessions_come_in_pages(bench: Bench) -> None:
    for number in range(12):
        await bench.ask(subject=f"S{number}?")
    import helmr_console.screens.sessions as module

    module_rows, module.PAGE_ROWS = module.PAGE_ROWS, 5
    try:
        await bench.open()
        await bench.press("2")
        screen = await bench.on("SessionsScreen")
        await bench.until(lambda: len(screen._order) == 12)
        await bench.press("G")
        assert screen.list.index == 11
    finally:
        module.PAGE_ROWS = module_rows


@pytest.mark.long  # tests/console/test_keys.py
async def test_a_users_key_map_holds_and_is_shown(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open(keys={"answer": "A"})
    await bench.inbox(1)
    await bench.sees("A Answer")
    await bench.press("a")
    assert type(bench.app.screen).__name__ == "InboxScreen"
    await bench.press("A")
    assert (await bench.form()).wait_id == wait["id"]


@pytest.mark.long  # what has help: tests/console/pure/test_actions.py
async def test_the_palette_offers_what_can_be_done_now(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open(read_only=True, profile=Profile(filters={"urgent": "due<10m"}))
    inbox = await bench.inbox(1)
    await bench.press("ctrl+p")
    screen = await bench.on("PickScreen")
    labels = {choice.label for choice in screen.choices}
    assert "Answer" not in labels
    assert {"filter urgent", "theme helmr-light", "Help"} <= labels
    await bench.press(*"filter urgent", "enter")
    await bench.until(lambda: inbox.filter_text == "due<10m")


@pytest.mark.long  # tests/console/test_keys.py
async def test_help_is_about_what_is_in_front_and_complete(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open(size=(120, 200))
    await bench.inbox(1)
    await bench.press("question_mark")
    await bench.on("TextScreen")
    await bench.sees("The list does not move")
    text = bench.text()
    assert all(action.label in text for action in ACTIONS)


@pytest.mark.long  # what has help: tests/console/pure/test_actions.py
async def test_help_is_about_what_has_the_focus(bench: Bench) -> None:
    await bench.ask("order", subject="How many?")
    await bench.open(size=(120, 60))
    await bench.inbox(1)
    await bench.press("question_mark")
    await bench.sees("The list")
    await bench.press("escape", "slash", "f1")
    await bench.sees("a field equals a value: id:, session:")
    await bench.press("escape", "escape", "a")
    await bench.form()
    await bench.press("f1")
    await bench.sees("The field size")
    await bench.sees("1 to 10 pieces")
    await bench.press("escape", "tab", "f1")
    await bench.sees("The field sure")
    await bench.press("escape", "f2", "f1")
    await bench.sees("The answer as JSON")
    await bench.press("escape", "escape", "o")
    await bench.on("SessionScreen")
    await bench.press("f1")
    await bench.sees("The transcript")
    await bench.press("escape", "slash", "f1")
    await bench.sees("The search")
    await bench.press("escape", "escape", "X")
    screen = await bench.on("ConfirmScreen")
    await bench.until(lambda: screen.typed.has_focus)
    await bench.press("f1")
    await bench.sees(f"type {screen.expect[-7:]} and press ^s")


@pytest.mark.long  # tests/console/pure/test_texts.py
async def test_copy_gives_every_id_and_the_command(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?", correlation="key-1")
    await bench.open()
    await bench.inbox(1)
    await bench.press("y")
    screen = await bench.on("PickScreen")
    assert [choice.detail for choice in screen.choices][:2] == [wait["id"], wait["session"]["id"]]
    assert f"helmr wait get {wait['id']}" in [choice.detail for choice in screen.choices]
    await bench.press("enter")
    await bench.until(lambda: bench.app.clipboard == wait["id"])


async def test_read_only_refuses_every_action_that_writes(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish?")
    await bench.open(read_only=True)
    await bench.inbox(1)
    await bench.sees("read-only")
    await bench.press("space", "k")
    for action in (a for a in ACTIONS if a.writes):
        for screen in list(bench.app.screen_stack):
            before = bench.app.screen
            await screen.perform(action.id)
            assert bench.app.screen is before, action.id
    assert all("read-only" in text for text in bench.toasts())
    await bench.press("o")
    await bench.on("SessionScreen")
    await bench.press("i", "m", "X", "R")
    assert type(bench.app.screen).__name__ == "SessionScreen"
    assert (await bench.wait(wait["id"]))["status"] == "pending"
    assert BY_ID["answer"].writes


@pytest.mark.long
async def test_a_terminal_that_is_too_small_says_so_and_does_nothing(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.pilot.resize_terminal(50, 14)
    await bench.sees("needs 60 by 16")
    await bench.press("a")
    assert type(bench.app.screen).__name__ == "InboxScreen"
    await bench.pilot.resize_terminal(80, 24)
    await bench.sees("Publish?")


@pytest.mark.long  # test_terminal.py
async def test_a_resize_keeps_cursor_and_text(bench: Bench) -> None:
    for number in range(30):
        await bench.ask(subject=f"Publish {number}?", timeout=f"{10 + number}m")
    await bench.open()
    inbox = await bench.inbox(30)
    await bench.press(*["j"] * 20)
    here = inbox.list.cursor
    await bench.pilot.resize_terminal(80, 24)
    await bench.pilot.pause()
    assert inbox.list.cursor == here
    subject = bench.app.shared.store.waits[here].subject
    await bench.sees(str(subject))
    await bench.press("a")
    screen = await bench.form()
    await bench.press("space", "tab", *"kept")
    await bench.pilot.resize_terminal(120, 36)
    await bench.pilot.pause()
    assert screen.form.cells()["note"] == "kept"
    await asyncio.sleep(0)


@pytest.mark.long
async def test_a_broken_view_leaves_the_rest_working(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    inbox = await bench.inbox(1)

    async def broken(_: str) -> None:
        raise RuntimeError("a bug")

    inbox._load_preview = broken
    inbox._previews.clear()
    inbox.moved()
    await bench.until(lambda: any("internal error" in text for text in bench.toasts()))
    await bench.press("a")
    await bench.form()
    assert bench.app.is_running


@pytest.mark.long  # groups: tests/console/pure/test_grouping.py; drawn: test_goldens.py
async def test_waits_stand_in_groups_and_a_heading_marks_its_own(bench: Bench) -> None:
    await bench.ask("order", subject="Order pens?")
    await bench.ask(subject="Publish one?", timeout="8h")
    await bench.ask(subject="Publish two?", timeout="9h")
    await bench.open()
    inbox = await bench.inbox(3)
    await bench.press("b")
    await bench.inbox(5)
    await bench.sees("── stream approval: 2 waits, oldest")
    await bench.sees("── stream orders: 1 wait, oldest")
    await bench.press("g", "a")
    await bench.sees("a heading is selected")
    assert await bench.on("InboxScreen") is inbox
    await bench.press("space")
    await bench.sees("2 marked")
    await bench.press("space")
    assert not inbox.list.marks
    await bench.press("j", "a")
    screen = await bench.form()
    assert screen.wait.subject == "Publish one?"
    await bench.press("escape")
    await bench.on("InboxScreen")
    await bench.press("slash", *"pens", "enter")
    await bench.inbox(2)
    await bench.sees("1 of 3 waits")
    await bench.press("escape", *5 * ["b"])
    await bench.inbox(3)


@pytest.mark.long  # groups: tests/console/pure/test_grouping.py; drawn: test_goldens.py
async def test_the_head_line_has_the_figures(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish one?", timeout="8h")
    await bench.ask(subject="Publish two?", timeout="9h")
    await bench.open()
    await bench.inbox(2)
    await bench.answer(wait["id"], {"decision": "approve"})
    await bench.sees("1 answered today")
    await bench.advance(120, step=15)
    await bench.sees("oldest 2m · median 2m")


@pytest.mark.long  # test_goldens.py
@pytest.mark.parametrize(
    "size", [(80, 24), pytest.param((110, 50), marks=pytest.mark.long), (200, 50)], ids=str
)
async def test_list_and_pane_share_the_screen_as_they_are_told(
    bench: Bench, size: tuple[int, int]
) -> None:
    await bench.ask(subject="Publish?", timeout="8h")
    await bench.open(size=size)
    inbox = await bench.inbox(1)
    first = (inbox.list.region, inbox.pane.region)
    assert (first[0].right <= first[1].x) == (size == (200, 50)), "below on narrow and tall screens"
    await bench.press("W")
    await bench.until(lambda: inbox.pane.region.width > inbox.list.region.width > 0)
    await bench.press("W")
    await bench.until(lambda: inbox.pane.region.y >= inbox.list.region.bottom > 0)
    await bench.press("W")
    await bench.until(lambda: not inbox.pane.display)
    await bench.press("Z")
    await bench.until(lambda: inbox.pane.display and inbox.pane.region.width == size[0])
    await bench.press("Z", "W")
    await bench.until(lambda: (inbox.list.region, inbox.pane.region) == first)


async def test_sorting_by_mine_first_keeps_the_order_within_each_half(bench: Bench) -> None:
    waits = [await bench.ask(subject=f"Publish {n}?", timeout=f"{10 + n}m") for n in range(4)]
    ids = [one["id"] for one in waits]
    for mine in (ids[3], ids[1]):
        path = f"/v1/waits/{mine}/assign"
        assigned = await bench.stack.http.post(path, json={"assignee": "ana"})
        assert assigned.status_code == 200
    other = await bench.stack.http.post(f"/v1/waits/{ids[0]}/assign", json={"assignee": "bo"})
    assert other.status_code == 200
    await bench.open()
    inbox = await bench.inbox(4)

    async def sorted_as(*numbers: int) -> None:
        await bench.until(lambda: inbox.list.keys == [ids[n] for n in numbers])

    await sorted_as(0, 1, 2, 3)
    await bench.press("j", "j", "s")
    await sorted_as(1, 3, 0, 2)
    await bench.sees("by mine first")
    assert inbox.list.cursor == ids[2], "the cursor is on its row"
    await bench.press("S")
    await sorted_as(2, 0, 3, 1)
    await bench.press("S", *["s"] * (len(inbox.SORTS) - 1))
    await sorted_as(0, 1, 2, 3)


async def test_typing_behind_slash_replaces_the_filter_and_an_arrow_goes_on_with_it(
    bench: Bench,
) -> None:
    for subject in ("Publish A?", "Publish zebra?", "Publish zebu?"):
        await bench.ask(subject=subject, timeout="8h")
    await bench.open()
    inbox = await bench.inbox(3)
    await bench.press("slash", *"zeb", "enter")
    assert (inbox.filter_text, len(inbox.list.keys)) == ("zeb", 2)
    await bench.press("slash", "A", "question_mark", "enter")
    assert (inbox.filter_text, len(inbox.list.keys)) == ("A?", 2)
    await bench.press("slash", *"zeb", "enter", "slash", "right", "u", "enter")
    assert (inbox.filter_text, len(inbox.list.keys)) == ("zebu", 1)
    await bench.press("slash", "x", "escape")
    assert (inbox.filter_text, len(inbox.list.keys)) == ("zebu", 1), "as it was before"
    await bench.press("slash", "backspace", "enter")
    assert (inbox.filter_text, len(inbox.list.keys)) == ("", 3)
