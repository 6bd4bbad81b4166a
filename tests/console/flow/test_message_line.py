"""What the second line says where: receipts beside what is in front, refusals on top, gone with the next key."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

import pytest

from helmr_console.screens.submit import TOO_SOON
from tests.console.flow.bench import Bench
from tests.console.flow.test_held import HOLD_S, form_on

HANG_S = 60.0


def second_line(bench: Bench) -> str:
    return bench.text().splitlines()[1]


async def test_a_receipt_stands_beside_the_review_of_the_next_wait(bench: Bench) -> None:
    first = await bench.ask(subject="First #402?", timeout="5m")
    second = await bench.ask(subject="Second #403?", timeout="9m")
    await bench.open(hold_s=HOLD_S, size=(160, 36))
    await bench.inbox(2)
    await bench.press("n")
    await form_on(bench, first)
    await bench.press("a", "ctrl+s")
    await form_on(bench, second)
    await bench.advance(6)
    await bench.stack.run_until(first["run"]["id"], "succeeded")
    await bench.sees("✓ First #402?")
    line = second_line(bench)
    assert "2 of 2 > Second #403?" in line
    assert line.index("Second #403?") < line.index("✓ First #402?")


async def test_a_refusal_stays_until_it_could_be_read_and_a_receipt_does_not_cover_it(
    bench: Bench,
) -> None:
    wait = await bench.ask(subject="First?", timeout="5m")
    await bench.open(size=(120, 36))
    await bench.inbox(1)
    console = bench.app.shared
    await bench.press("a")
    await form_on(bench, wait)
    console.say(TOO_SOON, "warning")
    console.say("Accepted: another; the run goes on", "receipt")
    await bench.sees(f"! {TOO_SOON}")
    assert "Accepted" not in second_line(bench)
    stands = console.line.front(console.store.mono())
    assert stands is not None
    console.line._front = replace(stands, shown_s=monotonic() + HANG_S)
    await bench.press("tab")  # typed before it could be read: it stays
    assert TOO_SOON in second_line(bench)
    console.line._front = None
    console.say(TOO_SOON, "warning")
    shown = console.line.front(console.store.mono())
    assert shown is not None
    await bench.until(lambda: monotonic() - shown.shown_s > 0.3)
    await bench.press("tab")
    assert TOO_SOON not in second_line(bench)


@pytest.mark.long  # what may stand there: tests/console/pure/test_message_line.py
async def test_that_nothing_is_new_is_no_error(bench: Bench) -> None:
    await bench.ask(subject="First?", timeout="5m")
    await bench.open()
    await bench.inbox(1)
    await bench.press("full_stop")
    line = second_line(bench)
    assert "Merge: nothing is new" in line
    assert "!" not in line
    await bench.press("L")
    assert "Conflicts: no answer of yours" in second_line(bench)
    assert "!" not in second_line(bench)
    await bench.press("j")
    assert "Conflicts" not in second_line(bench)


@pytest.mark.long  # what may stand there: tests/console/pure/test_message_line.py
async def test_what_a_form_lacks_is_not_said_over_the_review_of_the_mended_form(
    bench: Bench,
) -> None:
    await bench.ask("order", subject="Order pens?")
    await bench.open(size=(120, 36))
    await bench.inbox(1)
    await bench.press("a")
    screen = await bench.form()
    await bench.press("ctrl+s")
    await bench.sees("field(s) need something else")
    said = bench.app.shared.line.front(bench.app.shared.store.mono())
    assert said is not None
    await bench.until(lambda: monotonic() - said.shown_s > 0.3)
    await bench.press("f2")
    assert "need something else" not in second_line(bench)
    assert screen.submission.phase.value == "form"
