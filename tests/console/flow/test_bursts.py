"""What is typed in one burst is taken as if it was typed slowly, whatever kind of field it goes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helmr.person.review.sending import READS_S
from tests.console.flow import kinds
from tests.console.flow.bursts import one_form
from tests.console.flow.kinds import FIRST_ROW, KINDS, REVIEW
from tests.console.flow.terminal import Terminal
from tests.service.stack import Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

SOME_KINDS = ["text", "choice", "long", "json", "rows", "letters", "joiners"]
"""Those whose widgets take keys in ways of their own."""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with a form of each kind."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=kinds.REGISTRY)
    try:
        await found.start(sessions_per_host=4)
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def terminal(stack: Stack, tmp_path: Path) -> AsyncIterator[Terminal]:
    """The installed console on a terminal."""
    found = Terminal(120, 36)
    await found.start(stack.url, stack.key, tmp_path, "--on-behalf-of", "ana", "--undo-for", "0s")
    await found.sees("No waits need an answer")
    yield found
    await found.close()


@pytest.fixture
async def holding(stack: Stack, tmp_path: Path) -> AsyncIterator[Terminal]:
    """A console that holds what was confirmed, long enough for a test."""
    found = Terminal(120, 36)
    await found.start(stack.url, stack.key, tmp_path, "--on-behalf-of", "ana", "--undo-for", "60s")
    await found.sees("No waits need an answer")
    yield found
    await found.close()


@pytest.mark.long  # tests/review/test_held_keys.py, test_hurried.py
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "asked", [SOME_KINDS, pytest.param(list(KINDS), marks=pytest.mark.long)], ids=["some", "all"]
)
async def test_a_form_filled_in_one_burst_sends_what_was_typed(
    stack: Stack, terminal: Terminal, asked: list[str]
) -> None:
    """Kinds of fields: the list, the form, its fields and its review, in one write."""
    for kind in asked:
        sent = await one_form(stack, kind, terminal.press, terminal.sees)
        assert sent == KINDS[kind].sent, kind


@pytest.mark.long
async def test_a_second_review_key_in_the_burst_is_nothing(
    stack: Stack, terminal: Terminal
) -> None:
    """So quickly nobody presses a key twice: it is held down."""
    receipt = await stack.started("fill", {"kind": "choice"})
    await terminal.sees("Form choice")
    await terminal.press(f"{FIRST_ROW}a{KINDS['choice'].typed}{REVIEW}{REVIEW}")
    await terminal.sees('"decision": "reject"')
    await terminal.sees("^s sends it.")
    wait = receipt["session"]["wait"]["id"]
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
    await terminal.press(REVIEW)
    await terminal.sees("✓ ")


@pytest.mark.long
async def test_answers_to_several_waits_typed_ahead_reach_each_its_own(
    stack: Stack, terminal: Terminal
) -> None:
    """From the sending of one to the form of the next: keys wait for what comes back."""
    runs = [await stack.started("fill", {"kind": "text"}) for _ in range(2)]
    await terminal.sees("2 waits")
    await terminal.press(f"{FIRST_ROW}a{KINDS['text'].typed}{REVIEW}")
    await terminal.sees("^s sends it.")
    await terminal.press(f"{REVIEW}aOak\tBasel{REVIEW}")
    await terminal.sees('"city": "Basel"')
    await terminal.sees("^s sends it.")
    await terminal.press(REVIEW)
    await terminal.sees("No waits need an answer")
    sent = []
    for receipt in runs:
        path = f"/v1/sessions/{receipt['session']['id']}/inputs/kind-text"
        sent += [record["data"]["city"] for record in (await stack.http.get(path)).json()["items"]]
    assert sorted(sent) == ["Basel", "Bern"]


@pytest.mark.long  # tests/review/test_held_keys.py, test_hurried.py
async def test_one_by_one_a_burst_answers_the_wait_that_could_be_read_and_no_other(
    stack: Stack, holding: Terminal
) -> None:
    """Chosen and confirmed again and again in one write: one answer is held, the next wait is only asked."""
    runs = [await stack.started("fill", {"kind": "choice", "name": str(n)}) for n in range(3)]
    await holding.sees("3 waits")
    await holding.press(FIRST_ROW)
    for number in range(3):
        await holding.sees(f"Form choice {number}?")  # the count may be there before the rows
    await holding.press(f"{FIRST_ROW}n")
    await holding.sees("1 of 3 > Form choice")
    await holding.sees("not complete yet")  # the form is there, drafts looked for
    await asyncio.sleep(READS_S)
    await holding.press(f"a{REVIEW}" * 5)
    await holding.sees("typed before this could be read")
    await holding.sees("2 of 3 > Form choice")
    await holding.sees("sends in")
    assert "pending, last" not in holding.text(), "one of them only"
    await holding.press("u")
    await holding.sees("1 of 3 > Form choice")
    await holding.press("\x1b")
    await holding.sees("3 waits")
    for receipt in runs:
        path = f"/v1/sessions/{receipt['session']['id']}/inputs/kind-choice"
        assert (await stack.http.get(path)).json()["items"] == []


@pytest.mark.long
async def test_a_held_form_in_one_burst_is_not_sent_before_it_could_be_read(
    stack: Stack, holding: Terminal
) -> None:
    receipt = await stack.started("fill", {"kind": "number"})
    await holding.sees("Form number")
    await holding.press(f"{FIRST_ROW}a{KINDS['number'].typed}{REVIEW}")
    await holding.sees("typed before this could be read")
    await asyncio.sleep(READS_S)
    await holding.press(REVIEW)
    await holding.sees("sends in")
    await holding.sees("No waits need an answer")
    holding.process.kill()
    await holding.ended()
    wait = receipt["session"]["wait"]["id"]
    assert (await stack.http.get(f"/v1/waits/{wait}")).json()["status"] == "pending"
