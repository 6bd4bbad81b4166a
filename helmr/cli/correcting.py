"""Showing what a correction would do, asking whether to do it, and amending all that a batch has answered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import many, printing
from helmr.cli.describe import time_text, value_text
from helmr.errors import HelmrError, UsageError
from helmr.models import WaitInfo
from helmr.person.review import question
from helmr.person.review.batches import Progress

if TYPE_CHECKING:
    from helmr.cli.app import ExitCode
    from helmr.client import Client
    from helmr.models import AskedAgain, KeptAnswer, RepeatedStep, RewindPreview


STEP_COLUMNS = ("OP", "STEP", "STATE", "AT", "KEY", "NEW KEY")
KEPT_COLUMNS = ("KEPT ANSWER OF", "STREAM", "RECORD")
ASKED_COLUMNS = ("OP", "ASKED AGAIN", "STREAM", "SUBJECT")

Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="The reason, for the transcript. Required."),
]
AskAgain = Annotated[
    bool, typer.Option("--ask-again", help="Keep no answer: ask every later question again.")
]
KeepChildren = Annotated[
    bool,
    typer.Option("--keep-children", help="Let child sessions that were started after it go on."),
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Only show what it would do; needs no reason.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
ToOp = Annotated[
    int | None,
    typer.Option("--to-op", min=1, metavar="OP", help="The first op that is asked again."),
]
ToWait = Annotated[
    str | None, typer.Option("--to-wait", metavar="WAIT", help="Or the wait that is asked again.")
]


def require_reason(reason: str | None) -> str:
    """The reason.

    Raises:
        UsageError: None was given.
    """
    if reason is None or not reason.strip():
        raise UsageError("a correction needs a reason", hint="Say why: --reason TEXT.")
    return reason


def require_place(to_op: int | None, to_wait: str | None) -> None:
    """Return if exactly one place is named.

    Raises:
        UsageError: None is, or two are.
    """
    if (to_op is None) == (to_wait is None):
        raise UsageError("name one place to go back to", hint="--to-op OP or --to-wait WAIT.")


def confirmed(seen: RewindPreview, *, yes: bool, json: bool) -> bool:
    """Show the preview on a terminal and ask; with `yes` nothing is shown.

    Raises:
        UsageError: There is no one to ask.
    """
    if yes:
        return True
    if json or not (sys.stdin.isatty() and printing.is_terminal(sys.stdout)):
        raise UsageError(
            "no one can be asked whether to do it",
            hint="Look with --preview, then say --yes.",
        )
    show(seen)
    return typer.confirm("Do it?")


def show(seen: RewindPreview) -> None:
    """Print what a rewind or an amendment would do."""
    steps = [_step(one) for one in seen.steps]
    _table("Steps that run again if the code asks for them", STEP_COLUMNS, steps)
    _table("Answers that are kept", KEPT_COLUMNS, [_kept(one) for one in seen.kept])
    _table(
        "Questions that are asked again", ASKED_COLUMNS, [_asked(one) for one in seen.asked_again]
    )
    ended = [*seen.tokens, *seen.public_tokens, *seen.children]
    if ended:
        printing.write(f"Ends: {', '.join(ended)}")
    if seen.outputs:
        printing.write(f"Output records that stay, and may be written again: {len(seen.outputs)}")
    printing.write(f"{seen.run_id} goes back to op {seen.to_op}.")


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    if rows:
        printing.write(title)
        printing.table(columns, rows)
        printing.write("")


def _step(one: RepeatedStep) -> tuple[object, ...]:
    key = "the same" if one.new_key == one.step_key else one.new_key
    return (one.op, one.name, one.state, time_text(one.at), one.step_key, key)


def _kept(one: KeptAnswer) -> tuple[object, ...]:
    return (one.wait_id, one.stream, one.record_seq)


def _asked(one: AskedAgain) -> tuple[object, ...]:
    return (one.op, one.wait_id, one.stream, one.subject)


COLUMNS = ("WAIT", "SUBJECT", "ANSWERED WITH", "STEPS AGAIN", "ASKED AGAIN", "ENDS")


@dataclass(frozen=True, slots=True)
class Amendment:
    """An answered wait with its new answer and the effects of the amendment, or the reason against it."""

    wait: WaitInfo
    preview: RewindPreview | None
    answer: Any
    why_not: str = ""


def run(
    client: Client,
    batch: str,
    answer: Callable[[WaitInfo], Any],
    *,
    reason: str | None,
    keep_answers: bool,
    keep_children: bool,
    asked: many.BulkAsked,
) -> ExitCode:
    """Find what the batch has answered, show what each amendment would do, ask, amend those that would still do that.

    Raises:
        UsageError: No one can be asked.
    """
    waits = many.first(
        lambda after, count: client.waits.page(
            status="fulfilled", batch_id=batch, limit=count, cursor=after
        )
    )

    def planned(one: WaitInfo) -> Amendment:
        wait = client.waits.get(one.id)
        try:
            seen = client.waits.preview_amend(
                wait.id, keep_answers=keep_answers, keep_children=keep_children
            )
        except HelmrError as error:
            return Amendment(wait, None, None, printing.error_text(error))
        value = answer(wait)
        if value == wait.answer:
            return Amendment(wait, None, None, "it is answered so already")
        return Amendment(wait, seen, value)

    def amend(one: Amendment) -> many.Done:
        if one.preview is None:
            return many.Done(one.why_not, Progress.SKIPPED)
        done = client.waits.amend(one.wait.id, one.answer, preview=one.preview, reason=reason or "")
        return many.Done(f"{done.id} goes back to op {one.preview.to_op}")

    amendments = [planned(one) for one in waits]

    def show() -> None:
        printing.table(COLUMNS, [_row(one) for one in amendments])
        for one in [one for one in amendments if one.preview is not None][:1]:
            printing.write(f"new answer: {question.answer_text(one.answer)}")

    targets = [_target(one) for one in amendments]
    return many.do(targets, many.one_by_one(amend), show=show, verb="amend", asked=asked)


def _row(one: Amendment) -> tuple[object, ...]:
    said = None if one.wait.answer is None else value_text(one.wait.answer)
    if one.preview is None:
        return (one.wait.id, one.wait.subject, said, one.why_not, None, None)
    steps = ", ".join(step.name for step in one.preview.steps)
    ends = len(one.preview.tokens) + len(one.preview.public_tokens) + len(one.preview.children)
    return (one.wait.id, one.wait.subject, said, steps, len(one.preview.asked_again), ends)


def _target(one: Amendment) -> many.Target[Amendment]:
    facts: dict[str, Any] = {"subject": one.wait.subject, "answered_with": one.wait.answer}
    if one.preview is not None:
        facts |= {"answer": one.answer, "preview": one.preview.model_dump(mode="json")}
    else:
        facts["detail"] = one.why_not
    return many.Target(one, {"wait_id": one.wait.id}, question.about(one.wait), facts)
