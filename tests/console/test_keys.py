"""Keys are given one at a time, and nothing that hangs can lock the keyboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.app import App, ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.worker import Worker

from helmr.person.review import sending
from helmr_console import keys
from helmr_console.keys import KeyLine

HOPS = 12
"""Messages that one key of `Slow` sets off, one after the other."""


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


class Slow(Widget, can_focus=True):
    """Writes a key down only after a chain of messages; `h` hangs."""

    class Hop(Message):
        def __init__(self, key: str, left: int) -> None:
            super().__init__()
            self.key = key
            self.left = left

    def __init__(self, seen: list[str], hang: asyncio.Event) -> None:
        super().__init__()
        self.seen = seen
        self.hang = hang

    async def on_key(self, event: events.Key) -> None:
        self.seen.append(f"{event.key} read")
        if event.key == "h":
            await self.hang.wait()
        self.post_message(self.Hop(event.key, HOPS))

    def on_slow_hop(self, message: Hop) -> None:
        if message.left:
            self.post_message(self.Hop(message.key, message.left - 1))
        else:
            self.seen.append(f"{message.key} done")


class Typed(App[int]):
    """One `Slow` behind a line of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.left_out = 0
        self.hang = asyncio.Event()
        self.keys = KeyLine(self, left_out=self._left)

    def _left(self, count: int) -> None:
        self.left_out += count

    def compose(self) -> ComposeResult:
        yield Slow(self.seen, self.hang)

    def on_mount(self) -> None:
        self.query_one(Slow).focus()
        self.giving = asyncio.create_task(self.keys.run())

    def on_unmount(self) -> None:
        self.giving.cancel()

    async def on_event(self, event: events.Event) -> None:
        if not self.keys.takes(event):
            await super().on_event(event)

    def burst(self, *names: str) -> None:
        """As a driver reads them: all at once."""
        for name in names:
            self.post_message(events.Key(name, name if len(name) == 1 else None))


async def test_a_key_is_given_when_what_the_one_before_set_off_is_done() -> None:
    app = Typed()
    async with app.run_test():
        app.burst("a", "b", "c")
        await until(lambda: app.seen and app.seen[-1] == "c done")
    assert app.seen == [f"{key} {what}" for key in "abc" for what in ("read", "done")]


async def test_keys_wait_for_work_that_decides_where_they_belong() -> None:
    app = Typed()
    async with app.run_test():
        reading = asyncio.Event()

        async def read() -> None:
            await reading.wait()
            app.seen.append("the form is there")

        worker: Worker[None] = app.run_worker(read())
        app.keys.hold(worker)
        app.burst("a")
        await until(lambda: worker.is_running)
        for _ in range(50):
            await asyncio.sleep(0)
        assert app.seen == []
        reading.set()
        await until(lambda: len(app.seen) == 3)
    assert app.seen == ["the form is there", "a read", "a done"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds, at a fiftieth."""
    monkeypatch.setattr(keys, "STUCK_S", keys.STUCK_S / 50)
    monkeypatch.setattr(keys, "SETTLES_WITHIN_S", keys.SETTLES_WITHIN_S / 50)


@pytest.mark.usefixtures("impatient")
async def test_what_hangs_can_not_lock_the_keyboard() -> None:
    """^q is typed behind keys that can't be given: it ends the app, they are left out."""
    app = Typed()
    async with app.run_test():
        app.burst("h", "a", "b", "ctrl+q")
        await until(lambda: app._exit)
        app.hang.set()
    assert app.left_out == 2
    assert app.seen[:1] == ["h read"]
    assert "a read" not in app.seen


@pytest.mark.usefixtures("impatient")
async def test_keys_typed_while_something_hangs_are_left_out_and_said_not_given_late() -> None:
    app = Typed()
    async with app.run_test():
        app.burst("h", "a", "b")
        await until(lambda: app.left_out)
        assert app.left_out == 2
        app.hang.set()
        await until(lambda: app.keys.is_still)
        app.burst("c")
        await until(lambda: app.seen[-1] == "c done")
    assert app.seen == ["h read", "h done", "c read", "c done"]


async def test_a_screen_that_others_keep_busy_does_not_hold_keys_back() -> None:
    app = Typed()
    async with app.run_test():
        slow = app.query_one(Slow)
        busy = True

        async def go_on() -> None:
            await asyncio.sleep(0)  # a turn for everything else
            if busy:
                slow.call_later(go_on)

        slow.call_later(go_on)
        app.burst("a", "b")
        await until(lambda: "b done" in app.seen)
        busy = False
    assert app.left_out == 0


# --- a key that is held down

CONFIRMS = "ctrl+s"
HELD_EVERY_S = 0.033


def read(line: KeyLine, *at_s: float, key: str = CONFIRMS) -> list[events.Key]:
    """A key that comes at these times; what of it is in the line."""
    for time_s in at_s:
        pressed = events.Key(key, None)
        pressed.time = time_s
        line.takes(pressed)
    return [event for event in line._line if isinstance(event, events.Key)]


def confirming() -> KeyLine:
    line = KeyLine(App[None](), left_out=lambda count: None)
    line.confirming = frozenset({CONFIRMS})
    return line


@given(
    first_s=st.sampled_from([HELD_EVERY_S, 0.25, 0.5, sending.REPEATS_WITHIN_S - 0.01]),
    count=st.integers(2, 60),
)
def test_however_long_a_confirming_key_is_held_down_it_comes_once(
    first_s: float, count: int
) -> None:
    repeats = [100 + first_s + number * HELD_EVERY_S for number in range(count)]
    assert [one.time for one in read(confirming(), 100.0, *repeats)] == [100.0]


def test_two_presses_come_twice_and_any_other_key_as_often_as_it_is_read() -> None:
    apart_s = sending.REPEATS_WITHIN_S
    assert len(read(confirming(), 100.0, 100 + apart_s, 100 + 2 * apart_s)) == 3
    assert len(read(confirming(), *(100 + n * HELD_EVERY_S for n in range(9)), key="j")) == 9


def test_a_press_right_after_repeats_is_taken_for_one_of_them_and_the_next_is_not() -> None:
    """Nothing is said of it: it can't be told from them, and nothing could be read since."""
    repeats = [100.3 + number * HELD_EVERY_S for number in range(9)]
    at_once = repeats[-1] + sending.REPEAT_S / 2
    then = at_once + sending.REPEATS_WITHIN_S
    assert [one.time for one in read(confirming(), 100.0, *repeats, at_once)] == [100.0]
    assert [one.time for one in read(confirming(), 100.0, *repeats, at_once, then)] == [100.0, then]


def test_what_is_known_of_a_press_is_known_while_it_has_its_turn() -> None:
    """Repeats that a slow line brings apart are no repeats, yet too quick to confirm what was not there before."""
    line = confirming()
    first, second = read(line, 100.0, 100.3)
    line._give(first)
    assert not line.press.is_again
    line._give(second)
    assert line.press.is_again
    assert line.press.may_be_repeat
    other = events.Key("j", None)
    line._give(other)
    assert not line.press.is_again


class Unread(KeyLine):
    """A line at a terminal with something unread, until a test has it read."""

    unread = False

    def _is_unread(self) -> bool:
        return self.unread


class AtTerminal(Typed):
    """`Typed`, at such a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: Unread = Unread(self, left_out=self._left)
        self.keys.confirming = frozenset({CONFIRMS})


async def test_a_key_is_up_when_nothing_is_unread_and_not_merely_after_some_time() -> None:
    """However late a busy machine reads what was typed: a repeat is never taken for a press."""
    app = AtTerminal()
    async with app.run_test():
        app.keys.unread = True
        app.burst(CONFIRMS)
        await until(lambda: app.keys.held.read_s > 0)
        up_s = app.keys.held.read_s + sending.REPEATS_WITHIN_S
        await until(lambda: monotonic() > up_s + 0.1)
        late = events.Key(CONFIRMS, None)
        app.post_message(late)
        await until(lambda: app.keys.held.read_s == late.time)
        app.keys.unread = False
        await until(lambda: app.keys.press.read_s == late.time)
        assert app.keys.press.may_be_repeat
        await until(lambda: app.keys.held.looks_at_s is None)
        anew = events.Key(CONFIRMS, None)
        app.post_message(anew)
        await until(lambda: app.keys.press.read_s == anew.time)
        assert app.keys.press.is_again
        assert not app.keys.press.may_be_repeat


@pytest.mark.allows_blocking
async def test_a_loop_that_is_busy_does_not_move_the_time_from_which_keys_count() -> None:
    """As it draws, it looks at nothing; a key that is stamped meanwhile was typed by someone who had read."""
    app = Typed()
    async with app.run_test():
        looking = asyncio.create_task(app.keys.quiet_from(from_s := monotonic() + 0.05))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(sleep, 0.5)  # as a loop that draws
        await asyncio.sleep(0)
        read = events.Key(CONFIRMS, None)
        assert from_s <= await looking < read.time


@pytest.mark.parametrize("repeats", [0, 1])
async def test_whether_a_key_is_held_is_known_once_nothing_is_unread(repeats: int) -> None:
    app = AtTerminal()
    async with app.run_test():
        app.burst(CONFIRMS)
        await until(lambda: app.keys.press.read_s > 0)
        app.keys.unread = True
        held = asyncio.create_task(app.keys.is_held())
        late_s = app.keys.press.read_s + 2 * sending.REPEAT_S
        await until(lambda: monotonic() > late_s)
        assert not held.done()
        for _ in range(repeats):
            repeat = events.Key(CONFIRMS, None)
            repeat.time = app.keys.press.read_s + HELD_EVERY_S
            app.post_message(repeat)
        app.keys.unread = False
        assert await held is bool(repeats)
