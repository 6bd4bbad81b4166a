"""`helmr wait amend --all --batch NAME`: another answer for every wait that a batch has answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helmr.cli import many, printing
from helmr.cli.describe import value_text
from helmr.errors import HelmrError
from helmr.models import WaitInfo
from helmr.review import question

if TYPE_CHECKING:
    from helmr.cli.exit_codes import ExitCode
    from helmr.client import Client
    from helmr.models import RewindPreview

COLUMNS = ("WAIT", "SUBJECT", "ANSWERED WITH", "STEPS AGAIN", "ASKED AGAIN", "ENDS")


@dataclass(frozen=True, slots=True)
class Amendment:
    """An answered wait, what its amendment would do, and what it is then answered with; or why it can't be."""

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
    asked: many.Asked,
) -> ExitCode:
    """Find what the batch has answered, show what each amendment would do, ask, amend those that would still do that.

    Raises:
        UsageError: Nobody can be asked.
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
            return many.Done(one.why_not, skipped=True)
        done = client.waits.amend(one.wait.id, one.answer, preview=one.preview, reason=reason or "")
        return many.Done(f"{done.id} goes back to op {one.preview.to_op}")

    amendments = [planned(one) for one in waits]

    def show() -> None:
        printing.table(COLUMNS, [_row(one) for one in amendments])
        for one in [one for one in amendments if one.preview is not None][:1]:
            printing.write(f"new answer: {question.answer_text(one.answer)}")

    targets = [_target(one) for one in amendments]
    return many.do(targets, amend, show=show, verb="amend", asked=asked)


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
