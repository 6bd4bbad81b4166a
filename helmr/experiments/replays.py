"""Results of replaying recorded sessions: a row per run, per call of a step, and per question, then and now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from helmr.experiments.results import frame

if TYPE_CHECKING:
    import polars


@dataclass(slots=True)
class ReplayRow:
    """One run, as recorded and as replayed."""

    session: int
    session_id: str
    run: int
    """Number among the session's runs, from 1."""
    old_status: str
    old_result: str | None
    old_error: str | None
    old_duration_s: float | None
    status: str = "unknown"
    result: str | None = None
    error: str | None = None
    duration_s: float | None = None
    changed: bool | None = None
    """None if the recorded run had not ended, if its new end is unknown, or if it ended the same with a model that was
    `not_asked`."""
    waits: int = 0
    kept: int = 0
    asked: int = 0
    timed_out: int = 0
    not_asked: int = 0
    """Requests to a model that were not made: the recorded answer stands for each."""
    executed: int = 0
    """Number of answers from steps that executed."""
    cost: float | None = None
    """Cost of the executed answers, if there is a price."""
    problem: str | None = None


@dataclass(slots=True, kw_only=True)
class StepRow:
    """One call of a step, as recorded and as replayed."""

    session: int
    session_id: str
    run: int
    step: str
    number: int
    """Number among the step's calls in its run, from 1."""
    source: str | None
    """Source of the answer: recorded, stand-in or executed; None if the replay did not call the step."""
    old_answer: str | None = None
    old_error: str | None = None
    answer: str | None = None
    error: str | None = None
    changed: bool | None = None
    """None if a model was not asked, or if only one of the two runs called the step."""


@dataclass(slots=True, kw_only=True)
class QuestionRow:
    """A question to a person in the replay, with the recorded answer."""

    session: int
    session_id: str
    run: int
    number: int
    """Number among the run's questions, from 1."""
    stream: str | None
    """`token` for a token."""
    subject: str | None
    same_question: bool | None = None
    """False if the recorded answer was to another question on the same stream; None if no person answered one."""
    old_answer: str | None = None
    answer: str | None = None
    by: str | None = None
    """Source of the answer: kept, or an operator's name."""
    proposed: str | None = None
    proposed_by: str | None = None
    """An operator's name, or `initial` for the code's own proposal."""
    agrees: bool | None = None
    """True if the proposal equals the person's answer; None if either is missing."""
    problem: str | None = None
    """Reason why a recorded answer was not taken."""


REPLAY_TYPES = {
    "session": "Int64",
    "session_id": "String",
    "run": "Int64",
    "old_status": "String",
    "old_result": "String",
    "old_error": "String",
    "old_duration_s": "Float64",
    "status": "String",
    "result": "String",
    "error": "String",
    "duration_s": "Float64",
    "changed": "Boolean",
    "waits": "Int64",
    "kept": "Int64",
    "asked": "Int64",
    "timed_out": "Int64",
    "not_asked": "Int64",
    "executed": "Int64",
    "cost": "Float64",
    "problem": "String",
}
"""Columns of `Replays.sessions()`, with polars types."""

STEP_TYPES = {
    "session": "Int64",
    "session_id": "String",
    "run": "Int64",
    "step": "String",
    "number": "Int64",
    "source": "String",
    "old_answer": "String",
    "old_error": "String",
    "answer": "String",
    "error": "String",
    "changed": "Boolean",
}
"""Columns of `Replays.steps()`."""

QUESTION_TYPES = {
    "session": "Int64",
    "session_id": "String",
    "run": "Int64",
    "number": "Int64",
    "stream": "String",
    "subject": "String",
    "same_question": "Boolean",
    "old_answer": "String",
    "answer": "String",
    "by": "String",
    "proposed": "String",
    "proposed_by": "String",
    "agrees": "Boolean",
    "problem": "String",
}
"""Columns of `Replays.questions()`."""

AGREEMENT_TYPES = {
    "stream": "String",
    "questions": "Int64",
    "answered_then": "Int64",
    "compared": "Int64",
    "agreed": "Int64",
    "share": "Float64",
}
"""Columns of `Replays.agreement()`."""


class Replays:
    """Results of a replay, each session then and now.

    Args:
        rows: A row per session, or per run.
        steps: A row per call of a step.
        questions: A row per question to a person.
        stopped: Reason why sessions are missing, if the budget ended.
        spent: Cost of all executed steps, those of missing sessions included.
        left_out: Number of earlier runs of these sessions that were not replayed.
    """

    def __init__(
        self,
        rows: Iterable[ReplayRow],
        steps: Iterable[StepRow] = (),
        questions: Iterable[QuestionRow] = (),
        *,
        stopped: str | None = None,
        spent: float = 0.0,
        left_out: int = 0,
    ) -> None:
        self._rows = [asdict(row) for row in rows]
        self._steps = [asdict(row) for row in steps]
        self._questions = [asdict(row) for row in questions]
        self.stopped = stopped
        self.spent = spent
        self.left_out = left_out

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        changed = sum(row["changed"] is True for row in self._rows)
        sessions = len({row["session_id"] for row in self._rows})
        runs = f"{len(self._rows)} runs of " if sessions < len(self._rows) else ""
        told = f"{runs}{sessions} sessions, {changed} changed"
        unasked = sum(row["changed"] is None and row["not_asked"] > 0 for row in self._rows)
        if unasked:
            told += f", {unasked} with a model that was not asked"
        if problems := sum(row["problem"] is not None for row in self._rows):
            told += f", {problems} with a problem"
        if self.left_out:
            told += f", {self.left_out} earlier runs left out"
        return f"<Replays {told}; {self.stopped}>" if self.stopped else f"<Replays {told}>"

    def session_rows(self) -> list[dict[str, Any]]:
        """Return a dict per session, or per run, in the order given; needs no extra."""
        return [dict(row) for row in self._rows]

    def step_rows(self) -> list[dict[str, Any]]:
        """Return a dict per call of a step, by session, calls no longer made at the end of each; needs no extra."""
        return [dict(row) for row in self._steps]

    def question_rows(self) -> list[dict[str, Any]]:
        """Return a dict per question to a person, in the order asked; needs no extra."""
        return [dict(row) for row in self._questions]

    def agreement_rows(self) -> list[dict[str, Any]]:
        """Return a dict per stream: how many of people's answers were proposed now; needs no extra."""
        rows = []
        for stream in sorted({row["stream"] for row in self._questions}):
            asked = [row for row in self._questions if row["stream"] == stream]
            compared = [row["agrees"] for row in asked if row["agrees"] is not None]
            rows.append(
                {
                    "stream": stream,
                    "questions": len(asked),
                    "answered_then": sum(row["old_answer"] is not None for row in asked),
                    "compared": len(compared),
                    "agreed": sum(compared),
                    "share": sum(compared) / len(compared) if compared else None,
                }
            )
        return rows

    def sessions(self) -> polars.DataFrame:
        """A row per session, or per run: `REPLAY_TYPES`. Results are JSON, spans seconds.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._rows, REPLAY_TYPES)

    def steps(self) -> polars.DataFrame:
        """A row per call of a step, with what it gave then and gives now: `STEP_TYPES`. Answers are JSON.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._steps, STEP_TYPES)

    def questions(self) -> polars.DataFrame:
        """A row per question, with what a person answered and what is proposed now: `QUESTION_TYPES`. Answers are JSON.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self._questions, QUESTION_TYPES)

    def agreement(self) -> polars.DataFrame:
        """A row per stream: `AGREEMENT_TYPES`.

        Raises:
            MissingExtra: polars is not installed.
        """
        return frame(self.agreement_rows(), AGREEMENT_TYPES)
