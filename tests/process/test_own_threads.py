"""Threads that session code starts itself are noted as the session's, and no others."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from helmr_runtime.host_status import SlotMark
from helmr_runtime.process.host import mark_threads
from helmr_runtime.replay.loop import code_mark
from helmr_runtime.replay.steps import StepLoop


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlotMark]:
    """Where threads that are started here are noted."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)  # put back afterwards
    mark_threads()
    made = SlotMark()
    token = code_mark.set(made)
    yield made
    code_mark.reset(token)


def test_a_thread_is_noted_until_it_ends_and_so_are_those_that_it_starts(mark: SlotMark) -> None:
    inner, outer = threading.Event(), threading.Event()
    inner_began = threading.Event()

    def within() -> None:
        inner_began.set()
        inner.wait()

    def work() -> None:
        threading.Thread(target=within).start()
        outer.wait()

    thread = threading.Thread(target=work)
    thread.start()
    assert inner_began.wait(10)
    assert mark.has_own_threads
    assert not mark.is_executing
    outer.set()
    thread.join()
    assert mark.has_own_threads
    inner.set()
    while mark.has_own_threads:
        threading.Event().wait(0.001)


def test_an_executor_is_nobodys(mark: SlotMark) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: mark.has_own_threads).result() is False


def test_without_a_session_nothing_is_noted(mark: SlotMark) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    contextvars.Context().run(thread.start)
    assert not mark.has_own_threads
    done.set()
    thread.join()


def test_one_that_can_not_start_is_not_noted(mark: SlotMark) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
    assert not mark.has_own_threads


async def test_the_step_loop_is_not_the_sessions_that_needs_it_first(mark: SlotMark) -> None:
    loop = StepLoop()
    try:
        assert not mark.has_own_threads
    finally:
        await asyncio.to_thread(loop._stop)
        atexit.unregister(loop._stop)
