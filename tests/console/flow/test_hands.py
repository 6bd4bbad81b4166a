"""What an operator's hands meet: choices by one key, drafts that can be thrown away, words that are true afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual import events

from helmr_console.screens.inbox import InboxScreen
from tests.console.flow.bench import Bench
from tests.console.flow.walk import FAILED, PASTE, REVIEWED, STEPS, fill_features, taken_back
from tests.console.golden import strips


async def opened(bench: Bench, **asked: Any) -> tuple[dict[str, Any], Any]:
    """A wait and its form."""
    wait = await bench.ask(**{"subject": "Publish?", **asked})
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    return wait, await bench.form()


async def test_a_digit_or_a_first_letter_chooses_and_no_digit_leaves_the_form(bench: Bench) -> None:
    _, screen = await opened(bench)
    decision = screen.form.rows["decision"]
    for key, chosen in (("2", 1), ("e", 2), ("a", 0), ("r", 1), ("4", 1)):
        await bench.press(key)
        assert decision.cell == chosen, key
        assert bench.app.screen is screen


@pytest.mark.long
async def test_a_long_list_of_choices_is_searched_by_typing(bench: Bench) -> None:
    await bench.ask("order", subject="Order")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    screen.form.rows["country"].editor.focus()
    await bench.pilot.pause()
    await bench.press("enter", "c", "h", "enter")
    assert screen.form.cells()["country"] == 2


@pytest.mark.long  # tests/forms
async def test_a_json_field_offers_an_example_to_change(bench: Bench) -> None:
    await bench.ask("order", subject="Order")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    row = screen.form.rows["extra"]
    row.like = '{"a": [1]}'
    row.editor.focus()
    await bench.pilot.pause()
    await bench.press("ctrl+n")
    assert row.cell == '{\n  "a": [\n    1\n  ]\n}'


@pytest.mark.long  # line breaks that are pasted: tests/console/pure/test_texts.py
@pytest.mark.parametrize(
    "line_break",
    ["\r", *(pytest.param(other, marks=pytest.mark.long) for other in ("\r\n", "\n"))],
    ids=ascii,
)
async def test_pasted_lines_stay_lines(bench: Bench, line_break: str) -> None:
    """Terminals paste breaks as carriage returns."""
    await bench.ask("talk", subject="-")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    bench.app.post_message(events.Paste(line_break.join(("one", "two", "three"))))
    await bench.until(lambda: screen.form.cells()["$"] == "one\ntwo\nthree")
    assert not any("Pasted" in text for text in bench.toasts()), "nothing was lost"


@pytest.mark.long  # line breaks that are pasted: tests/console/pure/test_texts.py
async def test_lines_pasted_into_one_line_become_spaces_and_that_is_said(bench: Bench) -> None:
    await bench.ask("order", subject="Order")
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    screen.form.rows["amount"].editor.focus()
    await bench.pilot.pause()
    bench.app.post_message(events.Paste("one\rtwo\r\nthree\r"))
    await bench.until(lambda: screen.form.cells()["amount"] == "one two three")
    await bench.sees("2 line breaks became spaces: this field holds one line")


@pytest.mark.long  # tests/review/test_drafts_and_batches.py
async def test_a_restored_draft_is_typed_on_at_its_end_and_reset_knows_the_true_first_value(
    bench: Bench,
) -> None:
    await opened(bench)
    await bench.press("space", "tab", *"El", "escape")
    await bench.on("InboxScreen")
    await bench.press("a")
    screen = await bench.form()
    await bench.sees("draft restored")
    await bench.press("tab", *"m 0")
    assert screen.form.cells()["note"] == "Elm 0"
    await bench.press("ctrl+r")
    assert "not sent" in bench.text()
    assert screen.form.rows["note"].cell.value == "not sent"


async def test_a_draft_can_be_thrown_away_and_brought_back(bench: Bench) -> None:
    wait, screen = await opened(bench)
    await bench.press("2", "tab", *"wrong")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await bench.press("f9")
    assert not screen.form.is_touched()
    await bench.sees("draft discarded; F9 brings it back")

    async def is_gone() -> bool:
        return wait["id"] not in await asyncio.to_thread(bench.app.shared.files.drafts.wait_ids)

    await bench.until(is_gone)
    await bench.press("f9")
    assert (screen.form.cells()["decision"], screen.form.cells()["note"]) == (1, "wrong")
    await bench.press("f9", "escape")
    await bench.on("InboxScreen")
    await bench.press("a")
    screen = await bench.form()
    assert not screen.form.is_touched(), "it does not come back"


@pytest.mark.long  # rows taken away leave at once: tests/console/pure/test_texts.py
async def test_own_answered_rows_leave_at_once(bench: Bench) -> None:
    first = await bench.ask(subject="Publish A?", timeout="5m")
    second = await bench.ask(subject="Publish B?", timeout="6m")
    await bench.open()
    await bench.inbox(2)
    await bench.press("a", "space", "ctrl+s", "ctrl+s")
    inbox = await bench.on("InboxScreen")
    assert inbox.list.keys == [second["id"]], "no rest of ten seconds, no dead row"
    assert inbox.list.cursor == second["id"]
    await bench.until(lambda: bench.app.shared.store.ended[first["id"]].resolved_by is not None)


@pytest.mark.long
async def test_afterwards_a_batch_says_what_was_sent(bench: Bench) -> None:
    for number in (1, 2):
        await bench.ask(subject=f"Publish {number}?", timeout=f"{number}0m")
    await bench.open()
    await bench.inbox(2)
    await bench.press("asterisk", "B")
    screen = await bench.form()
    await bench.press("space")
    screen.count.value = "2"
    await bench.press("ctrl+s", "ctrl+s")
    await bench.sees("2 of 2 done, 2 accepted")
    assert "nothing has been sent" not in bench.text()
    await bench.press("escape")
    inbox = await bench.on("InboxScreen")
    assert inbox.list.keys == []


@pytest.mark.long
async def test_a_rival_noticed_early_is_shown_with_what_was_answered(bench: Bench) -> None:
    wait, screen = await opened(bench, timeout="5m")
    await bench.press("space", "tab", *"mine")
    await bench.answer(wait["id"], {"decision": "reject", "note": "theirs"})
    await bench.sees("The wait is fulfilled by ben")
    await bench.sees(" UTC")
    await bench.sees("~ decision")
    await bench.sees("theirs against yours: 2 changed")
    assert screen.form.cells()["note"] == "mine"


@pytest.mark.long
async def test_the_review_of_a_wait_that_is_over_promises_nothing(bench: Bench) -> None:
    wait, _ = await opened(bench, timeout="5m")
    await bench.press("space", "ctrl+s")
    await bench.sees("It will do this")
    await bench.answer(wait["id"], {"decision": "reject"})
    await bench.sees("Can't be sent")
    assert "It will do this" not in bench.text()
    assert "This is sent" not in bench.text()


@pytest.mark.long  # tests/review/test_outcome.py
async def test_answering_an_ended_row_says_how_it_ended(bench: Bench) -> None:
    wait = await bench.ask(subject="Publish A?", timeout="5m")
    await bench.ask(subject="Publish B?", timeout="6m")
    await bench.open()
    await bench.inbox(2)
    await bench.answer(wait["id"], {"decision": "reject"})
    await bench.sees("x answered")
    await bench.press("a")
    assert "Answer: the wait is fulfilled by ben" in bench.toasts()[-1]
    bench.app.shared.store.ended.clear()
    await bench.press("a")
    assert bench.toasts()[-1] == "Answer: the wait is over"


@pytest.mark.long
async def test_marks_outlive_the_filter_and_their_batch_holds_them(bench: Bench) -> None:
    for number in range(3):
        await bench.ask(subject=f"Publish {number}?", timeout=f"{number + 5}m")
    await bench.open()
    inbox = await bench.inbox(3)
    await bench.press("space", "slash", *'"Publish 2?"', "enter", "space")
    await bench.sees("2 marked, 1 not shown")
    await bench.press("B")
    screen = await bench.form()
    assert len(screen.plan.items) == 2
    await bench.press("escape", "escape", "escape")
    assert isinstance(bench.app.screen, InboxScreen)
    assert not inbox.list.marks


@pytest.mark.long  # tests/console/pure/test_filters.py
async def test_an_empty_filter_result_says_how_rows_come_back(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    await bench.press("slash", *"nowhere", "enter")
    await bench.sees("0 of 1 match. esc clears the filter.")
    await bench.sees("The filter hides every row; esc clears it.")
    for key in "23":
        await bench.press(key)
        await bench.until(lambda: bench.screen.list.keys or bench.screen.filter)
        await bench.press("slash", *"nowhere", "enter")
        await bench.sees("esc clears")


@pytest.mark.long
async def test_one_thing_is_said_at_a_time_and_never_over_the_list_or_the_footer(
    bench: Bench,
) -> None:
    await bench.ask(subject="Publish?")
    await bench.open()
    await bench.inbox(1)
    before = bench.text().splitlines()
    for number in range(5):
        bench.app.shared.say(f"number {number}", "warning")
    await bench.sees("! number 4")
    after = bench.text().splitlines()
    assert "number 3" not in bench.text()
    assert [line for line in range(len(before)) if before[line] != after[line]] == [1]
    await bench.advance(9)
    await bench.until(lambda: "number 4" not in bench.text())


@pytest.mark.long  # the order of the footer: tests/console/pure/test_actions.py
async def test_help_is_the_last_to_leave_the_footer(bench: Bench) -> None:
    await bench.ask(subject="Publish?")
    await bench.open(size=(60, 16))
    await bench.inbox(1)
    assert bench.text().splitlines()[-1].endswith("? Help  ^p")
    await bench.press("a")
    await bench.form()
    assert bench.text().splitlines()[-1].endswith("? Help  ^p")


ANSWERED = next(n for n, step in enumerate(STEPS) if step.sees == "One by one ─")
"""How many steps of the walk go over the inbox and its filters, an answer and its review."""


@pytest.mark.long  # tests/console/pure/test_texts.py
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("size", "steps"),
    [
        pytest.param((80, 24), ANSWERED, id="80x24-answer"),
        pytest.param((80, 24), len(STEPS), id="80x24", marks=pytest.mark.long),
        pytest.param((120, 36), len(STEPS), id="120x36", marks=pytest.mark.long),
    ],
)
async def test_with_ascii_every_sign_on_the_screens_is_ascii(
    bench: Bench, size: tuple[int, int], steps: int
) -> None:
    """Data that is ASCII leaves nothing on the terminal that is not, on any screen of the walk."""
    asked = {"body": "## Head\n- one\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n" + "line\n" * 40}
    wait = await bench.ask(subject="Publish? " * 20, correlation="key-1", timeout="5m", **asked)
    await bench.ask(subject="Publish too?", timeout="6m", say=["word " * 100])
    await bench.stack.started("sign", {"subject": "Sign?", "body": "please"})
    failed = await bench.ask("break", subject="gone")
    typed = {FAILED: failed["session"]["id"], REVIEWED: await taken_back(bench, "plain words")}
    note = f"/v1/sessions/{wait['session']['id']}/notes"
    await bench.stack.http.post(note, json={"text": "a note"}, headers={"On-Behalf-Of": "cai"})
    await fill_features(bench, "plain words")
    await bench.open(size=size, ascii_only=True)
    inbox = await bench.inbox(3)
    await bench.until(lambda: inbox._previews)
    for step in STEPS[:steps]:
        for key in step.keys:
            if key == PASTE:
                bench.app.post_message(events.Paste("abc"))
            elif key in typed:
                await bench.press(*typed[key])
            else:
                await bench.press(key)
            await bench.settle()
            text = "\n".join(strip.text for strip in strips(bench.app))
            assert text.isascii(), (step, [char for char in text if ord(char) > 127], text)
        await bench.on(step.screen)
        await bench.rest()
