"""Log lines as JSON: the same keys in each, and the ids of what it is about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helmr.cli.logs import LogFile
from helmr.current import RunRef, SessionRef, StepRef, current_run, current_step
from helmr.wire.ids import RUN, SESSION, WAIT, new_id
from helmr_runtime.process.output import PRINT_LOGGER, JsonFormatter, SessionFilter, SessionStream
from helmr_runtime.security import payloads

KEYS = {"time", "level", "logger", "message", "process", "session", "run", "op", "wait", "trace"}
SESSION_ID, RUN_ID, WAIT_ID = new_id(SESSION), new_id(RUN), new_id(WAIT)


@contextmanager
def inside_step() -> Iterator[None]:
    """As the code of a run's step."""
    run = cast(Any, SimpleNamespace(session=SessionRef(SESSION_ID), run=RunRef(RUN_ID, 1)))
    tokens = current_run.set(run), current_step.set(StepRef("mail", "key", 1, 7))
    try:
        yield
    finally:
        current_run.reset(tokens[0])
        current_step.reset(tokens[1])


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger whose lines are JSON, and where they go."""
    stream = io.StringIO()
    logger = logging.getLogger("helmr.task.review")
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("helmr-host-1"))
    handler.addFilter(SessionFilter())
    logger.addHandler(handler)
    payloads.install(logger)
    yield logger, stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_a_step_has_its_ids(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    with inside_step():
        logger.info("asked %s\nand went", "Ada")
    (line,) = lines(stream)
    assert line.keys() == KEYS
    assert line["message"] == "asked Ada\nand went"
    assert (line["process"], line["session"], line["run"], line["op"]) == (
        "helmr-host-1", SESSION_ID, RUN_ID, 7,
    )  # fmt: skip
    assert line["level"] == "INFO"
    assert line["time"].endswith("Z")


def test_a_line_of_the_runtime_has_the_ids_that_it_names(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = written
    logger.warning("%s: the code of %s did not end; %s stays", SESSION_ID, RUN_ID, WAIT_ID)
    logger.warning("nobody's")
    named, nobodys = lines(stream)
    assert (named["session"], named["run"], named["op"]) == (SESSION_ID, RUN_ID, None)
    assert (named["wait"], named["trace"]) == (WAIT_ID, None)
    assert nobodys.keys() == KEYS
    assert (nobodys["session"], nobodys["run"]) == (None, None)


def test_a_traceback_is_in_its_line_and_secrets_are_in_none(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = written
    secret = "hlmr_sk_" + "a" * 43
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed with %s", secret)
    (line,) = lines(stream)
    assert line["exception"].endswith("ValueError: no")
    assert line["message"].startswith("failed with ")


def test_a_line_of_the_runtime_has_the_session_that_it_is_logged_in_the_name_of(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = written
    logger.error("%s failed", RUN_ID, extra={"session": SESSION_ID})
    (line,) = lines(stream)
    assert (line["session"], line["run"], line["op"]) == (SESSION_ID, RUN_ID, None)


def test_what_code_prints_is_text_for_a_terminal_and_json_in_the_file() -> None:
    terminal, file = io.StringIO(), io.StringIO()
    stream = SessionStream(terminal, file, formatter=JsonFormatter("in-process"))
    with inside_step():
        stream.write("half ")
        stream.write("a line\nrest")
    (line,) = lines(file)
    assert line.keys() == KEYS
    assert (line["message"], line["logger"], line["session"]) == (
        "half a line",
        PRINT_LOGGER,
        SESSION_ID,
    )
    assert terminal.getvalue() == f"{SESSION_ID} | half a line\n"


def test_helmr_logs_reads_both(tmp_path: Path, written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    with inside_step():
        logger.info("asked")
    path = tmp_path / "helmr-host-1.log"
    path.write_text(f'{stream.getvalue()}{{"not": "ours"}}\n{{half\n')
    with closing(LogFile(path)) as file:
        told, follows, broken = file.read()
    assert told.session_id == SESSION_ID
    assert told.text.endswith(f"INFO {SESSION_ID} helmr.task.review: asked")
    assert follows.text == '{"not": "ours"}'
    assert (follows.session_id, broken.text) == (SESSION_ID, "{half")
