"""What sending will do is said before, with near misses named (S-23, S-25)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from helmr import errors
from helmr.models import RunInfo, SendReceipt, SessionInfo, StreamInfo
from helmr.person.review.outcome import Result, of_error, of_receipt
from helmr_console.effects import of_retry, of_send, streams_of

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
WAIT = {
    "id": "wait_1",
    "session_id": "ses_1",
    "run_id": "run_1",
    "task": "publish",
    "kind": "input",
    "stream": "approval",
    "correlation_id": "github:acme/api#2204",
    "status": "pending",
    "opened_at": NOW,
}


def session(**changes: Any) -> SessionInfo:
    parts = {
        "id": "ses_1",
        "task": "publish",
        "status": "open",
        "activity": "waiting",
        "wait": WAIT,
        "created_at": NOW,
        "updated_at": NOW,
        "last_seq": 1,
    }
    return SessionInfo.model_validate({**parts, **changes})


@pytest.mark.parametrize(
    ("stream", "correlation", "words"),
    [
        ("approval", "github:acme/api#2204", "fulfilled"),
        ("approval", " github:acme/api#2204 ", "fulfilled"),
        ("approval", "", "you gave none"),
        ("approval", "GitHub:acme/api#2204", "differs in case"),
        ("approval", "github:acme/api#2205", "close to it"),
        ("approval", "other", "unmatched: the open wait is for github:acme/api#2204"),
        ("chat", "", "buffered: no wait is open on chat; the run waits on approval"),
    ],
)
def test_the_effect_is_said_before(stream: str, correlation: str, words: str) -> None:
    assert words in " ".join(of_send(session(), stream, correlation))


def test_an_uncorrelated_wait_takes_any_record_and_a_closed_session_none() -> None:
    wait = {**WAIT, "correlation_id": None}
    assert of_send(session(wait=wait), "approval", "x")[0].startswith("fulfilled")
    closed = session(status="closed", wait=None, activity="idle")
    assert of_send(closed, "approval", "x") == ("refused: the session is closed",)


def test_the_stream_it_waits_on_stands_first() -> None:
    streams = [
        StreamInfo(name=name, direction=direction, schema=True, tasks=tasks)
        for name, direction, tasks in (
            ("chat", "input", ["publish"]),
            ("approval", "input", ["publish"]),
            ("said", "output", ["publish"]),
            ("other", "input", ["other"]),
        )
    ]
    assert [stream.name for stream in streams_of(session(), streams)] == ["approval", "chat"]


def test_a_retry_says_what_runs_again() -> None:
    run = RunInfo(
        id="run_1", session_id="ses_1", task="t", status="failed", attempt=2, created_at=NOW
    )
    assert "attempt 3" in of_retry(run)[0]
    assert "failed step" in of_retry(run)[1]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (errors.WaitResolved("x", resolved_by={"type": "api_key", "name": "ben"}), Result.RESOLVED),
        (errors.WaitTimedOut("x"), Result.TIMED_OUT),
        (errors.SchemaMismatch("x", errors=[{"path": "a", "message": "b"}]), Result.MISFIT),
        (errors.RoleDenied("x"), Result.DENIED),
        (errors.WaitNotFound("x"), Result.GONE),
        (errors.SessionTerminal("x"), Result.GONE),
        (errors.TokenCompleted("x"), Result.RESOLVED),
        (errors.TokenExpired("x"), Result.TIMED_OUT),
        (errors.TokenCancelled("x"), Result.GONE),
        (errors.OutcomeUnknown("x"), Result.UNKNOWN),
        (errors.StoreUnavailable("x"), Result.UNAVAILABLE),
        (errors.RuntimeNotFound("x"), Result.UNAVAILABLE),
        (errors.Overloaded("x"), Result.UNAVAILABLE),
        (errors.RunNotRetryable("x"), Result.CONFLICT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_refusal_has_its_words(error: errors.HelmrError, result: Result) -> None:
    outcome = of_error(error)
    assert outcome.result is result
    assert outcome.lines
    assert outcome.is_open == (result in (Result.UNKNOWN, Result.UNAVAILABLE))
    assert not outcome.is_done


def test_a_repeated_send_is_no_second_one() -> None:
    receipt = SendReceipt(record_id="rec_1", stream="a", seq=1, outcome="fulfilled", duplicate=True)
    assert of_receipt(receipt).result is Result.REPEATED
