"""The ledgers that `make scale` builds, what it says of them, and the whole of it in small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.core import checkpoint
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.ports.ledger import restore
from tests.programs.benchmarks.scale import report
from tests.programs.benchmarks.scale.build import Pattern, add, grow, open_at
from tests.programs.benchmarks.scale.report import AtSize

ROOT = Path(__file__).parents[3]
RUN = "run_01m8ajpkqwesf838pbj8q1tf3j"


def line(
    kind: str, op: int | None = None, /, run: str | None = RUN, **body: object
) -> dict[str, Any]:
    return {"kind": kind, "op": op, "run_id": run, "body": body, "principal": {"type": "runtime"}}


START = [
    line("session.created", run=None, task="review"),
    line("run.created", task="review", payload=3),
    line("run.started", attempt=1, code_hash="abc"),
    line("step.started", 1, name="look", step_key="stp_x", attempt=1),
    line("step.succeeded", 1, value="found"),
]
PARKED = Pattern.of(
    [*START, line("wait.opened", 2, wait_id="wait_x", kind="input", stream="s", deadline_at="x")]
)
OVER = Pattern.of(
    [*START, line("run.succeeded", result=1), line("session.closed", run=None, end_input=False)]
)
AT = AtSize(
    sessions=0,
    entries=0,
    ready_s=5.0,
    first_inbox_ms=10.0,
    inbox_ms=5.0,
    filters_ms={},
    open_s=0.1,
    engine_bytes=1_000_000,
)
FEW = replace(
    AT, sessions=1_000, resume_p50_ms=10.0, resume_p99_ms=20.0, filters_ms={"by tag": 4.0}
)
MANY = replace(
    FEW,
    sessions=100_000,
    entries=10_000_000,
    ready_s=6.0,
    first_inbox_ms=20.0,
    resume_p50_ms=14.0,
    memory_bytes_each=3000.0,
    disk_bytes_each=3500.0,
)


async def test_a_ledger_has_what_was_asked_for_and_no_more_the_second_time(tmp_path: Path) -> None:
    built = await grow(tmp_path, PARKED, OVER, sessions=5, entries=100)
    assert (built.sessions, built.entries) == (5, 5 * 6 + 10 * 7)
    assert built.disk_bytes_each is not None
    again = await grow(tmp_path, PARKED, OVER, sessions=5, entries=100)
    assert (again.sessions, again.entries, again.disk_bytes_each) == (5, built.entries, None)


async def test_what_was_built_is_what_a_session_would_have_left(tmp_path: Path) -> None:
    due_at = datetime(2040, 1, 1, tzinfo=UTC)
    ledger = await open_at(tmp_path)
    await add(ledger, PARKED, 2, lambda number: due_at)
    await ledger.close()
    ledger = await open_at(tmp_path)
    assert ledger.index.next_due_at() == due_at
    first, second = [head for head in ledger.index.heads.values() if head.wait is not None]
    assert first.wait is not None
    assert second.wait is not None
    assert first.wait.id != second.wait.id
    assert await ledger.verify_chain(first.session_id) == PARKED.entries
    loaded = await ledger.load(first.session_id, "host")
    assert loaded.checkpoint is not None
    state = restore(first.session_id, loaded)
    assert state.wait is not None
    assert (state.wait.id, state.wait.deadline_at) == (first.wait.id, due_at)
    assert state.run is not None
    assert [one.kind for one in state.run.journal][-1] is EntryKind.WAIT_OPENED
    assert checkpoint.save(state, {}) == loaded.checkpoint
    await ledger.close()


def test_bounds_are_those_of_the_largest_against_few_and_none() -> None:
    found = {one.what: one for one in report.bounds([AT, FEW, MANY], due_s=2.0)}
    assert len(found) == 6
    assert all(one.holds for one in found.values())
    assert found["resume p50, times that at 1,000"].found == pytest.approx(1.4)
    assert found["restart until ready, times that with none"].found == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("change", "due_s"),
    [
        ({"disk_bytes_each": 5000.0}, 1.0),
        ({"memory_bytes_each": 4000.0}, 1.0),
        ({"resume_p50_ms": 16.0}, 1.0),
        ({"first_inbox_ms": 31.0}, 1.0),
        ({"ready_s": 8.0}, 1.0),
        ({}, 6.0),
    ],
)
def test_each_bound_can_be_missed(change: dict[str, float], due_s: float) -> None:
    worse = replace(MANY, **change)  # type: ignore[arg-type]
    missed = [one for one in report.bounds([AT, FEW, worse], due_s) if not one.holds]
    assert len(missed) == 1
    assert "DOES NOT HOLD" in str(missed[0])


def test_what_was_not_measured_is_no_bound() -> None:
    assert report.bounds([AT]) == []


def test_growth_has_a_column_for_each_size() -> None:
    text = report.markdown({"machine": "two cores"}, [AT, FEW, MANY], (10_000, 2.0))
    lines = [one for one in text.splitlines() if one.startswith("|")]
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        *("parked sessions", "0", "1,000", "100,000")
    ]
    assert len({len(one) for one in lines}) == 1
    assert "10,000 deadlines in the same second: all on disk after 2.0 s." in text


@pytest.mark.long
def test_the_same_figures_are_the_same_plot(tmp_path: Path) -> None:
    report.plot([AT, FEW, MANY], tmp_path / "one.svg")
    report.plot([AT, FEW, MANY], tmp_path / "two.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert "<svg" in drawn
    assert drawn == (tmp_path / "two.svg").read_text()


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.allows_blocking
@pytest.mark.timeout(600)
def test_the_whole_in_small(tmp_path: Path) -> None:
    sizes = ("--sizes=0,40", "--entries-each=20", "--rounds=1", "--resumes=5", "--due=20")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.programs.benchmarks.scale", *sizes),
            # From where it runs, as the default is.
            *(f"--folder={os.path.relpath(tmp_path / 'data', ROOT)}", f"--out={tmp_path}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # Bounds may be missed with so few: what every process has beside its sessions is shared by them.
    assert done.returncode in (0, 1), done.stderr[-4000:]
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [one["sessions"] for one in found["sizes"]] == [0, 40]
    assert found["sizes"][1]["resume_p50_ms"] > 0
    assert found["due"][0] == 20
    assert (tmp_path / "scale.svg").exists()
