"""The loop of a run: what wakes it up, with files of the code's own and without."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue

import pytest

from helmr_runtime.replay.loop import TaskLoop, make_loop

SOON_S = 5.0
"""What wakes up at all does so within this."""

CALLS = 2_000


@dataclass
class Running:
    """A loop of a run in a thread of its own."""

    loop: TaskLoop
    silences: SimpleQueue[None] = field(default_factory=SimpleQueue)

    def call(self, count: int = 1) -> None:
        """Call from this thread, and wait for each."""
        for _ in range(count):
            called = threading.Event()
            self.loop.call_soon_threadsafe(called.set)
            assert called.wait(SOON_S), "the loop slept on"


@contextmanager
def running(silence_s: float = 60.0) -> Iterator[Running]:
    silences: SimpleQueue[None] = SimpleQueue()
    loop = make_loop(lambda: False, lambda: None, lambda: silences.put(None), silence_s)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Running(loop, silences)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SOON_S)
        loop.close()


def test_calls_from_another_thread_wake_it_up():
    with running() as one:
        one.call(CALLS)


def test_many_threads_wake_it_up_at_once():
    with running() as one:
        threads = [threading.Thread(target=one.call, args=(CALLS // 8,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * SOON_S)
        assert not any(thread.is_alive() for thread in threads)


def test_calls_wake_it_up_while_code_comes_to_have_a_file_and_has_none_again():
    with running() as one:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            for _ in range(CALLS // 10):
                one.loop.call_soon_threadsafe(one.loop.add_reader, ours, lambda: None)
                one.call()
                one.loop.call_soon_threadsafe(one.loop.remove_reader, ours)
                one.call()


def test_a_file_of_the_code_wakes_it_up():
    with running() as one:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            read = threading.Event()
            one.loop.call_soon_threadsafe(one.loop.add_reader, ours, read.set)
            one.call()
            theirs.send(b"x")
            assert read.wait(SOON_S)
            one.loop.call_soon_threadsafe(one.loop.remove_reader, ours)
            one.call()


def test_a_timer_of_the_code_wakes_it_up():
    with running() as one:
        over = threading.Event()
        one.loop.call_soon_threadsafe(one.loop.call_later, 0.01, over.set)
        assert over.wait(SOON_S)
        assert one.silences.empty(), "it waited for something that it knew of"


def test_silence_is_told_when_nothing_wakes_it_up_and_not_before():
    with running(silence_s=0.3) as one:
        one.call(10)
        assert one.silences.empty()
        one.silences.get(timeout=SOON_S)


def test_a_loop_that_waits_at_files_sleeps_until_there_is_something():
    woken = SimpleQueue[None]()
    loop = make_loop(lambda: False, lambda: woken.put(None), lambda: None, 60.0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop.add_reader(ours, lambda: None)
        # Woken up once before it has slept: once it looks at once, then it sleeps.
        loop.call_soon_threadsafe(loop.call_later, 0.2, loop.stop)
        loop.run_forever()
        loop.remove_reader(ours)
    loop.close()
    assert woken.qsize() <= 3


@pytest.mark.parametrize("has_file", [False, True])
def test_what_an_executor_returns_wakes_it_up(has_file: bool) -> None:
    loop = make_loop(lambda: False, lambda: None, lambda: None, 60.0)
    ours, theirs = socket.socketpair()

    async def work() -> int:
        if has_file:
            loop.add_reader(ours, lambda: None)
        async with asyncio.timeout(SOON_S):
            found = await asyncio.to_thread(lambda: 5)
        loop.remove_reader(ours)
        return found

    with ours, theirs:
        ours.setblocking(False)
        assert loop.run_until_complete(work()) == 5
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
