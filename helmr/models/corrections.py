"""Corrections: what a rewind or an amendment would do, and where a fork comes from."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from helmr.models.people import Wire


class RepeatedStepState(StrEnum):
    """How far a step has come that a rewind takes back."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RepeatedStep(Wire):
    """A step that had started and may run again.

    `step_key` names it to the outside so far, `new_key` from then on. They are equal for one that has no outcome yet.
    """

    op: int
    name: str
    step_key: str
    new_key: str
    state: RepeatedStepState
    at: datetime
    """When it ended, or began to run if it has no outcome."""


class KeptAnswer(Wire):
    """An answer that a wait takes again if it asks the same."""

    wait_id: str
    """The wait that had it."""
    stream: str | None = None
    record_seq: int | None = None


class AskedAgain(Wire):
    """A wait whose question is asked anew."""

    op: int
    wait_id: str
    stream: str | None = None
    subject: str | None = None


class RepeatedOutput(Wire):
    """An output record that followers may have seen, and that the code may append again."""

    op: int
    stream: str
    seq: int


class RewindPreview(Wire):
    """What a rewind, or an amendment, would do now. Nothing of it has happened.

    The rewind carries `hash` back: it is refused if it would do something else by then (S-76).
    """

    session_id: str
    run_id: str
    keep_answers: bool
    keep_children: bool = False
    hash: str
    to_op: int
    """The first op that is asked anew."""
    set_aside: list[int]
    """Every op that leaves the journal."""
    steps: list[RepeatedStep] = Field(default_factory=list)
    kept: list[KeptAnswer] = Field(default_factory=list)
    asked_again: list[AskedAgain] = Field(default_factory=list)
    tokens: list[str] = Field(default_factory=list)
    """Tokens that the ops set aside made; those that are pending are cancelled."""
    public_tokens: list[str] = Field(default_factory=list)
    """Public tokens likewise; they are revoked."""
    children: list[str] = Field(default_factory=list)
    """Sessions that the ops set aside started; those whose run has not ended are cancelled."""
    outputs: list[RepeatedOutput] = Field(default_factory=list)
    amends: str | None = None
    """The wait that gets another answer, of an amendment."""
