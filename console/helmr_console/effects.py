"""What sending will do, said before it is done. Pure; the gateway's receipt is the truth."""

from __future__ import annotations

from collections.abc import Sequence

from helmr.models import RunInfo, SessionInfo, SessionStatus, StreamInfo, WaitInfo, WaitKind
from helmr.review.words import subject_of
from helmr.safe_text import one_line

NEAR = 0.6


def of_answer(wait: WaitInfo) -> tuple[str, ...]:
    """What answering this wait causes."""
    if wait.kind is WaitKind.TOKEN:
        return (
            "completes the token; every wait on it is fulfilled",
            "the first completion wins and can't be taken back",
        )
    return (
        f"a record on {one_line(wait.stream or 'the stream', 60)} fulfils exactly this wait",
        "the run goes on; what its steps then do can't be taken back",
    )


def of_send(session: SessionInfo, stream: str, correlation_id: str) -> tuple[str, ...]:
    """What a send to this stream will most likely do (S-23, S-25), the outcome's word first."""
    wait, correlation = session.wait, correlation_id.strip()
    if session.status is not SessionStatus.OPEN:
        return (f"refused: the session is {session.status.value}",)
    if wait is None or wait.kind is not WaitKind.INPUT or wait.stream != stream:
        waits = f"; the run waits on {one_line(wait.stream or wait.kind.value, 40)}" if wait else ""
        return (
            f"buffered: no wait is open on {one_line(stream, 60)}{waits}",
            "the next wait that matches takes it",
        )
    if not wait.correlation_id:
        return ("fulfilled: the open wait takes any record of this stream", "the run goes on")
    if wait.correlation_id == correlation:
        return (f"fulfilled: {subject_of(wait)}", "the run goes on")
    return (
        f"unmatched: the open wait is for {one_line(wait.correlation_id, 120)}",
        f"{_near(wait.correlation_id, correlation)}the record is buffered and the wait stays open",
    )


def streams_of(session: SessionInfo, streams: Sequence[StreamInfo]) -> list[StreamInfo]:
    """Input streams this session can be sent to, the one it waits on first."""
    waited = session.wait.stream if session.wait else None
    found = [
        stream
        for stream in streams
        if stream.direction == "input" and (not stream.tasks or session.task in stream.tasks)
    ]
    return sorted(found, key=lambda stream: (stream.name != waited, stream.name))


def of_retry(run: RunInfo) -> tuple[str, ...]:
    """What retrying this run causes (S-5)."""
    again = (
        "nothing is set aside" if run.status.value == "blocked" else "the failed step runs again"
    )
    return (
        f"attempt {run.attempt + 1} starts; recorded steps return at once",
        again,
        "steps completed before the failure are not repeated",
    )


def of_retries(sessions: Sequence[SessionInfo]) -> tuple[str, ...]:
    """What retrying the newest runs of these sessions causes (S-5)."""
    which = "the next attempt starts" if len(sessions) == 1 else "the next attempt of each starts"
    return (
        f"{which}; recorded steps return at once",
        "of one that failed the failed step runs again, of a blocked one nothing is set aside",
        "steps completed before the failure are not repeated",
    )


def _near(wanted: str, given: str) -> str:
    if not given:
        return "you gave none; "
    if wanted.casefold() == given.casefold():
        return "yours differs in case; "
    shared = len({*_trigrams(wanted)} & {*_trigrams(given)})
    total = len({*_trigrams(wanted)} | {*_trigrams(given)}) or 1
    return "yours is close to it; " if shared / total >= NEAR else ""


def _trigrams(text: str) -> list[str]:
    return [text[place : place + 3] for place in range(max(1, len(text) - 2))]
