"""Recorded sessions, from files or a running runtime, and their contents."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from helmr.errors import DataError, UsageError
from helmr.models import RunCheck, RunStatus
from helmr.tasks import Task
from helmr.testing.session import Author
from helmr.wire.people import person_key
from helmr_runtime.clock import Clock
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import PERSON, EntryKind, Principal, Watermark
from helmr_runtime.core.entries import Entry as Entry
from helmr_runtime.core.run import Run
from helmr_runtime.core.session_file import RecordedSession, read_session
from helmr_runtime.core.state import SessionState as SessionState
from helmr_runtime.replay.detached import SILENCE_S, check_run

TOKEN = "token"


class Exported(Protocol):
    """A session of a runtime, from `client.sessions.open(id)`."""

    def export(self) -> Iterator[bytes]:
        """Return the session as a file."""
        ...


Recording = RecordedSession | Exported | str | os.PathLike[str]
"""A recorded session: already read, one of a runtime, or a file's name."""


def read(recording: Recording) -> RecordedSession:
    """Read the session and check its lines, but not its signer.

    Raises:
        UsageError: The file can't be read, or is not a session file.
        SessionFileDamaged: A part of it differs from what was written.
    """
    if isinstance(recording, RecordedSession):
        return recording
    if not isinstance(recording, str | os.PathLike):
        if not hasattr(recording, "export"):
            raise UsageError(
                f"{type(recording).__name__} is no recorded session",
                hint="Pass the path of a file that `helmr session export` wrote, or a client's session.",
            )
        return read_session(b"".join(recording.export()).splitlines(keepends=True))
    path = Path(recording)
    try:
        with path.open("rb") as file:
            return read_session(file)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error


async def check_recorded(
    session: RecordedSession,
    task: Task[..., Any] | None,
    *,
    clock: Clock,
    silence_s: float = SILENCE_S,
) -> RunCheck:
    """Check that code fits the session's newest run (S-89).

    Args:
        session: The session.
        task: The task of that id in the code; None if it has none.
        clock: Tells the code the time.
        silence_s: Real seconds after which code that does nothing is `unsure`.

    Raises:
        UsageError: The session has no run.
    """
    state = state_of(session.id, session.entries)
    if state.run is None:
        raise UsageError(f"{session.id} has no run")
    histories = histories_of(session, state.run)
    return await check_run(task, state, histories, clock=clock, silence_s=silence_s)


def state_of(session_id: str, entries: Iterable[Entry]) -> SessionState:
    """Return the session's state, folded from its entries.

    Raises:
        UsageError: An entry can't follow those before it; a file may hold anything.
    """
    state = SessionState(session_id)
    for entry in entries:
        try:
            state.apply(entry)
        except (DataError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UsageError(
                f"entry {entry.seq} ({entry.kind.value}) can't follow those before it",
                hint="Use the version of Helmr that wrote the file, or a newer one.",
            ) from error
    return state


def histories_of(session: RecordedSession, run: Run) -> dict[int, Sequence[Any]]:
    """Return the values that each `history.read` in the run's journal gave, by op."""
    return {
        entry.op: Watermark.of(entry.body).picked(session.entries)
        for entry in run.journal
        if entry.kind is EntryKind.HISTORY_READ and entry.op is not None
    }


def question_keys(task: str, opened: Mapping[str, Any], schema: Any) -> frozenset[str]:
    """Return keys of a wait's question: two waits that share a key asked the same.

    Args:
        task: The task's id.
        opened: The body of `wait.opened`; later versions record the question's hash in it.
        schema: The JSON Schema of its answers; None if any value fits.
    """
    shown = [opened.get(name) for name in ("correlation_id", "subject", "body")]
    stream = TOKEN if opened.get("token_id") is not None else opened.get("stream")
    key = jsontext.same_data_hash([task, stream, *shown, opened.get("schema", schema)])
    return frozenset({key, opened.get("question_hash", key)})


@dataclass(frozen=True, slots=True)
class Given:
    """One person's answer, and its time after the question.

    Attributes:
        author: The recorded answerer.
    """

    data: Any
    after_s: float
    author: Author


@dataclass(frozen=True, slots=True)
class PastAnswer:
    """The answer to a question, by its `question_keys`, and its time after the question.

    Attributes:
        stream: The wait's stream; `token` for a token.
        is_default: An escalation gave it, not a person.
        given: Its people: where several had to agree, all who voted, in order. Withdrawn votes are left out, and
            so are those of a question without an answer.
    """

    keys: frozenset[str]
    data: Any
    after_s: float
    stream: str | None = None
    is_default: bool = False
    given: tuple[Given, ...] = ()


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The outcome of a step: a JSON value, or an error as recorded in the transcript."""

    value: Any = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        status: Its status.
        result: Its result, None if it has none.
        error: The cause of its failure, cancellation or block.
        ended_at: The time of its end or block.
    """

    status: RunStatus
    result: Any = None
    error: Mapping[str, Any] | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class RecordedRun:
    """A run of a session.

    Attributes:
        session: The whole session.
        state: State folded from the entries before the next run.
        run: The run.
        number: Its number among the session's runs, from 1.
        outcome: Its outcome.
        answers: Answers to its waits, in the order asked.
        steps: The outcomes of each step by its name, in the order asked.
    """

    session: RecordedSession
    state: SessionState
    run: Run
    number: int
    outcome: RunOutcome
    answers: Sequence[PastAnswer]
    steps: Mapping[str, Sequence[StepOutcome]]

    @property
    def before(self) -> Sequence[Entry]:
        """Entries stored when the run began: earlier runs, their outputs, and input that no wait had taken."""
        return self.session.entries[: _begins(self.session)[self.number - 1] + 1]


def runs_of(session: RecordedSession, *, newest: bool = False) -> list[RecordedRun]:
    """Return the recorded runs of a session, in order.

    Args:
        session: The session.
        newest: True returns only the last one.

    Raises:
        UsageError: The session has no run.
    """
    begins = _begins(session)
    if not begins:
        raise UsageError(f"{session.id} has no run")
    ends = [*begins[1:], len(session.entries)]
    numbers = range(len(begins) if newest else 1, len(begins) + 1)
    return [_run_of(session, number, begins[number - 1], ends[number - 1]) for number in numbers]


def _begins(session: RecordedSession) -> list[int]:
    """Return the index of the entry that made each run."""
    return [place for place, e in enumerate(session.entries) if e.kind is EntryKind.RUN_CREATED]


def _run_of(session: RecordedSession, number: int, begin: int, end: int) -> RecordedRun:
    state = state_of(session.id, session.entries[:end])
    run = state.run
    assert run is not None
    own = [entry for entry in session.entries if entry.run_id == run.id]
    # Input from before a later run is present again when it begins.
    known = {
        e.body["record_id"] for e in session.entries[:begin] if e.kind is EntryKind.INPUT_ACCEPTED
    }
    return RecordedRun(
        session=session,
        state=state,
        run=run,
        number=number,
        outcome=outcome_of(run.status, own),
        answers=_answers(session, own, known if number > 1 else frozenset()),
        steps=steps_of(run),
    )


def outcome_of(status: RunStatus, entries: Sequence[Entry]) -> RunOutcome:
    """Return the outcome of a run with that status, from its entries."""
    ends = [e for e in entries if e.kind.value == f"run.{status.value}"]
    if not ends or not (status.is_final or status is RunStatus.BLOCKED):
        return RunOutcome(status)
    body, at = ends[-1].body, ends[-1].recorded_at
    if status is RunStatus.SUCCEEDED:
        return RunOutcome(status, result=body["result"], ended_at=at)
    return RunOutcome(status, error=body.get("error", body), ended_at=at)


def _answers(
    session: RecordedSession, own: Iterable[Entry], known: Collection[str]
) -> list[PastAnswer]:
    records = {
        e.body["record_id"]: e.body["data"]
        for e in session.entries
        if e.kind is EntryKind.INPUT_ACCEPTED
    }
    inputs = (session.header["schemas"] or {}).get("inputs", {})
    opened: dict[str, Entry] = {}
    votes: dict[str, list[Given]] = {}
    held: list[PastAnswer] = []
    for entry in own:
        wait_id = entry.body.get("wait_id", "")
        if entry.kind is EntryKind.WAIT_OPENED and entry.body["kind"] in ("input", TOKEN):
            opened[wait_id] = entry
        asked = opened.get(wait_id)
        if asked is None:
            continue
        after_s = (entry.recorded_at - asked.recorded_at).total_seconds()
        if entry.kind is EntryKind.WAIT_VOTED:
            vote = Given(entry.body["data"], after_s, _author(entry))
            votes.setdefault(wait_id, []).append(vote)
        elif entry.kind is EntryKind.WAIT_VOTE_WITHDRAWN:
            gone = person_key(entry.body["person"])
            votes[wait_id] = [one for one in votes.get(wait_id, ()) if one.author.person != gone]
        elif entry.kind is EntryKind.WAIT_FULFILLED:
            record_id = entry.body.get("record_id")
            if record_id in known:
                continue
            data = records.get(record_id, entry.body.get("data"))
            stream = TOKEN if asked.body["kind"] == TOKEN else asked.body.get("stream")
            given = (*votes.get(wait_id, ()), Given(data, after_s, _author(entry)))
            keys = question_keys(session.task, asked.body, inputs.get(asked.body.get("stream")))
            is_default = entry.body.get("mode") == "default"
            held.append(PastAnswer(keys, data, after_s, stream, is_default, given))
    return held


def _author(entry: Entry) -> Author:
    """Return the people behind an entry's answer; of a deputy's, the person for whom it was given."""
    body, principal = entry.body, entry.principal
    said, reason = body.get("person"), body.get("override_reason")
    if (acting := body.get("delegation")) is not None:
        said = {**acting, "id": acting["delegator"]}
        principal = Principal(PERSON, acting["delegator"])
    if said is not None:
        names, groups = said.get("names", ()), said.get("groups", ())
        person = Identity(id=said["id"], names=tuple(names), groups=tuple(groups))
        return Author(principal, person)
    if reason is None and body.get("mode") == "default":
        reason = "a default"
    is_person = principal.type == PERSON and principal.id is not None
    proven = Identity(id=str(principal.id)) if is_person else None
    return Author(principal, proven, override_reason=reason)


def steps_of(run: Run) -> dict[str, list[StepOutcome]]:
    """Return the outcomes that its next attempt would replay, without those set aside."""
    outcomes = {
        entry.op: StepOutcome(entry.body.get("value"), entry.body.get("error"))
        for entry in run.journal
        if entry.kind in (EntryKind.STEP_SUCCEEDED, EntryKind.STEP_FAILED)
    }
    started = [e for e in run.journal if e.kind is EntryKind.STEP_STARTED and e.op in outcomes]
    found: dict[str, list[StepOutcome]] = {}
    for entry in sorted(started, key=lambda one: one.op or 0):
        found.setdefault(entry.body["name"], []).append(outcomes[entry.op])
    return found
