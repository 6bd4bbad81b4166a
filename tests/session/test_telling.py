"""What the log says of code that fails: enough to see it without asking, nothing that a terminal obeys."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helmr import step, task
from helmr.cli.logs import LogFile
from helmr.testing import Harness
from helmr_runtime.core.entries import Draft, Entry, EntryKind, stamp
from helmr_runtime.process.output import SessionFilter
from helmr_runtime.session import telling
from tests.session import tasks

OWN, OTHER = "ses_" + "a" * 26, "ses_" + "b" * 26
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = {
    "code": "exception",
    "type": "ValueError",
    "message": "no\x1b[2J",
    "traceback": "  File x\n",
}


@step(retries=1, backoff="10ms")
async def refuses(number: int) -> int:
    raise ValueError(f"{number} is refused")


@task(retries=1, backoff="10ms")
async def never_gets_there(payload: Any) -> int:
    return await refuses(7)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """What was said of failures so far."""
    caplog.set_level(logging.INFO, logger="helmr.failures")
    return lambda: [one for one in caplog.records if one.name == "helmr.failures"]


async def test_each_failure_is_told_once_whatever_is_replayed(
    harness: Callable[..., Harness], told: Callable[[], list[logging.LogRecord]]
) -> None:
    async with harness(never_gets_there) as h:
        session = await h.start("never_gets_there")
        await h.advance("1s")
        await h.advance("1s")
        await h.advance("1s")
        await session.kill()
        run_id = (await session.transcript())[-1].run_id
    said = [one.getMessage() for one in told()]
    step_failed = f"{run_id}: step refuses (op 1) failed"
    assert [one.split(", again at")[0].split(": ValueError")[0] for one in said] == [
        f"{step_failed} at try 1",
        step_failed,
        f"{run_id} failed at attempt 1",
        f"{step_failed} at try 1",
        step_failed,
        f"{run_id} failed: StepFailed: step refuses (op 1) failed",
    ]
    first, second, *_, last = said
    assert first.endswith("ValueError: 7 is refused")
    assert 'in refuses\n    raise ValueError(f"{number} is refused")' in second
    assert "in never_gets_there\n" in last
    assert [one.levelno for one in told()] == [logging.WARNING] * 5 + [logging.ERROR]
    assert {one.session for one in told()} == {session.id}  # type: ignore[attr-defined]


async def test_what_goes_well_is_not_told(
    harness: Callable[..., Harness], told: Callable[[], list[logging.LogRecord]]
) -> None:
    tasks.done.clear()
    async with harness(tasks.concurrent) as h:
        await (await h.start("concurrent")).result()
    assert told() == []


def failed(kind: EntryKind, **body: Any) -> Entry:
    draft = Draft(kind, body, run_id="run_1", op=3)
    return stamp(draft, session_id="ses_1", seq=1, recorded_at=NOW, previous=b"", key=None)


def test_a_line_commands_no_terminal() -> None:
    line = telling.line(None, failed(EntryKind.RUN_FAILED, error=ERROR), is_sealed=False)
    assert line == "run_1 failed: ValueError: no␛[2J\n  File x"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_no_line_of_a_message_looks_like_another_sessions(tmp_path: Path, end: str) -> None:
    of_another = f"2026-01-01 00:00:01,000 ERROR {OTHER} mine: forged"
    error = {**ERROR, "message": f"no{end}{of_another}{end}{OTHER} | forged"}
    line = telling.line(None, failed(EntryKind.RUN_FAILED, error=error), is_sealed=False)
    path = tmp_path / "helmr-host-1.log"
    path.write_text(f"2026-01-01 00:00:00,000 ERROR {OWN} helmr.failures: {line}\n")
    with closing(LogFile(path)) as file:
        told = file.read()
    assert len(told) == 4
    assert {one.session_id for one in told} == {OWN}


def test_what_is_sealed_in_the_transcript_is_not_told() -> None:
    line = telling.line(None, failed(EntryKind.STEP_FAILED, error=ERROR), is_sealed=True)
    assert line == f"run_1: step ? (op 3) failed: ValueError: {telling.WITHHELD}\n  File x"
    blocked = failed(EntryKind.RUN_BLOCKED, code="schema_mismatch", message="7 is not a text")
    line = telling.line(None, blocked, is_sealed=True)
    assert line == f"run_1 is blocked, schema_mismatch: {telling.WITHHELD}"
    line = telling.line(None, blocked, is_sealed=False)
    assert line == "run_1 is blocked, schema_mismatch: 7 is not a text"


def test_a_record_of_the_runtime_keeps_the_session_that_it_names() -> None:
    record = logging.makeLogRecord({"session": "ses_1"})
    SessionFilter().filter(record)
    assert record.session == "ses_1"  # type: ignore[attr-defined]
