"""`helmr logs`: which lines are a session's, and that it follows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from helmr.cli.logs import Logs
from tests.cli.conftest import PROCESS_BOUND_S, spawn

ADA, BOB = "ses_" + "a" * 26, "ses_" + "b" * 26
FIRST = f"""\
2026-01-01 00:00:01,000 INFO {ADA} mine: I begin
{ADA} | I print
2026-01-01 00:00:03,000 ERROR {ADA} mine: I fail
Traceback (most recent call last):
ValueError: \x1b[31mred
2026-01-01 00:00:05,000 INFO - helmr.session: parked
"""
SECOND = f"2026-01-01 00:00:02,000 INFO {BOB} mine: me too\n"


@pytest.fixture
def data_dir(nowhere: Path) -> Path:
    """With the logs of two hosts and a ledger."""
    logs = nowhere / ".helmr" / "logs"
    logs.mkdir(parents=True)
    (logs / "helmr-host-1.log").write_text(FIRST)
    (logs / "in-process.log").write_text(SECOND)
    (logs / "helmr-ledger.log").write_text("2026-01-01 00:00:00,000 INFO - x: opened\n")
    return logs.parent


def test_lines_of_all_hosts_by_time_and_safe(helmr, data_dir: Path) -> None:
    said = helmr("logs")
    assert said.code == 0
    lines = said.out.splitlines()
    begin, printed, *_, parked = FIRST.splitlines()
    assert lines[:3] == [begin, printed, SECOND.strip()]
    assert (len(lines), lines[-1]) == (7, parked)
    assert "\x1b" not in said.out
    assert "red" in lines[5]


def test_lines_of_a_session_with_what_it_printed_and_its_tracebacks(helmr, data_dir: Path) -> None:
    said = helmr("logs", ADA)
    assert len(said.out.splitlines()) == 5
    assert BOB not in said.out
    assert "parked" not in said.out
    assert helmr("logs", BOB).out == SECOND
    assert len(helmr("logs", ADA, "--lines", "2").out.splitlines()) == 2


def test_it_is_read_on_where_it_was_left(data_dir: Path) -> None:
    with closing(Logs(data_dir)) as logs:
        assert len(logs.read(None)) == 7
        with (data_dir / "logs" / "helmr-host-1.log").open("a") as file:
            file.write(f"{ADA} | half")
            file.flush()
            assert logs.read(None) == []
            file.write(" a line\n")
        (data_dir / "logs" / "helmr-host-2.log").write_text(f"{BOB} | new\n")
        texts = sorted(line.text for line in logs.read(None))
        assert texts == [f"{ADA} | half a line", f"{BOB} | new"]


def test_it_follows(data_dir: Path) -> None:
    with spawn("logs", BOB, "--follow") as one:
        assert one.stdout is not None
        assert one.stdout.readline().decode() == SECOND
        with (data_dir / "logs" / "in-process.log").open("a") as file:
            file.write(f"{BOB} | more\n")
        assert one.stdout.readline().decode() == f"{BOB} | more\n"
        one.terminate()
        one.wait(PROCESS_BOUND_S)


def test_without_a_data_directory_of_this_machine_it_says_so(helmr, nowhere: Path) -> None:
    said = helmr("logs", "--url", "http://192.0.2.1:4356")
    assert said.code == 2
    assert "its logs are where it runs" in said.err
