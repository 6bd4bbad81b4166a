"""Threads are started while whoever asks for them goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from helmr_runtime.replay import driver
from helmr_runtime.replay.driver import ThreadStarter

WITHIN_S = 10.0


class Slow(threading.Thread):
    """Is asked for a while before it starts."""

    def __init__(self, may_start: threading.Event, target: Callable[[], object]) -> None:
        super().__init__(target=target, daemon=True)
        self._may_start = may_start

    def start(self) -> None:
        assert self._may_start.wait(WITHIN_S)
        super().start()


class Refused(threading.Thread):
    """Can't be started for so many times: the system has no room for another thread."""

    def __init__(self, times: int, target: Callable[[], object]) -> None:
        super().__init__(target=target, name="helmr-run_1", daemon=True)
        self._times = times

    def start(self) -> None:
        if self._times:
            self._times -= 1
            raise RuntimeError("can't start new thread")
        super().start()


def test_who_asks_goes_on_before_the_thread_runs() -> None:
    may_start, ran = threading.Event(), threading.Event()
    ThreadStarter().start(Slow(may_start, ran.set))
    assert not ran.is_set()
    may_start.set()
    assert ran.wait(WITHIN_S)


def test_threads_start_in_the_order_in_which_they_were_asked_for() -> None:
    starter, may_start = ThreadStarter(), threading.Event()
    first, second = threading.Event(), threading.Event()
    starter.start(Slow(may_start, first.set))
    starter.start(threading.Thread(target=second.set, daemon=True))
    assert not second.wait(0.05)
    may_start.set()
    assert second.wait(WITHIN_S)
    assert first.wait(WITHIN_S)


def test_a_thread_that_there_is_no_room_for_starts_when_there_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver, "RETRY_S", 0.01)
    ran, behind = threading.Event(), threading.Event()
    starter = ThreadStarter()
    starter.start(Refused(3, ran.set))
    starter.start(threading.Thread(target=behind.set, daemon=True))
    assert ran.wait(WITHIN_S)
    assert behind.wait(WITHIN_S)
    assert caplog.messages == ["helmr-run_1 waits: the system has no room for another thread"]


def test_a_thread_that_was_started_before_holds_up_none_behind_it() -> None:
    starter, again, behind = ThreadStarter(), threading.Thread(target=int), threading.Event()
    again.start()
    starter.start(again)
    starter.start(threading.Thread(target=behind.set, daemon=True))
    assert behind.wait(WITHIN_S)


def test_where_there_is_no_room_for_the_starting_thread_nothing_starts_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is told that a run's thread did not start may start another one for it."""
    starter, refused, ran = ThreadStarter(), threading.Event(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Thread", lambda **given: Refused(1, given["target"]))
        with pytest.raises(RuntimeError, match="can't start new thread"):
            starter.start(threading.Thread(target=refused.set, daemon=True))
    starter.start(threading.Thread(target=ran.set, daemon=True))
    assert ran.wait(WITHIN_S)
    assert not refused.is_set()


def test_where_the_starting_thread_is_gone_another_one_starts() -> None:
    """As in a fork, where no thread but the one that forked lives on."""
    starter, ran = ThreadStarter(), threading.Event()
    starter._thread = threading.Thread()
    starter.start(threading.Thread(target=ran.set, daemon=True))
    assert ran.wait(WITHIN_S)
