"""A hurried hand says nothing that it did not mean: keys held down, numbers typed over others, texts left out."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from pydantic import BaseModel, Field

from helmr import streams, task
from helmr.person.forms import Blank
from helmr.person.review.sending import READS_S, REPEAT_S, REPEATS_WITHIN_S
from helmr_console.screens import submit
from helmr_console.screens.submit import TOO_SOON
from helmr_runtime.catalog import Registry
from tests.call_tasks import call
from tests.console.flow import tasks
from tests.console.flow.bench import Bench
from tests.console.flow.kinds import FIRST_ROW, REVIEW
from tests.console.flow.terminal import Terminal
from tests.console.flow.test_calls import result
from tests.longer import long_but

HELD_EVERY_S = 0.033
"""A key that is held down comes so often."""


class Line(BaseModel):
    sku: str
    qty: int


class Refund(BaseModel):
    cents: int = Field(ge=0)
    code: str = Field(max_length=40)
    letter: str
    lines: list[Line] = []


class Given(BaseModel):
    """What the form begins with."""

    initial: dict[str, Any] = {}


refunds = streams.input("refunds", schema=Refund)


@task(id="refund", streams=[refunds])
async def refund(given: Given) -> dict[str, Any]:
    """Asks for a refund whose fields are filled."""
    found = await refunds.wait(subject="Refund?", initial=given.initial or None).unwrap()
    return found.model_dump()


@pytest.fixture
def registry() -> Registry:
    """Also the tasks of this module."""
    return Registry(
        [tasks.publish, tasks.talk, call, refund],
        modules=["tests.console.flow.test_hurried"],
        code_hash="hurried-1",
    )


FILLED = {
    "cents": 4200,
    "code": "S2",
    "letter": "Dear Ada,",
    "lines": [{"sku": "S2", "qty": 1}],
}


async def opened(bench: Bench, task_id: str = "refund", **payload: Any) -> tuple[Any, Any]:
    """A wait, with its form on top."""
    wait = await bench.ask(task_id, **payload)
    await bench.open()
    await bench.inbox(1)
    await bench.press("a")
    return wait, await bench.form()


async def held(bench: Bench, key: str, *, for_s: float, first_s: float) -> int:
    """A key held down: pressed once, repeated from `first_s` on as a terminal does; how many came.

    Each says when it was due, as the thread that reads the terminal would: a loop that a busy machine keeps from its
    work gets them late, and at once.
    """
    began_s, count = monotonic(), 0
    due_s = began_s
    while due_s < began_s + for_s:
        await asyncio.sleep(due_s - monotonic())
        bench.app.post_message(_key(bench, key, due_s))
        due_s += HELD_EVERY_S if count else first_s
        count += 1
    await asyncio.sleep(due_s - monotonic())
    await bench.until(lambda: bench.app.shared.keys.is_still)
    return count


def _key(bench: Bench, key: str, due_s: float | None = None) -> Any:
    from textual.events import Key

    made = Key(key, None)
    made.set_sender(bench.app)
    made.time = monotonic() if due_s is None else due_s
    return made


# --- tab


@pytest.mark.long
async def test_a_key_that_leads_into_a_short_field_selects_it(bench: Bench) -> None:
    _, screen = await opened(bench, initial=FILLED)
    cells = screen.form.cells
    await bench.press(*"1000")  # the first field had the focus with the form
    assert cells()["cents"] == "1000"
    await bench.press("tab", *"X1")
    assert cells()["code"] == "X1"
    await bench.press("tab", *"!")
    assert cells()["letter"] == "Dear Ada,!", "a text is gone on with"
    await bench.press("tab", *"T7", "tab", *"42")
    assert (cells()["lines.#0.sku"], cells()["lines.#0.qty"]) == ("T7", "42")
    await bench.press("shift+tab", "shift+tab", "shift+tab", "right", *"b")
    assert cells()["code"] == "X1b", "an arrow keeps what is there"
    await bench.press("shift+tab", "backspace")
    assert cells()["cents"] == ""


@pytest.mark.long
async def test_a_click_selects_nothing(bench: Bench) -> None:
    _, screen = await opened(bench, initial=FILLED)
    editor = screen.form.rows["code"].editor
    await bench.pilot.click(editor, offset=(8, 0))
    await bench.until(lambda: screen.focused is editor)
    await bench.press(*"9")
    assert screen.form.cells()["code"] == "S29"


@pytest.mark.long
async def test_a_field_that_is_refused_is_typed_over(bench: Bench) -> None:
    _, screen = await opened(bench, initial={**FILLED, "cents": -5})
    await bench.press("tab", "ctrl+s")
    await bench.sees("! at least 0")
    await bench.press(*"7")
    assert screen.form.cells()["cents"] == "7"


# --- a key held down


@pytest.mark.parametrize(
    "first_s", [0.5, *(pytest.param(s, marks=pytest.mark.long) for s in (HELD_EVERY_S, 0.25))]
)
async def test_a_key_held_down_confirms_once(bench: Bench, first_s: float) -> None:
    """From the form to its review, however long; it is never sent by the same press."""
    wait, screen = await opened(bench, initial=FILLED)
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    assert await held(bench, "ctrl+s", for_s=1.2, first_s=first_s) > 10
    assert screen.submission.is_reviewing
    assert (await bench.wait(wait["id"]))["status"] == "pending"
    await asyncio.sleep(REPEAT_S)
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    assert await result(bench, wait) == FILLED


@pytest.mark.long
async def test_held_down_over_ten_calls_it_approves_only_what_was_confirmed(bench: Bench) -> None:
    """One is chosen; the key that confirms it stays down for seconds."""
    waits = [await bench.ask("call") for _ in range(10)]
    await bench.open(hold_s=0.5)
    await bench.inbox(10)
    await bench.press("n")
    screen = await bench.form()
    await held(bench, "ctrl+s", for_s=0.6, first_s=0.5)
    assert screen is bench.app.screen, "nothing was chosen"
    await bench.press("1")
    await held(bench, "ctrl+s", for_s=2.0, first_s=0.5)
    assert bench.app.screen.turns.queue.asked == 2
    await bench.advance(2)
    await bench.until(lambda: not len(bench.app.shared.outbox))
    states = [(await bench.wait(wait["id"]))["status"] for wait in waits]
    assert sorted(states) == ["fulfilled", *["pending"] * 9]


@pytest.mark.long
async def test_held_down_over_forms_that_are_whole_it_sends_one(bench: Bench) -> None:
    for _ in range(4):
        await bench.ask("refund", initial=FILLED)
    await bench.open(hold_s=60.0)
    await bench.inbox(4)
    await bench.press("n")
    screen = await bench.form()
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    await held(bench, "ctrl+s", for_s=1.5, first_s=0.5)
    assert len(bench.app.shared.outbox) == 1


@pytest.mark.long  # what may be a repeat: tests/review/test_held_keys.py and test_submission.py
async def test_repeats_that_come_apart_on_a_slow_line_answer_no_further_wait(bench: Bench) -> None:
    for _ in range(3):
        await bench.ask("refund", initial=FILLED)
    await bench.open(hold_s=60.0)
    await bench.inbox(3)
    await bench.press("n")
    screen = await bench.form()
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    began_s = monotonic()
    for number in range(6):
        bench.app.post_message(_key(bench, "ctrl+s", began_s + number * 0.3))
        await asyncio.sleep(0.3)
    await bench.until(lambda: bench.app.shared.keys.is_still)
    assert len(bench.app.shared.outbox) == 1
    await asyncio.sleep(REPEATS_WITHIN_S)
    await bench.press("ctrl+s")
    assert len(bench.app.shared.outbox) == 2


class LateReader:
    """A terminal whose keys a busy machine reads late: `is_unread` meanwhile, and all at once when it gets to them."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bench = bench
        self._typed = 0
        monkeypatch.setattr(type(bench.app.shared.keys), "_is_unread", lambda _: self._typed > 0)

    def types(self) -> None:
        """A key that no one reads yet."""
        self._typed += 1

    def reads(self) -> None:
        """All of them now, stamped as they are read."""
        while self._typed:
            self._typed -= 1
            self._bench.app.post_message(_key(self._bench, "ctrl+s"))


@pytest.mark.parametrize("is_read", [False, True])
@long_but(1, "count", [9, pytest.param(1, marks=pytest.mark.long)])
async def test_repeats_that_a_busy_machine_reads_late_answer_no_further_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int, is_read: bool
) -> None:
    """Stamped long after the key could repeat, and long after the next form, which is filled, was drawn.

    Whether that form could be read before the machine stood still makes no difference.
    """
    for _ in range(3):
        await bench.ask("refund", initial=FILLED)
    await bench.open(hold_s=60.0)
    await bench.inbox(3)
    await bench.press("n")
    screen = await bench.form()
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    terminal, keys = LateReader(bench, monkeypatch), bench.app.shared.keys
    bench.app.post_message(_key(bench, "ctrl+s"))
    for _ in range(count):
        terminal.types()
    await bench.until(lambda: bench.app.screen is not screen and keys.is_still)
    late_s = keys.held.read_s + REPEATS_WITHIN_S
    await bench.until(lambda: monotonic() > late_s)
    if is_read:
        bench.screen.submission.quiet_s = 0.0
    terminal.reads()
    if count == 1:
        await bench.sees(TOO_SOON)
    await bench.until(lambda: keys.held.looks_at_s is None and keys.is_still)
    assert len(bench.app.shared.outbox) == 1
    await bench.pilot.press("ctrl+s")
    await bench.until(lambda: len(bench.app.shared.outbox) == 2)


STANDS_STILL = """
import ctypes, os, pathlib, signal
libc = ctypes.PyDLL(None)  # its calls keep the interpreter's lock: no thread moves
def stand_still(*_):
    pathlib.Path(os.environ["STANDS_STILL"]).touch()
    libc.sleep(2)
signal.signal(signal.SIGUSR1, stand_still)
from helmr.cli.main import main
main()
"""


@pytest.mark.pty
@pytest.mark.allows_blocking
@pytest.mark.long
async def test_a_console_that_stood_still_takes_what_was_typed_meanwhile_for_no_answer(
    bench: Bench, tmp_path: Path
) -> None:
    """The installed console on a terminal: neither its loop nor the thread that reads keys has a turn for two
    seconds, and the one `^s` that is read then was typed right after the form came."""
    for _ in range(3):
        await bench.ask("refund", initial=FILLED)
    mark, terminal = tmp_path / "still", Terminal(120, 36)
    try:
        await terminal.run(
            "-c", STANDS_STILL, "console", "--url", bench.stack.url, "--undo-for", "60s",
            HELMR_API_KEY=bench.stack.key, XDG_STATE_HOME=str(tmp_path), STANDS_STILL=str(mark),
        )  # fmt: skip
        await terminal.sees("3 waits")
        await terminal.press(f"{FIRST_ROW}n")
        await terminal.sees("1 of 3 > Refund?")
        await terminal.sees("fits the schema")
        await asyncio.sleep(2 * READS_S)
        await terminal.press(REVIEW)
        await terminal.sees("2 of 3 > Refund?")
        terminal.process.send_signal(signal.SIGUSR1)
        await bench.until(mark.exists)
        await terminal.press(REVIEW)
        await terminal.sees(TOO_SOON)
        await terminal.sees("sends in")
        assert "pending, last" not in terminal.text(), "one of them only"
        await asyncio.sleep(2 * REPEATS_WITHIN_S)
        await terminal.press(REVIEW)
        await terminal.sees("3 of 3 > Refund?")
    finally:
        await terminal.close()


@pytest.mark.long  # what may be a repeat: tests/review/test_held_keys.py and test_submission.py
async def test_repeats_that_begin_later_than_any_key_should_answer_no_further_wait(
    bench: Bench,
) -> None:
    """As where the system is set so, or the line is slow; and a press without repeats answers."""
    for _ in range(3):
        await bench.ask("refund", initial=FILLED)
    await bench.open(hold_s=60.0)
    await bench.inbox(3)
    await bench.press("n")
    screen = await bench.form()
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    await held(bench, "ctrl+s", for_s=1.2, first_s=2 * REPEAT_S + REPEATS_WITHIN_S)
    await bench.sees(TOO_SOON)
    assert len(bench.app.shared.outbox) == 1
    await bench.until(lambda: bench.app.shared.keys.held.looks_at_s is None)
    await bench.pilot.press("ctrl+s")
    await bench.until(lambda: len(bench.app.shared.outbox) == 2)


@pytest.mark.long  # what is drawn anew is read anew: tests/review/test_submission.py
async def test_a_form_that_another_covered_before_it_could_be_read_is_sent_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "READS_S", 0.5)
    await bench.ask(subject="Publish?")
    await bench.open(hold_s=60.0)
    await bench.inbox(1)
    await bench.press("n")
    screen = await bench.form()
    await bench.press("d")
    await bench.on("DelegateScreen")
    await bench.until(lambda: bench.app.screen.submission.is_readable(monotonic()))
    await bench.press("escape")
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    await bench.press("a", "ctrl+s")
    assert len(bench.app.shared.outbox) == 1


@pytest.mark.long  # what may be a repeat: tests/review/test_held_keys.py and test_submission.py
async def test_two_presses_with_time_between_are_two(bench: Bench) -> None:
    wait, screen = await opened(bench, initial=FILLED)
    await bench.press("ctrl+s")
    await bench.until(lambda: screen.submission.is_readable(monotonic()))
    assert READS_S < REPEATS_WITHIN_S
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    assert await result(bench, wait) == FILLED


# --- what is left out


@pytest.mark.long  # tests/review/test_submission.py
async def test_a_needed_text_left_empty_is_refused_and_sent_empty_only_by_its_key(
    bench: Bench,
) -> None:
    wait, screen = await opened(bench, initial={**FILLED, "letter": "x"})
    await bench.press("tab", "tab", "backspace", "ctrl+s")
    await bench.sees("! needed")
    assert not screen.submission.is_reviewing
    await bench.press("space", "ctrl+s")
    assert not screen.submission.is_reviewing, "a space is not a text"
    await bench.press("ctrl+n")
    assert screen.form.cells()["letter"] is Blank.EMPTY
    await bench.sees("sent empty")
    await bench.press("ctrl+s")
    await bench.sees("^s sends it.")
    await bench.press("ctrl+s")
    await bench.on("InboxScreen")
    assert await result(bench, wait) == {**FILLED, "letter": ""}


@pytest.mark.long  # tests/review/test_submission.py
async def test_an_empty_message_is_not_sent(bench: Bench) -> None:
    wait, screen = await opened(bench, "talk")
    await bench.press("ctrl+s")
    await bench.sees("! needed")
    assert not screen.submission.is_reviewing
    assert (await bench.wait(wait["id"]))["status"] == "pending"
