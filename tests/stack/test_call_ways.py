"""Which way the calls of a runtime go: as frames on this machine, through Ray where that was asked for."""

from __future__ import annotations

import os
import signal

import pytest

from helmr.version import version
from helmr_runtime.launchers import watchdog
from helmr_runtime.rpc.calls import DIRECTORY, GATEWAY, LEDGER
from helmr_runtime.rpc.socket_calls import Sockets
from tests.stack.conftest import has_whole_pool
from tests.stack.live import TRANSPORT, LiveRuntime, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.allows_blocking]
needs_sockets = pytest.mark.skipif(TRANSPORT != "sockets", reason="there are no sockets")


async def ray_calls(live: LiveRuntime, name: str) -> dict[str, int]:
    """Calls that this actor has made through Ray, by `kind.method`; asked at its socket."""
    record = watchdog.read_record(live.data_dir)
    assert record is not None
    peer = await Sockets(record.mark.run_dir, version()).peer(name)
    assert peer is not None
    counts = await peer.call("call_counts", (), {})
    peer.give_up("asked")
    ways = {key: one["all"] - one["frames"] for key, one in counts.items()}
    return {key: count for key, count in ways.items() if count}


@needs_sockets
async def test_hot_answers_need_no_ray_call(shared: LiveRuntime) -> None:
    until(lambda: has_whole_pool(shared, 2), within_s=60, what="hosts killed before are replaced")
    session_id = shared.begin("echo")
    shared.waiting(session_id)
    session = shared.client.sessions.open(session_id)
    session.input("messages").send("the first finds the way")
    holder = until(lambda: shared.holder(session_id), within_s=10, what="held")["name"]
    names = (GATEWAY, DIRECTORY, LEDGER, holder)
    before = {name: await ray_calls(shared, name) for name in names}
    for at in range(10):
        session.input("messages").send(f"message {at}")
    assert {name: await ray_calls(shared, name) for name in names} == before
    session.cancel()


@pytest.mark.long  # tests/rpc/test_sockets.py has an answer too large for a frame
async def test_a_journal_too_large_for_a_frame_is_loaded(shared: LiveRuntime) -> None:
    session_id = shared.begin("remembers", 40)
    shared.waiting(session_id, within_s=60)
    holder = until(lambda: shared.holder(session_id), within_s=10, what="held")
    os.kill(holder["pid"], signal.SIGKILL)
    shared.client.sessions.open(session_id).input("messages").send("go on")
    assert shared.ended(session_id).result == 40 * 900_000


async def test_a_crash_is_told_with_the_cause_that_ray_knows(shared: LiveRuntime) -> None:
    session_id = shared.begin("approve", {"name": "told"})
    shared.waiting(session_id)
    holder = until(lambda: shared.holder(session_id), within_s=10, what="held")
    os.kill(holder["pid"], signal.SIGKILL)
    crash = until(
        lambda: next(
            (
                one
                for one in shared.client.health().pool["recent_crashes"]
                if one["host"] == holder["name"]
            ),
            None,
        ),
        within_s=20,
        what="its crash is told",
    )
    assert (crash["sessions"] >= 1, crash["cause"]) == (True, "the process ended")
    shared.client.sessions.open(session_id).cancel()
