"""Leave for a tool's call: a card in place of JSON, an argument changed, what is sent and what it does."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

import pytest

from tests.call_tasks import ASKED
from tests.console.flow.bench import Bench
from tests.console.flow.test_goldens import SIZES, look


async def result(bench: Bench, wait: dict[str, Any]) -> Any:
    return (await bench.stack.run_until(wait["run"]["id"], "succeeded"))["result"]


def card(screen: Any) -> str:
    """What stands above the form, also where it was scrolled away."""
    return "\n".join(line.plain for line in screen.asked_text.lines)


async def opened(bench: Bench, **asked: Any) -> tuple[dict[str, Any], Any]:
    """A call that is asked about, with its form open."""
    wait = await bench.ask("call", **asked)
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    return wait, await bench.form()


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(True, id="schema of the tool"),
        pytest.param(False, id="any object", marks=pytest.mark.long),
    ],
)
async def test_an_argument_is_changed_in_its_own_field(bench: Bench, known: bool) -> None:
    wait, screen = await opened(bench, known=known)
    for row in ("tool             refund", "amount.cents     4200", "amount.currency  EUR"):
        assert row in bench.text()
    assert "decline  refund is not called; the agent sees the reason" in bench.text()
    assert "is to be called with" not in bench.text()
    await bench.press("1")
    await bench.sees("refund is called as it was asked for")
    assert "cents *" not in bench.text()
    await bench.press("e")
    assert screen.focused is screen.form.rows["arguments.customer"].editor
    cents = screen.form.rows["arguments.amount.cents"]
    cents.editor.focus()
    await bench.press("backspace", "backspace")
    await bench.sees("amount.cents     4200 -> 42")
    assert "refund is called with 1 value changed" in bench.text()
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await bench.sees("amount.cents: 4200 -> 42")
    await bench.press("ctrl+s")
    wanted = {"customer": "ada", "amount": {"cents": 42, "currency": "EUR"}}
    assert await result(bench, wait) == {"called with": wanted}


@pytest.mark.long
async def test_declining_says_that_nothing_is_called_and_what_the_agent_is_told(
    bench: Bench,
) -> None:
    wait, screen = await opened(bench)
    await bench.press("right", "space")
    await bench.sees("refund is not called; the agent sees no reason")
    screen.form.rows["reason"].editor.focus()
    await bench.press(*"too much")
    assert "refund is not called; the agent sees: too much" in card(screen)
    await bench.press("ctrl+s")
    await bench.sees("refund is not called; the agent sees: too much")
    await bench.press("ctrl+s")
    assert await result(bench, wait) == {"declined": "too much"}


@pytest.mark.long
async def test_the_pane_shows_the_call_and_a_text_of_its_own_beside_it(bench: Bench) -> None:
    await bench.ask("call", body="Mind the *limit* of a month.")
    await bench.open()
    await bench.inbox(1)
    await bench.sees("amount.cents     4200")
    await bench.sees("Mind the limit of a month.")
    assert "decline  refund is not called; the agent" in bench.text()


@pytest.mark.long
async def test_the_pane_counts_arguments_that_it_has_no_room_for(bench: Bench) -> None:
    asked = {f"n{number:02}": number for number in range(30)}
    await bench.ask("call", known=False, tool="count", arguments=asked)
    await bench.open()
    await bench.inbox(1)
    await bench.sees("… 18 more")


@pytest.mark.long  # tests/review/test_question.py
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("key", ["a", pytest.param("n", marks=pytest.mark.long)])
async def test_no_argument_is_left_out_above_the_decision(
    bench: Bench, size: tuple[int, int], key: str
) -> None:
    asked = {f"n{number:02}": number for number in range(29)} | {"last": "x" * 900 + "!"}
    await bench.ask("call", known=False, tool="count", arguments=asked)
    await bench.open(size=size)
    await bench.inbox(1)
    await bench.press(key)
    screen = await bench.form()
    assert "more" not in card(screen)
    assert all(f"n{number:02}" in card(screen) for number in range(29))
    assert "x!" in card(screen).replace("\n", "")
    await bench.sees("n00   0")  # it is read from its beginning
    seen = ""
    for _ in range(12):
        seen += bench.text()
        await bench.press("pagedown")
    assert all(f"n{number:02}   {number}" in seen for number in range(29))
    assert "( ) decline" in seen


@pytest.mark.long  # what is sent: tests/review/test_question.py, tests/forms/test_tool_call.py
async def test_nothing_is_chosen_beforehand_and_so_nothing_is_sent(bench: Bench) -> None:
    wait, screen = await opened(bench)
    for _ in range(3):
        await bench.press("ctrl+s")
        await bench.sees("Not sent: choose approve or decline first")
    assert not screen.submission.is_reviewing
    assert (await bench.wait(wait["id"]))["status"] == "pending"
    assert "suggested" not in bench.text()


@pytest.mark.long  # tests/cli/test_next_call.py
async def test_declining_asks_only_why_and_sends_no_arguments(bench: Bench) -> None:
    wait, screen = await opened(bench)
    await bench.press("e")
    cents = screen.form.rows["arguments.amount.cents"]
    cents.editor.focus()
    await bench.press("9", "shift+tab", "shift+tab", "d")
    assert screen.focused is screen.form.rows["reason"].editor
    assert "cents *" not in bench.text()
    await bench.press("tab", *"too much")  # the hand that goes on by itself
    assert screen.form.cells()["reason"] == "too much"
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    assert screen.submission.data == {"decision": "decline", "reason": "too much"}
    await bench.press("escape")
    await bench.press("1")
    await bench.sees("cents *")
    await bench.press("d", "ctrl+s")
    await bench.sees("^s sends it.")
    await bench.press("ctrl+s")
    assert await result(bench, wait) == {"declined": "too much"}
    [record] = await bench.records(wait["session"]["id"], "approvals")
    assert record["data"] == {"decision": "decline", "reason": "too much"}


async def test_what_a_call_says_never_acts_on_the_terminal(bench: Bench) -> None:
    hostile = {"\x1b[2J\u202ename": "\x1b]0;owned\x07", "[bold]x[/]": "[@click=quit]y[/]"}
    await opened(bench, known=False, tool="\x1b[31mrm [red]", arguments=hostile)
    shown = bench.text()
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert "[@click=quit]y[/]" in shown
    assert "rm [red]" in shown


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="goldens are of Python 3.11")
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_screens(bench: Bench, size: tuple[int, int]) -> None:
    wait = await bench.ask("call")
    assert wait["initial"]["arguments"] == ASKED
    await bench.open(size=size, name="prod-eu")
    inbox = await bench.inbox(1)
    await bench.until(lambda: inbox._previews)
    tail = f"{size[0]}x{size[1]}"
    await look(bench, f"call-inbox-{tail}")
    await bench.press("a")
    screen = await bench.form()
    await bench.press("1")
    await bench.until(lambda: screen.entries)
    await bench.press("e")
    screen.form.rows["arguments.amount.cents"].editor.focus()
    await bench.press("backspace", "backspace")
    await bench.until(lambda: screen.draft_state == "draft saved")
    await look(bench, f"call-answer-{tail}")
    await bench.press("ctrl+s")
    await bench.sees("This is sent, exactly")
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    await look(bench, f"call-review-{tail}")
