"""Showing what a correction would do, and asking whether to do it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import printing
from helmr.cli.describe import time_text
from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr.models import AskedAgain, KeptAnswer, RepeatedStep, RewindPreview

STEP_COLUMNS = ("OP", "STEP", "STATE", "AT", "KEY", "NEW KEY")
KEPT_COLUMNS = ("KEPT ANSWER OF", "STREAM", "RECORD")
ASKED_COLUMNS = ("OP", "ASKED AGAIN", "STREAM", "SUBJECT")

Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why; it stands in the transcript. Required."),
]
AskAgain = Annotated[
    bool, typer.Option("--ask-again", help="Keep no answer: every question behind is asked again.")
]
KeepChildren = Annotated[
    bool,
    typer.Option("--keep-children", help="Let child sessions go on that were started behind it."),
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
        UsageError: There is nobody to ask.
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
    """What a rewind or an amendment would do, for a person."""
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
