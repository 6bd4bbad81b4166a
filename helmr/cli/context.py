"""`helmr context …` names runtimes for `--at NAME` and `HELMR_AT`; `helmr rule …` compares rules with past answers."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import describe, printing
from helmr.cli.app import Cli, Filter, Json, command, group
from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr.profiles import Context
    from helmr.rules import BackTest


context_app = group("Name runtimes, for --at NAME.")

CONTEXT_COLUMNS = ("", "NAME", "URL", "KEY FILE", "ON BEHALF OF")
OTHERS = 0o077

Name = Annotated[str, typer.Argument(metavar="NAME", help="What you call it.")]


@command(context_app, "list", finds_runtime=False)
def list_(cli: Cli, json: Json = False) -> None:
    """List the named runtimes; `*` marks the one that HELMR_AT names."""
    from helmr.profiles import read_contexts

    known = [one for _, one in sorted(read_contexts(os.environ).items())]
    if json:
        printing.write_json({"items": [_parts(one) for one in known], "next_cursor": None})
    elif known:
        printing.table(CONTEXT_COLUMNS, [_row(one) for one in known])
    else:
        printing.note("no runtime has a name: helmr context add NAME --url URL --key-file FILE")


@command(
    context_app,
    "add",
    finds_runtime=False,
    examples="helmr context add prod-eu --url https://helmr.eu.example.com --key-file prod-eu.key",
)
def add(cli: Cli, name: Name, json: Json = False) -> None:
    """Name the runtime of --url, --key-file and --on-behalf-of; a name that exists is changed."""
    from helmr.profiles import Context, add_context

    if cli.url is None:
        raise UsageError("a context needs the runtime's URL", hint="--url URL --key-file FILE")
    if cli.data_dir is not None:
        raise UsageError("a context names a runtime by its URL", hint="Leave --data-dir out.")
    key_file = str(cli.key_file.resolve()) if cli.key_file is not None else None
    made = Context(name=name, url=cli.url, key_file=key_file, on_behalf_of=cli.on_behalf_of)
    was_there = add_context(os.environ, made)
    _warn(cli.key_file)
    if json:
        printing.write_json(_parts(made))
    else:
        printing.write_done(f"{name} is {made.url} {'now' if was_there else ''}".rstrip())


@command(context_app, "remove", finds_runtime=False)
def remove(cli: Cli, name: Name, json: Json = False) -> None:
    """Forget a name; the file with the key stays."""
    from helmr.profiles import find_context, remove_context

    gone = find_context(os.environ, name)
    remove_context(os.environ, name)
    if json:
        printing.write_json(_parts(gone))
    else:
        printing.write_done(f"{name} is not a context any more")


def _warn(key_file: Path | None) -> None:
    """Say that others can read a key, or that there is none yet."""
    if key_file is None:
        return
    try:
        mode = key_file.stat().st_mode
    except OSError as error:
        printing.note(f"helmr: {key_file} can't be read yet: {error.strerror}")
        return
    if mode & OTHERS:
        printing.note(f"helmr: others can read the key in {key_file}: chmod 600 {key_file}")


def _parts(one: Context) -> dict[str, str | None]:
    return {
        "name": one.name,
        "url": one.url,
        "key_file": one.key_file,
        "on_behalf_of": one.on_behalf_of,
    }


def _row(one: Context) -> tuple[object, ...]:
    mark = "*" if os.environ.get("HELMR_AT") == one.name else " "
    return (mark, one.name, one.url, one.key_file, one.on_behalf_of)


rule_app = group("Test rules that would answer waits on what people have answered.")

RULE_COLUMNS = ("WAIT", "SUBJECT", "PEOPLE SAID", "BY", "RULE SAYS")
LISTED_MAX = 50
"""Differences that are listed; `--json` has all."""


@command(
    rule_app,
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
