"""The same for many runs or sessions: `run retry --all`, `run cancel --all`, `session close --all`, `prune --filter`.

They are shown as a batch, kept in a file, held for a while in which Ctrl-C takes all of it back, and done. The same
command with the batch's name goes on with it after a crash; the console keeps the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import listing, many, printing
from helmr.cli.app import Cli, ExitCode, now
from helmr.cli.many import BulkAsked, Came, Done, Target
from helmr.cli.next import hold_seconds
from helmr.errors import HelmrError, UsageError
from helmr.models import BulkPlan, BulkVerb, PlannedRun
from helmr.person.review import bulk
from helmr.person.review.batches import Progress
from helmr.person.review.sending import HOLD_S

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.person.review.bulk import BulkPlans

EveryRun = Annotated[
    bool,
    typer.Option("--all", help="The runs of all sessions that --filter finds, each shown first."),
]
EverySession = Annotated[
    bool, typer.Option("--all", help="All sessions that --filter finds, each shown first.")
]
Words = Annotated[
    str | None,
    typer.Option(
        "--filter", metavar="WORDS", help="A filter for sessions, as in `helmr session list`."
    ),
]
WordsOrFailed = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="WORDS",
        help="A filter for sessions, as in `helmr session list`; is:failed if not given.",
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="NAME",
        help="With many: reuse a previewed batch, or name a new one.",
    ),
]
Preview = Annotated[
    bool, typer.Option("--preview", help="With many: show them, and do nothing to them.")
]
Yes = Annotated[bool, typer.Option("--yes", help="With many: do it without showing and asking.")]
UndoFor = Annotated[
    str | None,
    typer.Option(
        "--undo-for",
        metavar="DURATION",
        help="With many: how long Ctrl-C takes all of it back, 0 to 60s. 5s if not given; with --yes 0.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkWords:
    """Options that go with `--all`; a command takes either them or one named thing."""

    every: bool
    words: str | None = None
    batch: str | None = None
    preview: bool = False
    yes: bool = False
    undo_for: str | None = None

    def refuse_one(self, named: str | None, noun: str) -> None:
        """Return if either one thing is named, with no option of many, or many are meant.

        Raises:
            UsageError: Neither or both.
        """
        given = (self.words, self.batch, self.preview or None, self.yes or None, self.undo_for)
        if self.every == (named is not None):
            raise UsageError(
                f"name one {noun}, or say --all", hint=f"Give {noun.upper()}, or --all."
            )
        if not self.every and any(one is not None for one in given):
            raise UsageError(
                "--filter, --batch, --preview, --yes and --undo-for go with --all",
                hint="Say --all.",
            )

    def asked(self, *, json: bool) -> BulkAsked:
        """Return the settings of the bulk run, with its undo time."""
        hold_s = hold_seconds(self.undo_for, otherwise=0.0 if self.yes else HOLD_S)
        return BulkAsked(preview=self.preview, yes=self.yes, json=json, hold_s=hold_s)


def do(
    cli: Cli,
    client: Client,
    verb: BulkVerb,
    said: BulkWords,
    *,
    json: bool,
    end_input: bool = False,
    reason: str | None = None,
) -> ExitCode:
    """Find them, show them, ask, hold, and do it to each that is still what was shown.

    Raises:
        BadFilter: The filter can't be read.
        UsageError: No one can be asked, or nothing says which are meant.
    """
    asked = said.asked(json=json)
    plan = _plan(client, verb, said, listing.own_files(cli).bulk, end_input=end_input)
    is_of_runs = verb in (BulkVerb.RETRY, BulkVerb.CANCEL)

    def act(targets: Sequence[Target[PlannedRun]]) -> Iterator[Came[PlannedRun]]:
        outcomes = client.bulk.do(plan, runs=[one.thing for one in targets], reason=reason)
        done = 0
        try:
            for one, came in zip(targets, outcomes, strict=False):  # which may end before the last
                done += 1
                yield one, Done(came.detail, Progress[came.progress.upper()], came.error)
        except HelmrError as error:  # of the whole call: no one knows which of its runs it reached
            yield targets[done], error

    def show() -> None:
        rows = [
            (
                one.run_id if is_of_runs else one.session_id,
                one.task,
                one.status,
                one.attempt,
                one.why,
            )
            for one in plan.runs
        ]
        first = "RUN" if is_of_runs else "SESSION"
        printing.table((first, "TASK", "STATUS", "ATTEMPT", "WHY"), rows)
        for count, text in plan.groups():
            printing.write_line(f"{count:5}  {text}")
        printing.note(f"batch {plan.id}, as it is shown here, can be done for a day")

    targets = [_target(one, plan.id, is_of_runs=is_of_runs) for one in plan.runs]
    asked = replace(asked, batch_id=plan.id)
    if asked.yes and targets:
        printing.note(f"batch {plan.id}")
    return many.do(targets, act, show=show, verb=verb.value, asked=asked)


def _plan(
    client: Client, verb: BulkVerb, said: BulkWords, plans: BulkPlans, *, end_input: bool
) -> BulkPlan:
    """Return the previewed batch, or store a new one of the things that can take the action."""
    bulk.check_name(said.batch)
    kept = plans.load(said.batch, verb, now()) if said.batch is not None else None
    if kept is not None:
        printing.note(f"batch {kept.id} as it was looked at: {len(kept.runs)} runs")
        return kept
    if said.words is None and (said.batch is not None or verb is not BulkVerb.RETRY):
        raise UsageError(
            f"nothing says which runs to {verb.value}",
            hint="Give --filter, or --batch with the name of one that you looked at.",
        )
    found = client.bulk.preview(verb, filter=said.words, end_input=end_input, batch_id=said.batch)
    if found.more:
        printing.note(
            f"there are more: these are the first {len(found.runs)}, say it again for the rest"
        )
    if found.runs:
        plans.save(found)
    return found


def _target(one: PlannedRun, batch_id: str, *, is_of_runs: bool) -> Target[PlannedRun]:
    return Target(
        one,
        {"run_id": one.run_id, "session_id": one.session_id, "batch_id": batch_id},
        f"{one.run_id if is_of_runs else one.session_id} {one.task}",
        {"task": one.task, "status": one.status, "attempt": one.attempt, "why": one.why},
    )
