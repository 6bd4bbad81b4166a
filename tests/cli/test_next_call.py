"""`helmr next` asks leave for a tool's call: the call in rows, each argument to change, what each decision does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import call_tasks
from tests.cli.test_next import Person, asks, output
from tests.longer import long_but
from tests.service.stack import Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with a task that asks leave."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=call_tasks.REGISTRY)
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def person(stack: Stack, tmp_path: Path) -> AsyncIterator[Person]:
    found = Person(stack, tmp_path)
    yield found
    await found.terminal.close()


SHOWN = """\
  tool  refund
    customer: ada
    amount.cents: 4200
    amount.currency: EUR
  approve: refund is called with these arguments
  decline: refund is not called; the agent sees the reason
  1 a  approve
  2 d  decline
"""


@long_but(1, "known", [True, False], ids=["schema of the tool", "any object"])
async def test_a_call_is_approved_with_an_argument_changed(
    stack: Stack, person: Person, known: bool
) -> None:
    receipt = await asks(stack, "call", known=known)
    await person.begins("--undo-for", "1s")
    assert SHOWN in await person.reads("[1-2, a approve, d decline")
    await person.reads("] ")
    await person.types("a")
    await person.reads("Arguments of refund: y changes what is there, Enter leaves it [n] ")
    await person.types("y")
    for prompt, typed in (("customer", ""), ("cents", "1000"), ("currency", ""), ("reason", "")):
        await person.reads(prompt)
        await person.reads(": ")
        await person.types(typed)
    told = await person.reads("amount.cents: 4200 -> 1000\r\n")
    assert "  refund is called with 1 value changed\n" in told
    assert await person.terminal.ended() == 0
    wanted = {"customer": "ada", "amount": {"cents": 1000, "currency": "EUR"}}
    assert await output(stack, receipt) == {"called with": wanted}


@pytest.mark.long  # tests/review/test_question.py
async def test_who_declines_is_asked_for_a_reason_only(stack: Stack, person: Person) -> None:
    receipt = await asks(stack, "call")
    await person.begins("--undo-for", "1s")
    await person.reads("] ")
    await person.types("d")  # as in the console; to delegate is the whole word here
    told = await person.reads("reason")
    assert "Arguments of" not in told
    await person.reads(": ")
    await person.types("too much")
    await person.reads("refund is not called; the agent sees: too much")
    assert await person.terminal.ended() == 0
    assert await output(stack, receipt) == {"declined": "too much"}


async def test_nothing_is_chosen_beforehand_and_declining_sends_no_arguments(
    stack: Stack, person: Person, tmp_path: Path
) -> None:
    receipt = await asks(stack, "call")
    await person.begins("--undo-for", "1s")
    told = await person.reads("[1-2, a approve, d decline")
    assert "suggested" not in told, "a tool that asks leave suggests nothing"
    await person.reads("] ")
    await person.types("")
    await person.reads("that is not one of the choices")
    await person.reads("delegate, z")
    await person.reads("] ")
    await person.types("d")
    await person.reads("reason")
    await person.reads(": ")
    await person.types("")
    assert 'answer: {"decision": "decline"}' in await person.reads("sends in")
    assert await person.terminal.ended() == 0
    assert await output(stack, receipt) == {"declined": None}


@pytest.mark.long  # tests/review/test_question.py
async def test_a_text_of_its_own_is_shown_beside_the_call_and_nothing_acts_on_the_terminal(
    stack: Stack, person: Person
) -> None:
    hostile = {f"\x1b[2J{n}": "\x1b]0;owned\x07" for n in range(20)}
    tool = "\x1b[31mrm"
    await asks(stack, "call", known=False, tool=tool, arguments=hostile, body="Mind the limit.")
    await person.begins()
    shown = await person.reads("] ")
    assert "Mind the limit." in shown
    assert all(f"{number}: " in shown for number in range(20)), "no argument is left out"
    assert "more:" not in shown
    await person.types("q")
    assert await person.terminal.ended() == 0
    assert b"\x1b" not in person.terminal.raw
