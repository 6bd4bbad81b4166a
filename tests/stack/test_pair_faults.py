"""A pair under load beside a store: whatever stops, nothing acknowledged is lost, and nothing is there twice.

One client with both addresses sends all the time, and one speaks to the first runtime alone, so that what a superseded
one would acknowledge is noticed.
"""

from __future__ import annotations

import os
import shutil
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
from helmr.hash_seed import FILE as HASH_SEED
from helmr_runtime.launchers.runtime import SUPERSEDED
from helmr_runtime.process.spec import RING_NAME
from tests import reaper
from tests.ledger.store_servers import Seaweed, seaweed_program, seaweed_server
from tests.ordinary.stand_in import PostgresServer, own_postgres
from tests.stack.cut import Cut
from tests.stack.live import LiveRuntime, until
from tests.stack.test_pair import is_at_work, is_level, log_of

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


class Pair:
    """Two runtimes in one process each; each reaches the store by a connection that can be cut."""

    def __init__(self, folder: Path, urls: tuple[str, str]) -> None:
        self.first, self.second = (
            self._machine(folder / name, url)
            for name, url in zip(("first", "second"), urls, strict=True)
        )
        self.first.start()
        self.second.data_dir.mkdir(mode=0o700)
        for name in (RING_NAME, HASH_SEED):
            shutil.copy(self.first.data_dir / name, self.second.data_dir / name)
        self.stand_by(self.second)
        key = self.first.client.keys.create(role="admin", name="load").secret
        self.session_id = self.first.begin("echo")
        self.first.waiting(self.session_id)
        addresses = [one.credentials.url for one in (self.first, self.second)]
        self.both = Sender("both", addresses, key, self.session_id, PATIENT)
        self.stubborn = Sender("stubborn", addresses[:1], key, self.session_id, AT_ONCE)
        for one in (self.both, self.stubborn):
            one.start()
            one.more()

    @staticmethod
    def _machine(folder: Path, url: str) -> LiveRuntime:
        folder.mkdir()
        return LiveRuntime(folder, in_process=True, arguments=[f"--log={url}"])

    def stand_by(self, live: LiveRuntime) -> None:
        live.launch()
        until(lambda: is_level(live), within_s=60, what="level", seen=lambda: log_of(live))

    def ends_superseded(self, live: LiveRuntime) -> None:
        assert live._process is not None
        assert live._process.wait(60) == SUPERSEDED, log_of(live)
        live._process = None

    def judge(self, live: LiveRuntime) -> None:
        """End the load, and look for what was acknowledged at the one that is at work."""
        for one in (self.both, self.stubborn):
            one.end()
        self.has_all(live)

    def has_all(self, live: LiveRuntime) -> None:
        """What was acknowledged is there, and nothing twice."""
        entries = live.transcript(self.session_id)
        found = Counter(one.body["data"] for one in entries if one.kind == "input.accepted")
        assert [text for text, count in found.items() if count > 1] == []
        assert {*self.both.acknowledged, *self.stubborn.acknowledged} - set(found) == set()

    def close(self) -> None:
        for sender in (self.both, self.stubborn):
            sender.end()
        for live in (self.first, self.second):
            if live._process is not None and live._process.poll() is None:
                os.kill(live._process.pid, signal.SIGCONT)
            live.stop()


class Beside:
    """A pair and its store.

    Attributes:
        cut: Between the first one and the store.
    """

    def __init__(self, pair: Pair, store: PostgresServer | Seaweed, cut: Cut) -> None:
        self.pair, self.store, self.cut = pair, store, cut


@pytest.fixture(params=["postgres", "seaweed"])
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Beside]:
    """The first is at work, the second stands by, messages come."""
    with ExitStack() as stack:
        store: PostgresServer | Seaweed | None
        if request.param == "postgres":
            store = stack.enter_context(own_postgres())
            if store is None:
                pytest.skip("PostgreSQL is not installed")
            folder = reaper.folder("helmr-cut-")
            stack.callback(shutil.rmtree, folder)
            name = ".s.PGSQL.5432"
            cut = stack.enter_context(Cut(folder / name, store.folder / name))
            urls = store.url(folder), store.url()
        else:
            if seaweed_program() is None:
                pytest.skip("SeaweedFS is not installed")
            store = stack.enter_context(seaweed_server())
            cut = stack.enter_context(Cut(("127.0.0.1", 0), store.address))
            urls = store.url("log", f"http://127.0.0.1:{cut.port}"), store.url("log")
        pair = Pair(tmp_path, urls)
        stack.callback(pair.close)
        yield Beside(pair, store, cut)


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
    pair.both.more()
    os.kill(process.pid, signal.SIGCONT)
    pair.ends_superseded(pair.first)
    pair.both.more()
    pair.stand_by(pair.first)
    pair.judge(pair.second)


def test_the_network_between_primary_and_store_is_cut(beside: Beside) -> None:
    pair = beside.pair
    beside.cut.cut()
    is_at_work(pair.second)
    pair.both.more()
    beside.cut.mend()  # what was on its way arrives now
    pair.ends_superseded(pair.first)
    pair.both.more()
    pair.stand_by(pair.first)
    pair.judge(pair.second)


def test_the_store_is_killed_and_started(beside: Beside) -> None:
    """No one takes over: neither could have renewed a lease meanwhile."""
    pair = beside.pair
    beside.store.kill()
    has_passed(OUTAGE_S)
    beside.store.start()
    pair.both.more()
    pair.stubborn.more()
    until(lambda: is_level(pair.second), within_s=30, what="level")
    pair.judge(pair.first)
    pair.first.kill_all()
    is_at_work(pair.second)
    pair.has_all(pair.second)
