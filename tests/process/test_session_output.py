"""What code prints has its session in front, line by line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

from helmr.current import current_run
from helmr_runtime.process.output import PENDING_CHARS_MAX, SessionStream

ADA, BOB = "ses_" + "a" * 26, "ses_" + "b" * 26


@contextmanager
def code_of(session_id: str) -> Iterator[None]:
    """As in a run of that session."""
    run: Any = SimpleNamespace(session=SimpleNamespace(id=session_id))
    token = current_run.set(cast("Any", run))
    try:
        yield
    finally:
        current_run.reset(token)


def test_lines_are_whole_and_say_whose_they_are() -> None:
    out, log = io.StringIO(), io.StringIO()
    stream = SessionStream(out, log)
    with code_of(ADA):
        stream.write("one")
    with code_of(BOB):
        stream.writelines(["of ", "b\nand"])
    with code_of(ADA):
        stream.write(" line\ntwo\n")
    assert out.getvalue() == f"{BOB} | of b\n{ADA} | one line\n{ADA} | two\n"
    assert log.getvalue() == out.getvalue()


def test_what_is_nobodys_is_written_as_it_comes() -> None:
    out = io.StringIO()
    stream = SessionStream(out)
    stream.write("half")
    stream.flush()
    assert out.getvalue() == "half"
    assert not stream.isatty()


def test_a_line_without_an_end_is_cut() -> None:
    out = io.StringIO()
    with code_of(ADA):
        SessionStream(out).write("x" * (PENDING_CHARS_MAX + 1))
    assert out.getvalue() == f"{ADA} | {'x' * (PENDING_CHARS_MAX + 1)}\n"


def test_what_a_session_has_supplied_commands_no_terminal() -> None:
    out = io.StringIO()
    with code_of(ADA):
        SessionStream(out).write("\x1b[2J\rforged\n")
    assert out.getvalue() == f"{ADA} | ␛[2J\n{ADA} | forged\n"
