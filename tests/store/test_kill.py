"""kill -9 of the process that commits: nothing acknowledged is lost, nothing is torn (S-60, S-63)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.clock import FakeClock
from runtime.store.duck.ledger import open_ledger
from tests.store.sessions import SMALL

KILLS = 20
PROJECT = Path(__file__).resolve().parents[2]


def acknowledged_until_killed(path: Path, lines: int) -> dict[str, tuple[int, str]]:
    """Run the child until it has acknowledged so many lines, kill it, return the last per session."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.committing_child", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    guard = threading.Timer(40, child.kill)
    guard.start()
    acknowledged: dict[str, tuple[int, str]] = {}
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "open\n"
        for count, line in enumerate(child.stdout, start=1):
            if count == lines:
                child.send_signal(signal.SIGKILL)
            fields = line.split()
            if line.endswith("\n") and len(fields) == 3:
                acknowledged[fields[0]] = (int(fields[1]), fields[2])
    finally:
        child.kill()
        child.wait()
        guard.cancel()
        child.stdout.close()
    return acknowledged


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.allows_blocking
async def test_nothing_acknowledged_is_lost_over_twenty_kills(path):
    total = 0
    for kill in range(KILLS):
        acknowledged = acknowledged_until_killed(path, lines=10 + 17 * kill)
        ledger = await open_ledger(path, clock=FakeClock(), settings=SMALL)
        for session_id, (seq, hashed) in acknowledged.items():
            head = ledger.book.heads[session_id]
            assert head.next_seq > seq
            found = await ledger.hash_at(head, seq)
            assert found is not None
            assert found[1].hex() == hashed
            assert await ledger.verify_chain(session_id) == head.next_seq - 1
            total += 1
        await ledger.close()
    assert total >= KILLS
