"""Corrections: the ops that a rewind takes back, keeps, and repeats (S-75…S-79). Pure.

A rewind to an op sets that op aside and every op behind it. Answers that the set-aside waits had are *held*: a wait
that asks the same takes them again. An amendment is a rewind to a resolved wait with another answer for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helmr.errors import (
    BadRequest,
    OpNotFound,
    RunNotRewindable,
    SessionTerminal,
    WaitNotAmendable,
)
from helmr.models import REASON_MAX, RewindPreview, SessionStatus
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.children import CHILD_STEP
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Principal, iso
from helmr_runtime.core.run import ASKS_PEOPLE, STEP_OUTCOMES, AnswerToKeep, Run, step_key
from helmr_runtime.core.state import SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """The plan of a rewind: its effects on a run.

    Attributes:
        to_op: The first op that is asked again.
        set_aside: Every op that leaves the journal, in order.
        held: All answers held afterwards, in the order in which waits take them.
        asked_again: Set-aside waits whose answer is not held: `{op, wait_id, stream?, subject?}`.
        steps: The steps set aside: `{op, name, step_key, new_key, state, at}`; state is running, succeeded or failed.
        tokens: Tokens that set-aside ops made.
        public_tokens: Public tokens that set-aside ops made.
        children: Sessions that set-aside ops have started, and that the rewind ends (S-77).
        outputs: Records that clients may have seen and that may be appended again: `{op, stream, seq}`.
        amends: The wait that gets another answer.
    """

    to_op: int
    set_aside: tuple[int, ...]
    held: tuple[AnswerToKeep, ...] = ()
    asked_again: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    tokens: tuple[str, ...] = ()
    public_tokens: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    amends: str | None = None
    changed: AnswerToKeep | None = field(default=None, compare=False)
    """The answer that an amendment replaces."""

    def to_json(self) -> dict[str, Any]:
        """Return the preview that a person sees before the rewind."""
        return {
            "to_op": self.to_op,
            "set_aside": list(self.set_aside),
            "steps": [dict(one) for one in self.steps],
            "kept": [
                {"wait_id": one.wait_id, "stream": one.stream, "record_seq": one.record_seq}
                for one in self.held
            ],
            "asked_again": [dict(one) for one in self.asked_again],
            "tokens": list(self.tokens),
            "public_tokens": list(self.public_tokens),
            "children": list(self.children),
            "outputs": [dict(one) for one in self.outputs],
            "amends": self.amends,
        }

    @property
    def hash(self) -> str:
        """The plan's hash: the rewind carries it, so that people rewind only what they have seen (S-76)."""
        return jsontext.same_data_hash(self.to_json())


def rewindable(state: SessionState, run_id: str) -> Run:
    """The run, if it may be taken back (S-75).

    Raises:
        RunNotRewindable: It is not the session's newest run.
        SessionTerminal: The session was closed or cancelled, and not by this run.
    """
    run = state.run
    if run is None or run.id != run_id:
        raise RunNotRewindable(
            f"{run_id} is not the newest run of {state.id}",
            hint="Only a session's newest run can be rewound.",
            run_id=run_id,
        )
    is_closed_by_it = state.status is SessionStatus.CLOSED and state.closed_by == run.id
    if state.status is not SessionStatus.OPEN and not is_closed_by_it:
        raise SessionTerminal(f"{state.id} is {state.status.value}")
    return run


def plan_rewind(
    state: SessionState,
    run: Run,
    to_op: int,
    *,
    keep_answers: bool = True,
    keep_children: bool = False,
) -> Rewind:
    """Plan a rewind of the newest run to this op, without doing it.

    Raises:
        OpNotFound: The run's journal has no such op.
    """
    opened = _opened(run)
    if to_op not in opened:
        raise OpNotFound(
            f"{run.id} has no op {to_op} to go back to",
            hint="An op that was set aside or given up is no longer in the journal.",
            op=to_op,
        )
    gone = _set_aside(run, to_op, opened)
    entries = [entry for entry in run.journal if entry.op in gone]
    taken = _answers(entries) if keep_answers else []
    held = (*taken, *run.held) if keep_answers else ()
    kept = {one.wait_id for one in taken}
    waits = [e for e in entries if e.kind is EntryKind.WAIT_OPENED]
    own = [
        e for e in entries if "copied_from" not in e.body
    ]  # what a fork's origin made stays its own (S-86)
    made = [e for e in own if e.kind is EntryKind.TOKEN_CREATED]
    public = [e for e in own if e.kind is EntryKind.PUBLIC_TOKEN_CREATED]
    outputs = [e for e in entries if e.kind is EntryKind.OUTPUT_APPENDED]
    return Rewind(
        to_op=to_op,
        set_aside=tuple(sorted(gone)),
        held=tuple(held),
        asked_again=tuple(_asked(e) for e in waits if _asks(e) and e.body["wait_id"] not in kept),
        steps=tuple(_step(state, run, e) for e in entries if e.kind is EntryKind.STEP_STARTED),
        tokens=tuple(e.body["token_id"] for e in made),
        public_tokens=tuple(e.body["public_token_id"] for e in public),
        children=() if keep_children else tuple(_children(own)),
        outputs=tuple(
            {"op": e.op, "stream": e.body["stream"], "seq": e.body["stream_seq"]} for e in outputs
        ),
    )


def plan_amendment(
    state: SessionState,
    run: Run,
    wait_id: str,
    *,
    keep_answers: bool = True,
    keep_children: bool = False,
) -> Rewind:
    """Plan another answer for this wait: a rewind to it that drops its current answer (S-79).

    Raises:
        WaitNotAmendable: It is pending, was cancelled, waits for no answer, or is not in the run's journal.
    """
    try:
        opening = _opening(run, wait_id)
    except OpNotFound as error:
        raise WaitNotAmendable(error.message, hint=error.hint, wait_id=wait_id) from error
    assert opening.op is not None
    if not _asks(opening):
        raise WaitNotAmendable(
            f"{wait_id} waits for a {opening.body['kind']}, which has no answer", wait_id=wait_id
        )
    ended = {e.kind for e in run.journal if e.op == opening.op}
    if not ended & {EntryKind.WAIT_FULFILLED, EntryKind.WAIT_TIMED_OUT}:
        raise WaitNotAmendable(
            f"{wait_id} has no outcome to amend",
            hint="Answer it, if it is pending.",
            wait_id=wait_id,
        )
    plan = plan_rewind(
        state, run, opening.op, keep_answers=keep_answers, keep_children=keep_children
    )
    return Rewind(
        to_op=plan.to_op,
        set_aside=plan.set_aside,
        held=tuple(one for one in plan.held if one.wait_id != wait_id),
        asked_again=tuple(one for one in plan.asked_again if one["wait_id"] != wait_id),
        steps=plan.steps,
        tokens=plan.tokens,
        public_tokens=plan.public_tokens,
        children=plan.children,
        outputs=plan.outputs,
        amends=wait_id,
        changed=next(iter(_answers([e for e in run.journal if e.op == opening.op])), None),
    )


def answer_for(
    question: Mapping[str, Any],
    op: int,
    state: SessionState,
    record_id: str,
    data: Any,
    mode: str,
) -> AnswerToKeep:
    """Return an answer held for the next wait that asks this question.

    Args:
        question: The body of a wait's opening.
        op: Its op.
        state: The session that the answer is for; an answer to an input wait is its next record.
        record_id: That record's id.
        data: The answer.
        mode: The channel that it came by.
    """
    stream: str | None = question.get("stream")
    is_record = stream is not None
    seq = state.input_seqs.get(stream, 0) + 1 if stream is not None else None
    return AnswerToKeep(
        question_hash=question.get("question_hash", ""),
        wait_id=question["wait_id"],
        stream=stream,
        record_id=record_id if is_record else None,
        record_seq=seq,
        data=None if is_record else data,
        mode=mode,
        op=op if "question_hash" not in question else None,
    )


def accepted_for(
    question: Mapping[str, Any],
    answer: AnswerToKeep,
    data: Any,
    amends: Mapping[str, Any],
    principal: Principal,
) -> Draft:
    """Return the record of an answer that `answer_for` made for an input wait."""
    record: dict[str, Any] = {
        "record_id": answer.record_id,
        "stream": answer.stream,
        "stream_seq": answer.record_seq,
        "data": data,
        "outcome": "fulfilled",
        "mode": answer.mode,
        "amends": dict(amends),
    }
    if "correlation_id" in question:
        record["correlation_id"] = question["correlation_id"]
    return Draft(EntryKind.INPUT_ACCEPTED, record, principal=principal)


def question_of_wait(run: Run, wait_id: str) -> Mapping[str, Any]:
    """The body of the wait's opening.

    Raises:
        OpNotFound: The run's journal does not have it.
    """
    return _opening(run, wait_id).body


def wait_op(run: Run, wait_id: str) -> int:
    """The op of a wait.

    Raises:
        OpNotFound: The run's journal does not have it.
    """
    op = _opening(run, wait_id).op
    assert op is not None
    return op


def wait_at(run: Run, op: int) -> Mapping[str, Any]:
    """The body of the opening of the wait that this op is.

    Raises:
        OpNotFound: There is no such op, or it is not a wait that a person answers.
    """
    openings = (e for e in run.journal if e.op == op and e.kind is EntryKind.WAIT_OPENED)
    found = next((e for e in openings if _asks(e)), None)
    if found is None:
        raise OpNotFound(f"op {op} of {run.id} is not a wait that a person answers", op=op)
    return found.body


def checked_reason(reason: str) -> str:
    """The reason as it is recorded.

    Raises:
        BadRequest: It is empty or too long.
    """
    stripped = reason.strip()
    if not 1 <= len(stripped) <= REASON_MAX:
        raise BadRequest(f"a reason has 1 to {REASON_MAX} characters")
    return stripped


def place_of(run: Run, to_op: int | None, wait_id: str | None) -> int:
    """The op that a request names, by its number or by its wait.

    Raises:
        BadRequest: It names none, or two.
        OpNotFound: The run's journal has no such wait.
    """
    if to_op is not None and wait_id is None:
        return to_op
    if wait_id is not None and to_op is None:
        return wait_op(run, ids.check_id(wait_id, ids.WAIT))
    raise BadRequest("name either an op or a wait to go back to")


def preview_of(
    state: SessionState, run: Run, plan: Rewind, *, keep_answers: bool, keep_children: bool
) -> RewindPreview:
    """Return a plan as people see it."""
    named = {"session_id": state.id, "run_id": run.id}
    seen = {
        "keep_answers": keep_answers,
        "keep_children": keep_children,
        "hash": plan.hash,
    }
    return RewindPreview.model_validate({**plan.to_json(), **named, **seen})


def _opening(run: Run, wait_id: str) -> Entry:
    openings = (e for e in run.journal if e.kind is EntryKind.WAIT_OPENED)
    found = next((e for e in openings if e.body["wait_id"] == wait_id), None)
    if found is None:
        raise OpNotFound(
            f"{wait_id} is not in the journal of {run.id}",
            hint="A wait that was set aside is no longer in the journal; a question asked again is another wait.",
            wait_id=wait_id,
        )
    return found


def _opened(run: Run) -> dict[int, int]:
    """Op → the seq at which the code asked for it."""
    opened: dict[int, int] = {}
    for entry in run.journal:
        if entry.op is not None:
            opened.setdefault(entry.op, entry.seq)
    return opened


def _set_aside(run: Run, to_op: int, opened: Mapping[int, int]) -> set[int]:
    """Return the op, all ops after it, ops that the code gave up since it was asked, and a pending wait (S-75).

    The pending wait is always included: code that runs again must not find the run waiting in an older branch.
    """
    point = opened[to_op]
    gone = {op for op in opened if op >= to_op}
    gone |= {
        entry.op
        for entry in run.journal
        if entry.op is not None and entry.body.get("reason") == "task" and entry.seq > point
    }
    if run.wait is not None and run.wait.has_own_op:
        gone.add(run.wait.op)
    return gone


def _answers(entries: list[Entry]) -> list[AnswerToKeep]:
    """The answers of these ops' waits, in the order in which they were taken (S-78).

    A token's completion belongs to the token and stays there; only an amended answer belonged to this session.
    """
    questions = {e.op: e.body for e in entries if e.kind is EntryKind.WAIT_OPENED}
    returned = {e.op for e in entries if e.kind is EntryKind.INPUT_RETURNED}
    found = []
    for entry in entries:
        body = entry.body
        if entry.kind is not EntryKind.WAIT_FULFILLED or entry.op in returned:
            continue
        question = questions.get(entry.op, {}).get("question_hash")
        is_own = "record_seq" in body or "kept_from" in body
        if question is not None and is_own:
            found.append(
                AnswerToKeep(
                    question_hash=question,
                    wait_id=body["wait_id"],
                    stream=body.get("stream"),
                    record_id=body.get("record_id"),
                    record_seq=body.get("record_seq"),
                    data=body.get("data"),
                    mode=body.get("mode"),
                )
            )
    return found


def _children(entries: list[Entry]) -> list[str]:
    """The sessions that these ops have started."""
    starts = {
        e.op
        for e in entries
        if e.kind is EntryKind.STEP_STARTED and e.body["name"].startswith(CHILD_STEP)
    }
    return [
        str(e.body["value"])
        for e in entries
        if e.kind is EntryKind.STEP_SUCCEEDED and e.op in starts
    ]


def _asks(opening: Entry) -> bool:
    return opening.body["kind"] in ASKS_PEOPLE


def _asked(opening: Entry) -> dict[str, Any]:
    body = opening.body
    named = {name: body[name] for name in ("stream", "subject") if name in body}
    return {"op": opening.op, "wait_id": body["wait_id"], **named}


def _step(state: SessionState, run: Run, started: Entry) -> dict[str, Any]:
    """A step set aside, with the key that it has and the one that it will have if it runs again."""
    outcome = next((e for e in run.journal if e.op == started.op and e.kind in STEP_OUTCOMES), None)
    assert started.op is not None
    name, key = str(started.body["name"]), str(started.body["step_key"])
    new = key
    if outcome is not None:
        rewinds = run.rewinds_of(started.op, name) + 1
        new = step_key(state.id, run.id, started.op, rewinds=rewinds, name=name)
    state_of = {None: "running", EntryKind.STEP_SUCCEEDED: "succeeded"}
    return {
        "op": started.op,
        "name": name,
        "step_key": key,
        "new_key": new,
        "state": state_of.get(outcome.kind if outcome is not None else None, "failed"),
        "at": iso((outcome or started).recorded_at),
    }
