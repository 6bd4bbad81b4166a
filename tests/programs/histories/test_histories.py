"""Short histories of real runtimes under faults; `make histories` takes long ones."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.programs.histories import campaign, checker
from tests.programs.histories.history import Call, Kind, Outcome
from tests.programs.histories.nemesis import RAY, Nemesis
from tests.programs.histories.taking import Plan, Taken, take
from tests.stack.live import START_S, descendants, is_alive, until

pytestmark = [pytest.mark.ray, pytest.mark.allows_blocking]
WRITES = (Kind.SEND, Kind.ANSWER, Kind.USE, Kind.COMPLETE, Kind.VOTE)


def taken(plan: Plan) -> Taken:
    """A history; Ray's sockets need a shorter path than pytest's folders have."""
    with tempfile.TemporaryDirectory(prefix="hh-") as folder:
        return take(Path(folder), plan)


def acknowledged(calls: list[Call]) -> Counter[Kind]:
    """How many calls of each kind were."""
    return Counter(call.kind for call in calls if call.outcome is Outcome.OK)


def under_a_limit(calls: list[Call]) -> int:
    """How many steps were read that had to have a permit."""
    return sum(len(call.told["steps"]) for call in calls if call.kind is Kind.READ_LIMIT)


@pytest.mark.long  # tests/programs/simulation/test_seeds.py; kills: tests/stack/test_faults.py
@pytest.mark.timeout(240)
def test_a_runtime_in_one_process_keeps_its_promises_under_faults() -> None:
    found = taken(Plan(seconds=8, clients=8, sessions=12, in_process=True))
    assert checker.check(found.calls) == []
    assert found.unfinished == 0
    assert found.faults.total() > 0
    assert under_a_limit(found.calls) > 0
    assert all(acknowledged(found.calls)[kind] for kind in WRITES)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_runtime_of_many_processes_keeps_its_promises_under_faults() -> None:
    found = taken(Plan(seconds=90, seed=3))
    assert checker.check(found.calls) == []
    assert found.unfinished == 0
    assert len(found.faults) > 3
    assert under_a_limit(found.calls) > 0
    assert all(acknowledged(found.calls)[kind] for kind in WRITES)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_runtime_whose_ray_is_killed_says_so_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rarest fault, which a short history seldom meets."""
    monkeypatch.setattr(Nemesis, "_faults", lambda nemesis: {nemesis._kill_ray: 1.0})
    found = taken(Plan(seconds=30, clients=8, sessions=12))
    assert checker.check(found.calls) == []
    assert found.unfinished == 0
    assert set(found.faults) <= {f"kill {one}" for one in RAY}
    assert found.faults.total() > 0


@pytest.mark.long
@pytest.mark.timeout(240)
def test_one_that_a_shell_has_in_its_background_can_be_ended_and_ends_its_runtime(
    tmp_path: Path,
) -> None:
    ignoring = [
        "sh",
        "-c",
        'trap "" INT; exec "$0" "$@"',
        sys.executable,
        "-m",
        "tests.programs.histories",
    ]
    told = ["run", "--in-process", "--calm", "--seconds=200", f"--out={tmp_path / 'one.parquet'}"]
    with subprocess.Popen([*ignoring, *told], cwd=campaign.ROOT, start_new_session=True) as one:
        below = until(lambda: descendants(one.pid), within_s=START_S, what="its runtime")
        one.send_signal(signal.SIGINT)
        assert one.wait(campaign.END_S) != 0
    assert not any(is_alive(pid) for pid in below)
    assert not (tmp_path / "one.parquet").exists()
