"""`helmr rule` compares rules with past answers."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import describe, printing
from helmr.cli.app import Cli, Filter, Json, command, group

if TYPE_CHECKING:
    from helmr.rules import BackTest


app = group("Test rules that would answer waits on what people have answered.")

RULE_COLUMNS = ("WAIT", "SUBJECT", "PEOPLE SAID", "BY", "RULE SAYS")
LISTED_MAX = 50
"""Differences that are listed; `--json` has all."""


@command(
    app,
    "test",
    examples="""helmr rule test '{"filter": "stream:refund tag:small", "answer": {"decision": "approve"}}' --since 30d
helmr rule test rules.py:small_refunds --compare decision --filter task:refund
helmr rule test helmr.toml --since 7d""",
)
def hold(
    cli: Cli,
    rule: Annotated[
        str,
        typer.Argument(
            metavar="RULE",
            help="JSON of a rule, a .json or .toml file of rules, or module:function.",
        ),
    ],
    since: Annotated[
        str,
        typer.Option(metavar="DURATION", help="Answers at most that old; 30d if not given."),
    ] = "30d",
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Only this field of an answer counts; may be repeated."),
    ] = None,
    programs: Annotated[
        bool, typer.Option("--programs", help="Count the answers of programs too.")
    ] = False,
    filter_: Filter = None,
    json: Json = False,
) -> None:
    """Say how often a rule would have answered as people did, and where it would not; answers nothing."""
    from helmr import rules

    with redirect_stdout(sys.stderr):  # what the rule prints is not the answer
        held = rules.read_rule(rule, compare=compare or ())
        with cli.client() as client:
            tried = rules.back_test(
                client, held, since=since, filter=filter_ or "", programs=programs
            )
    if json:
        printing.write_json(
            {
                **tried.model_dump(mode="json"),
                "answered": tried.answered,
                "agreement": tried.agreement,
            }
        )
        return
    _show(tried)


def _show(tried: BackTest) -> None:
    pairs: list[tuple[str, object]] = [
        ("rule", tried.rule),
        ("since", describe.time_and_distance(tried.since)),
        ("same", tried.verdict()),
        ("different", len(tried.differences)),
        ("left alone", tried.left_alone),
    ]
    for name, count in (
        ("failed", len(tried.failures)),
        ("not by people", tried.not_by_people),
        ("unreadable", tried.unreadable),
    ):
        if count:
            pairs.append((name, count))
    if tried.compare:
        pairs.append(("compared", tried.compare))
    printing.fields(pairs)
    if tried.differences:
        printing.write("")
        shown = tried.differences[:LISTED_MAX]
        rows = [
            (
                one.wait_id,
                one.subject,
                describe.value_text(one.said),
                one.said_by,
                describe.value_text(one.rule_says),
                one.rule,
            )
            for one in shown
        ]
        has_several = any(one.rule is not None for one in shown)
        columns = (*RULE_COLUMNS, "RULE") if has_several else RULE_COLUMNS
        printing.table(columns, [row[: len(columns)] for row in rows])
        if len(shown) < len(tried.differences):
            printing.note(f"… and {len(tried.differences) - len(shown)} more; --json has all")
    for failure in tried.failures[:LISTED_MAX]:
        printing.note(f"{failure.wait_id}: {failure.error}")
