"""In a real terminal: tables and a progress bar, Ctrl-C, and nothing that a session sent as a command to it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import spawn, started
from tests.cli.test_reads import _filled
from tests.client.gateway import Gateway
from tests.warm import Warm

pytestmark = pytest.mark.pty

BOUND_S = 30.0
SGR = re.compile(r"\x1b\[[0-9;]*m")
"""Colour and weight: the only commands that a table needs."""
COMMAND = ("-m", "helmr.cli")


def screen(
    *arguments: str,
    width: int = 100,
    env: Mapping[str, str] = os.environ,
    until: str = "",
    types: str = "",
    program: Sequence[str] = COMMAND,
    within_s: float = BOUND_S,
) -> tuple[int, str]:
    """Run a command in a terminal; its exit code, and what it wrote there.

    Args:
        until: Interrupt it once it has written this; without it, it ends by itself.
        types: What somebody types ahead.
        within_s: Guards against one that hangs.
        program: What Python runs, if not the installed command.
    """
    master, slave = pty.openpty()
    process: subprocess.Popen[bytes] | Warm | None = None
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        environ = {**env, "TERM": "xterm-256color"}
        if program is COMMAND:
            process = Warm(arguments, env=environ, files=[slave] * 3, has_session=True)
        else:
            process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environ,
                start_new_session=True,
            )
        os.close(slave)
        os.write(master, types.encode())
        seen = b""
        bound = time.monotonic() + within_s
        while True:
            assert time.monotonic() < bound, (arguments, seen)
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
            if until and until.encode() in seen:
                process.send_signal(signal.SIGINT)
                until = ""
        return process.wait(BOUND_S), seen.decode()
    finally:
        os.close(master)
        if process is not None:
            process.kill()
            process.wait(BOUND_S)


def test_a_table_has_weight_on_a_terminal_and_keeps_ids_whole(here: Gateway) -> None:
    session_id = here.session()
    code, seen = screen("session", "list", width=120)
    assert code == 0
    assert "\x1b[1m" in seen
    assert session_id in seen


def test_a_table_without_room_is_a_block_per_row(here: Gateway) -> None:
    first, second = here.session(), here.session(external_id="order-7")
    code, seen = screen("session", "list", width=70)
    assert code == 0
    blocks = [block.splitlines() for block in seen.replace("\r", "").split("\n\n")]
    assert len(blocks) == 2
    for block, session_id in zip(blocks, (first, second), strict=True):
        assert block[0].split() == ["id", session_id]
    assert "external id  order-7" in blocks[1]
    assert not any("external id" in line for line in blocks[0])


def test_the_inbox_at_80_columns_takes_two_lines_a_wait(here: Gateway) -> None:
    session_id, soon = here.session(), datetime.now(UTC) + timedelta(days=7, seconds=30)
    first = here.wait(
        session_id, subject="Send the newsletter about otters?", deadline_at=soon.isoformat()
    )
    second = here.wait(session_id, correlation_id="github:o/r#7")
    _, seen = screen("wait", "list", width=80)
    assert seen.replace("\r", "").splitlines() == [
        f"{first['id']}  in 7d        review",
        "  Send the newsletter about otters?",
        f"{second['id']}  no deadline  review",
        "  approval github:o/r#7",
    ]


def test_an_empty_inbox_on_a_terminal_is_one_line(here: Gateway) -> None:
    assert screen("wait", "list") == (0, "nothing waits for people\r\n")


def test_a_transcript_at_80_columns_says_who_and_what(here: Gateway) -> None:
    session_id = here.session()
    ada = {"type": "api_key", "name": "local", "on_behalf_of": "Ada Lovelace"}
    decision = {"decision": "approve", "note": "Reads well, and says what it should."}
    body = {"record_id": "rec_1", "stream": "approval", "data": decision, "operation": {"id": "o"}}
    task = {"type": "task", "id": "run_1"}
    here.entry(session_id, "step.started", op=1, body={"name": "write_draft"}, principal=task)
    here.entry(session_id, "input.accepted", body=body, principal=ada)
    _, seen = screen("session", "transcript", session_id, width=80)
    assert seen.replace("\r", "").splitlines() == [
        "       2026-11-24 UTC",
        "    1  12:00:00  step.started       task            write_draft",
        "    2  12:00:00  input.accepted     local for Ada Lovelace",
        '       {"decision": "approve", "note": "Reads well, and says what it should."}',
    ]


def test_what_happened_is_cut_to_the_terminal_and_who_never_pushes_it_out(here: Gateway) -> None:
    names = _filled(here)
    here.entry(
        names["SESSION"],
        "note.added",
        body={"text": "hi"},
        principal={"type": "x", "name": "n" * 99},
    )
    _, seen = screen("session", "transcript", names["SESSION"], width=60)
    lines = seen.splitlines()
    assert len(lines) == 6
    assert max(len(line) for line in lines) <= 60
    assert "…+" in lines[2]
    assert lines[-1].strip() == "hi"


@pytest.mark.long  # test_bulk_send.py
def test_bulk_sending_shows_a_bar_and_the_reports(here: Gateway, nowhere: Path) -> None:
    session_id = here.session()
    (nowhere / "lines").write_text("".join(f'{{"data": {n}}}\n' for n in range(20)))
    code, seen = screen("input", "send", session_id, "approval", "--jsonl", "--data", "@lines")
    assert code == 0
    assert "sending" in seen
    assert "━" in seen
    assert seen.count('"outcome":"buffered"') == 20
    assert "20 lines sent: 20 buffered" in seen


def test_the_bar_stays_on_the_terminal_when_the_report_goes_to_a_file(
    here: Gateway, nowhere: Path
) -> None:
    session_id = here.session()
    (nowhere / "lines").write_text('{"data": 1}\n')
    with (
        (nowhere / "report").open("wb") as report,
        spawn(
            "input", "send", session_id, "approval", "--jsonl", "--data", "@lines", stdout=report
        ) as one,
    ):
        _, err = one.communicate(timeout=BOUND_S)
    assert (nowhere / "report").read_text().startswith('{"line":1,"outcome":"buffered"')
    assert b"\x1b" not in err


def test_ctrl_c_ends_a_follow_quietly(here: Gateway) -> None:
    session_id = here.session()
    here.entry(session_id, "session.created")
    with spawn("session", "follow", session_id) as one:
        assert one.stdout is not None
        assert b"session.created" in one.stdout.readline()
        one.send_signal(signal.SIGINT)
        out, err = one.communicate(timeout=BOUND_S)
    assert (one.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_has_gone_ends_it_quietly(here: Gateway) -> None:
    session_id = here.session()
    for _ in range(2000):
        here.entry(session_id, "note.added", body={"text": "x" * 200})
    with spawn("session", "transcript", session_id) as one:
        assert one.stdout is not None
        one.stdout.readline()
        one.stdout.close()
        assert one.stderr is not None
        err = one.stderr.read()
        one.wait(BOUND_S)
    assert (one.returncode, err) == (141, b"")


@pytest.mark.long
@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_an_odd_locale_loses_nothing_and_ends_nothing(
    here: Gateway, locale: dict[str, str]
) -> None:
    here.session(external_id="日本")
    said = started("session", "list", env=locale)
    assert (said.code, said.err) == (0, "")
    assert "\\u65e5\\u672c" in said.out


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(one, marks=pytest.mark.long) for one in ("--help", "session list --json")),
        "session list",
        "input send SESSION approval --jsonl",
    ],
)
def test_a_full_disk_behind_the_output_is_one_line(here: Gateway, words: str) -> None:
    names = {"SESSION": here.session()}
    with Path("/dev/full").open("wb") as full:
        said = started(
            *(names.get(word, word) for word in words.split()),
            stdout=full,
            input=b'{"data": 1}\n{"data": 2}\n',
        )
    assert said.code == 2
    line = "helmr: the output can't be written: No space left on device"
    assert said.err.splitlines()[-1] == line
    assert "Traceback" not in said.err
    if "--jsonl" in words:
        assert "go on with: helmr input send" in said.err


def test_a_closed_output_is_no_bug(here: Gateway) -> None:
    shell = f"{sys.executable} -m helmr.cli session list >&-"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
