"""Previews of actions, as lines to read before confirming, and results of bulk actions. Pure.

The gateway's receipt is the truth. A preview names everything that a rewind or an amendment would do (S-76).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helmr.models import (
    AskedAgain,
    BulkOutcome,
    BulkPlan,
    BulkVerb,
    KeptAnswer,
    RepeatedStep,
    RepeatedStepState,
    RewindPreview,
    RunInfo,
    SessionInfo,
    SessionStatus,
    StreamInfo,
    WaitInfo,
    WaitKind,
)
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.person.review.words import DiffLine, short_id, subject_of
from helmr.wire.safe_text import one_line

NEAR = 0.6


def of_answer(wait: WaitInfo) -> tuple[str, ...]:
    """Effects of answering this wait."""
    if wait.kind is WaitKind.TOKEN:
        return (
            "completes the token; every wait on it is fulfilled",
            "the first completion wins and can't be taken back",
        )
    if wait.approvals > 1:
        return (
            f"a vote: the wait is fulfilled once {wait.approvals} people have given the same answer",
            f"until then it can be taken back: helmr wait withdraw {wait.id}",
        )
    return (
        f"a record on {one_line(wait.stream or 'the stream', 60)} fulfils exactly this wait",
        "the run goes on; what its steps then do can't be taken back",
    )


def of_send(session: SessionInfo, stream: str, correlation_id: str) -> tuple[str, ...]:
    """Likely effects of a send to this stream (S-23, S-25), the outcome's word first."""
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
    """Input streams of this session, the one it waits on first."""
    waited = session.wait.stream if session.wait else None
    found = [
        stream
        for stream in streams
        if stream.direction == "input" and (not stream.tasks or session.task in stream.tasks)
    ]
    return sorted(found, key=lambda stream: (stream.name != waited, stream.name))


def of_retry(run: RunInfo) -> tuple[str, ...]:
    """Effects of retrying this run (S-5)."""
    again = (
        "nothing is set aside" if run.status.value == "blocked" else "the failed step runs again"
    )
    return (
        f"attempt {run.attempt + 1} starts; recorded steps return at once",
        again,
        "steps completed before the failure are not repeated",
    )


def of_bulk(plan: BulkPlan) -> tuple[str, ...]:
    """Effects of carrying out this plan (S-5, S-6, S-69)."""
    which = "the next attempt starts" if len(plan.runs) == 1 else "the next attempt of each starts"
    said = {
        BulkVerb.RETRY: (
            f"{which}; recorded steps return at once",
            "of one that failed the failed step runs again, of a blocked one nothing is set aside",
            "steps completed before the failure are not repeated",
        ),
        BulkVerb.CANCEL: (
            "end the runs, their waits and pending tokens; the sessions stay open",
            "steps that ran stay done; nothing is undone",
        ),
        BulkVerb.CLOSE: (
            "take no more input; the transcripts stay readable",
            "end the input that they wait for: such a run goes on without an answer",
        ),
        BulkVerb.PRUNE: (
            "remove the sessions from the ledger for good; a Parquet file in its folder keeps their entries",
            "leave those that something refers to which stays: parents and children go together",
        ),
    }
    return (*said[plan.verb], f"if it is interrupted: {command_of(plan)} does the rest")


COMMANDS = {
    BulkVerb.RETRY: "helmr run retry --all",
    BulkVerb.CANCEL: "helmr run cancel --all",
    BulkVerb.CLOSE: "helmr session close --all",
    BulkVerb.PRUNE: "helmr prune",
}


def command_of(plan: BulkPlan) -> str:
    """The CLI command that continues the plan."""
    return f"{COMMANDS[plan.verb]} --batch {plan.id}"


def progress(plan: BulkPlan, outcomes: Sequence[BulkOutcome]) -> str:
    """`retried 120 of 300, 3 not`: the progress."""
    done = sum(one.progress == "accepted" for one in outcomes)
    refused = sum(one.progress == "skipped" for one in outcomes)
    said = f"{PAST[plan.verb]} {done} of {len(plan.runs)}"
    return f"{said}, {refused} not" if refused else said


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


REFUSALS_SHOWN = 6


DONE = {
    BulkVerb.RETRY: ("run begins the next attempt", "runs begin the next attempt"),
    BulkVerb.CANCEL: ("run cancelled", "runs cancelled"),
    BulkVerb.CLOSE: ("session closed", "sessions closed"),
    BulkVerb.PRUNE: ("session pruned", "sessions pruned"),
}
PAST = {
    BulkVerb.RETRY: "retried",
    BulkVerb.CANCEL: "cancelled",
    BulkVerb.CLOSE: "closed",
    BulkVerb.PRUNE: "pruned",
}


def summary(plan: BulkPlan, outcomes: Sequence[BulkOutcome]) -> AnswerOutcome:
    """Combine the outcomes into one: done if none is left to try, with refusals by name, or by kind if there are many.

    Args:
        outcomes: Those of the runs that were tried, in order.
    """
    done = sum(one.progress == "accepted" for one in outcomes)
    runs = f"{done} {DONE[plan.verb][done != 1]}"
    refused = [one for one in outcomes if one.progress == "skipped"]
    left = len(plan.runs) - done - len(refused)
    if left:
        why = next((one.detail for one in outcomes if one.progress in ("failed", "unknown")), "")
        said = (*([why] if why else []), runs, f"{left} not known or not tried yet")
        return AnswerOutcome(Result.UNAVAILABLE, said)
    told = _refusals(refused)
    if done:
        tail = [f"{len(refused)} not: {'; '.join(told)}"] if refused else []
        return AnswerOutcome(Result.ACCEPTED, (runs, *tail))
    return AnswerOutcome(Result.CONFLICT, tuple(told))


def _refusals(refused: Sequence[BulkOutcome]) -> list[str]:
    """List refusals by name; above `REFUSALS_SHOWN`, count each kind, most frequent first, with one example."""
    if len(refused) <= REFUSALS_SHOWN:
        return [_refusal(one) for one in refused]
    kinds: dict[str, list[BulkOutcome]] = {}
    for one in refused:
        kind = one.error.replace("_", " ") if one.error is not None else one.detail
        kinds.setdefault(kind or "refused", []).append(one)
    most = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    told = [f"{len(alike)} {kind}, as {_refusal(alike[0])}" for kind, alike in most]
    more = sum(len(alike) for _, alike in most[REFUSALS_SHOWN:])
    return [*told[:REFUSALS_SHOWN], *([f"and {more} more"] if more else [])]


def _refusal(one: BulkOutcome) -> str:
    return f"{short_id(one.session_id)}: {one.detail or 'refused'}"


Line = tuple[str, str]
"""A text and its role. The text comes from the session unchanged; the caller that draws it makes it safe."""

_DIFF_ROLES = {"~": "warning", "+": "success", "-": "error"}
_KEYS_FROM = 18
"""Cells before a key."""


def repeated(preview: RewindPreview) -> int:
    """Number of started steps that may run again; the operator types it to confirm."""
    return len(preview.steps)


def preview_lines(preview: RewindPreview, changed: Sequence[DiffLine] = ()) -> list[Line]:
    """List all effects of a rewind or an amendment, repeated steps first.

    Args:
        changed: Differences between the old and the new answer of an amendment.
    """
    return [
        *_steps(preview.steps),
        *_changed(changed),
        *_listed("Answers kept, if the same is asked", map(_kept, preview.kept)),
        *_listed("Asked again", map(_asked, preview.asked_again)),
        *_listed("Tokens cancelled, if they are pending", map(short_id, preview.tokens)),
        *_listed("Public tokens revoked", map(short_id, preview.public_tokens)),
        *_listed(
            "Outputs that may be appended again, and stay",
            (f"op {one.op}  {one.stream} #{one.seq}" for one in preview.outputs),
        ),
        ("", ""),
        (
            f"{len(preview.set_aside)} op(s) are set aside, from op {preview.to_op} on; "
            "they stay in the transcript.",
            "muted",
        ),
    ]


def _changed(changed: Sequence[DiffLine]) -> Iterator[Line]:
    if not changed:
        return
    yield "", ""
    yield "The answer", "muted"
    for line in changed:
        yield f"  {line.sign} {line.path}  {line.text}", _DIFF_ROLES.get(line.sign, "")


def _steps(steps: Sequence[RepeatedStep]) -> Iterator[Line]:
    if not steps:
        yield "No step is repeated: none had started.", "success"
        return
    yield f"May run again: {len(steps)} step(s) that had started", "error"
    for step in steps:
        at = words.clock(step.at)
        yield f"  ! op {step.op}  {step.name}  {step.state.value} {at}", "error"
        if step.state is RepeatedStepState.RUNNING or step.step_key == step.new_key:
            yield f"{'key kept':>{_KEYS_FROM - 2}}  {step.step_key}", "error"
        else:
            yield f"{'old key':>{_KEYS_FROM - 2}}  {step.step_key}", "error"
            yield f"{'new key':>{_KEYS_FROM - 2}}  {step.new_key}", "error"


def _listed(title: str, found: Iterator[str]) -> Iterator[Line]:
    texts = list(found)
    if texts:
        yield "", ""
        yield title, "muted"
        yield from ((f"  {text}", "") for text in texts)


def _kept(one: KeptAnswer) -> str:
    where = f"{one.stream} #{one.record_seq}" if one.stream is not None else "token"
    return f"{where}  of {short_id(one.wait_id)}"


def _asked(one: AskedAgain) -> str:
    return f"op {one.op}  {one.stream or 'token'}  {one.subject or ''}"
