"""kill -9 of the process that commits: nothing acknowledged is lost, nothing is torn (S-60, S-63)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from helmr.errors import TokenCompleted
from helmr_runtime.clock import FakeClock, SystemClock
from helmr_runtime.core.tokens import CompleteToken
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.completing_child import TOKENS
from tests.ledger.sessions import ALICE, SMALL
from tests.ledger.test_commits_beside_tables import assert_whole

COMPLETIONS = """
SELECT count(*), count(DISTINCT json_extract_string(body, '$.token_id')) FROM entries
WHERE kind = 'token.completed'
"""
PROJECT = Path(__file__).resolve().parents[2]


def acknowledged_until_killed(
    path: Path, lines: int, child_of: str, *arguments: str
) -> dict[str, tuple[str, str]]:
    """Run the child until it has acknowledged so many lines, kill it, return the last per session or token."""
    child = subprocess.Popen(
        [sys.executable, "-m", f"tests.ledger.{child_of}", str(path), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    guard = threading.Timer(40, child.kill)
    guard.start()
    acknowledged: dict[str, tuple[str, str]] = {}
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "open\n"
        for count, line in enumerate(child.stdout, start=1):
            if count == lines:
                child.send_signal(signal.SIGKILL)
            fields = line.split()
            if line.endswith("\n") and len(fields) == 3:
                acknowledged[fields[0]] = (fields[1], fields[2])
    finally:
        child.kill()
        child.wait()
        guard.cancel()
        child.stdout.close()
    return acknowledged


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.allows_blocking
@pytest.mark.parametrize("wal_size", ["16MB", pytest.param("64KB", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "kills", [2, pytest.param(8, marks=pytest.mark.long), pytest.param(40, marks=pytest.mark.soak)]
)
async def test_nothing_acknowledged_is_lost_over_many_kills(path, kills, wal_size):
    """With a log of 16 MB for the engine no kill meets it when it is put into the file, with one of 64 kB many do."""
    total = 0
    for kill in range(kills):
        acknowledged = acknowledged_until_killed(path, 10 + 17 * kill, "committing_child", wal_size)
        ledger = await open_ledger(path, clock=FakeClock(), settings=SMALL)
        for session_id, (last, hashed) in acknowledged.items():
            seq = int(last)
            head = ledger.index.heads[session_id]
            assert head.next_seq > seq
            found = await ledger.hash_at(head, seq)
            assert found is not None
            assert found[1].hex() == hashed
            assert await ledger.verify_chain(session_id) == head.next_seq - 1
            total += 1
        await ledger.close()
        await assert_whole(path, SystemClock())
    assert total >= kills


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.allows_blocking
async def test_completions_survive_a_kill_with_their_winner_their_use_and_their_delivery(path):
    acknowledged_tokens = cut_short = 0
    for lines in (1, 7, 23):
        acknowledged = acknowledged_until_killed(path, lines, "completing_child")
        cut_short += len(acknowledged) < TOKENS
        ledger = LedgerActor(path, clock=SystemClock(), settings=SMALL)
        items = (await ledger.work()).added
        delivered = [str(item.token_id) for item in items if item.kind == "delivery"]
        assert len(delivered) == len(set(delivered))
        for token_id, (public_token_id, winner) in acknowledged.items():
            assert (await ledger.get_token(token_id))["data"] == int(winner)
            with pytest.raises(TokenCompleted):
                await ledger.fact(CompleteToken(principal=ALICE, token_id=token_id, data="late"))
            assert (await ledger.get_public_token(public_token_id))["uses"] == 1
            assert token_id in delivered
        for token_id in delivered:  # also those on disk of which nobody was told
            token = await ledger.get_token(token_id)
            assert token["status"] == "completed"
            assert (await ledger.get_public_token(token["public_token_id"]))["uses"] == 1
        acknowledged_tokens += len(acknowledged)
        await ledger.close()
        with duckdb.connect(str(path)) as connection:
            ((count, tokens),) = connection.execute(COMPLETIONS).fetchall()
        assert count == tokens == len(delivered)  # one end each; none was delivered yet
    assert acknowledged_tokens >= 31
    assert cut_short  # at least one kill came in the middle
