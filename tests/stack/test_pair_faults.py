"""A pair under load beside a store: whatever stops, nothing acknowledged is lost, and nothing is there twice.

One client with both addresses sends all the time, and one speaks to the first runtime alone, so that what a superseded
one would acknowledge is noticed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helmr.client import Client, Retry
from helmr.errors import HelmrError
from helmr_runtime.core.shared_log import LEASE_S, RENEW_S
from tests.stack.live import LiveRuntime, until
from tests.stack.paired import (
    Machines,
    Store,
    ends_superseded,
    is_at_work,
    is_away,
    is_level,
    open_store,
)

pytestmark = [pytest.mark.long, pytest.mark.allows_blocking, pytest.mark.timeout(600)]

PAUSE_S = 60.0
OUTAGE_S = 12.0
"""Longer than a lease."""

EACH_S = 0.05
"""Between two messages of one sender."""

AT_ONCE = Retry(total_s=0.0)
PATIENT = Retry(total_s=30.0)


class Sender(threading.Thread):
    """Sends numbered messages to a session until it is over.

    Args:
        name: What its messages begin with.
        url: The addresses.
        key: Of the ledger.
        session_id: Of a session of the task `echo`.
    """

    def __init__(self, name: str, url: list[str], key: str, session_id: str, retry: Retry) -> None:
        super().__init__(name=name)
        self._client = Client(url=url, key=key, retry=retry)
        self._input = self._client.sessions.open(session_id).input("messages")
        self._over = threading.Event()
        self.acknowledged: list[str] = []
        self.refused = 0

    def run(self) -> None:
        number = 0
        while not self._over.wait(EACH_S):
            number += 1
            text = f"{self.name}-{number}"
            try:
                self._input.send(text)
            except (HelmrError, OSError):
                self.refused += 1
            else:
                self.acknowledged.append(text)

    def more(self, count: int = 20) -> None:
        """Return when so many more were acknowledged."""
        enough = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= enough, within_s=90, what="acknowledged")

    def end(self) -> None:
        self._over.set()
        self.join(60)
        self._client.close()


class Pair(Machines):
    """Two runtimes in one process each, and what sends to them."""

    senders: tuple[Sender, ...] = ()

    def load(self) -> None:
        """Have the first at work, the second stand by, and messages come."""
        self.start()
        self.stand_by(self.second)
        key = self.first.client.keys.create(role="admin", name="load").secret
        self.session_id = self.first.begin("echo")
        self.first.waiting(self.session_id)
        addresses = [one.credentials.url for one in self.both]
        self.patient = Sender("patient", addresses, key, self.session_id, PATIENT)
        self.stubborn = Sender("stubborn", addresses[:1], key, self.session_id, AT_ONCE)
        for one in (self.patient, self.stubborn):
            one.start()
            self.senders += (one,)
            one.more()

    def end(self) -> None:
        """End the load, if there is any."""
        for one in self.senders:
            one.end()

    def judge(self, live: LiveRuntime) -> None:
        """End the load, and look for what was acknowledged at the one that is at work."""
        self.end()
        self.has_all(live)

    def has_all(self, live: LiveRuntime) -> None:
        """What was acknowledged is there, and nothing twice."""
        entries = live.transcript(self.session_id)
        found = Counter(one.body["data"] for one in entries if one.kind == "input.accepted")
        assert [text for text, count in found.items() if count > 1] == []
        assert {*self.patient.acknowledged, *self.stubborn.acknowledged} - set(found) == set()


class Beside:
    """A pair and its store.

    Attributes:
        cut: Between the first one and the store.
    """

    def __init__(self, pair: Pair, store: Store) -> None:
        assert store.server is not None
        self.pair, self.store, self.cut = pair, store.server, store.cuts[0]


@pytest.fixture(params=["postgres", "seaweed"])
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Beside]:
    """The first is at work, the second stands by, messages come."""
    with ExitStack() as stack:
        store = stack.enter_context(open_store(request.param, tmp_path, has_cuts=True))
        if store is None:
            pytest.skip(f"{request.param} is not installed")
        pair = Pair(tmp_path, store.urls, in_process=True)
        stack.callback(pair.close)
        stack.callback(pair.end)
        pair.load()
        yield Beside(pair, store)


def has_passed(duration_s: float) -> None:
    """Return then; the load goes on."""
    ends_s = time.monotonic() + duration_s
    until(lambda: time.monotonic() >= ends_s, within_s=duration_s + 30, what="time")


def test_a_pause_of_the_primary(beside: Beside) -> None:
    pair = beside.pair
    process = pair.first._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    is_at_work(pair.second)
    has_passed(PAUSE_S)
    pair.patient.more()
    os.kill(process.pid, signal.SIGCONT)
    ends_superseded(pair.first)
    pair.patient.more()
    pair.stand_by(pair.first)
    pair.judge(pair.second)


def test_the_network_between_primary_and_store_is_cut(beside: Beside) -> None:
    pair = beside.pair
    beside.cut.cut()
    until(lambda: is_away(pair.first), within_s=LEASE_S + RENEW_S, what="not ready")
    is_at_work(pair.second)
    assert is_away(pair.first), "two of a pair are ready at once"
    pair.patient.more()
    beside.cut.mend()  # what was on its way arrives now
    ends_superseded(pair.first)
    pair.patient.more()
    pair.stand_by(pair.first)
    pair.judge(pair.second)


def test_the_store_is_killed_and_started(beside: Beside) -> None:
    """No one takes over: neither could have renewed a lease meanwhile."""
    pair = beside.pair
    beside.store.kill()
    has_passed(OUTAGE_S)
    assert is_away(pair.first)
    beside.store.start()
    pair.patient.more()
    pair.stubborn.more()
    until(lambda: is_level(pair.second), within_s=30, what="level")
    pair.judge(pair.first)
    pair.first.kill_all()
    is_at_work(pair.second)
    pair.has_all(pair.second)
