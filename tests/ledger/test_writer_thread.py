"""The thread in which a ledger is written."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from helmr_runtime.ledger.log.group import WriterThread


async def test_calls_are_made_in_order_and_in_one_thread():
    thread = WriterThread("writer-of-the-test")
    made: list[tuple[int, str]] = []

    def call(number: int) -> int:
        made.append((number, threading.current_thread().name))
        return number

    asked = [thread.run(call, number) for number in range(100)]
    assert await asyncio.gather(*asked) == list(range(100))
    assert made == [(number, "writer-of-the-test") for number in range(100)]
    thread.end()


async def test_whoever_asked_is_told_what_it_raised_and_the_thread_goes_on():
    thread = WriterThread("writer-of-the-test")

    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(OSError, match="full"):
        await thread.run(fail, OSError("full"))
    with pytest.raises(KeyboardInterrupt):
        await thread.run(fail, KeyboardInterrupt())
    assert await thread.run(int, "5") == 5
    thread.end()


async def test_a_call_whose_caller_has_gone_is_made_all_the_same():
    thread = WriterThread("writer-of-the-test")
    may_go_on, was_made = threading.Event(), threading.Event()
    first = thread.run(may_go_on.wait, 5)
    gone = thread.run(was_made.set)
    gone.cancel()
    may_go_on.set()
    assert await first
    assert await thread.run(was_made.wait, 5)
    thread.end()


def test_what_ends_after_its_loop_is_told_to_nobody():
    may_go_on, is_over = threading.Event(), threading.Event()

    async def begin() -> WriterThread:
        thread = WriterThread("writer-of-the-test")
        thread.run(may_go_on.wait, 5)
        thread.run(is_over.set)
        return thread

    thread = asyncio.run(begin())
    may_go_on.set()
    assert is_over.wait(5)
    thread.end()


NEVER_CLOSED = """
import asyncio, time
from helmr_runtime.ledger.log.group import WriterThread

async def begin():
    thread = WriterThread("writer-of-the-test")
    thread.run(time.sleep, 0.3)
    thread.run(print, "done")

asyncio.run(begin())
"""


def test_a_process_that_ends_waits_for_what_was_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", NEVER_CLOSED], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "done\n"
    assert done.stderr == ""
