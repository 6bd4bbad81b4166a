"""`helmr gate rules` tries the rules that decide agents' calls without a person."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import arguments, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.config import CONFIG_BYTES_MAX, CONFIG_NAME, TABLES
from helmr.client.profiles import read_toml
from helmr.errors import UsageError
from helmr.gate import AGENT_TASK, CALL_TASK, RULED, GateAction, GatedCall, call_of
from helmr.gate.claude_code import CLIENT, decision_of
from helmr.gate.reach import OwnFolder
from helmr.hash_seed import DATA_DIR
from helmr.matching import NO_RULES, OF_GATE, DeclaredRule, DeclaredRules, rules_of

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import SessionInfo


RulesFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The file with the rules; helmr.toml if not given."
    ),
]


rules_app = group("Try the rules that decide agents' calls without a person.")

RULE_COLUMNS = ("RULE", "ACTION", "CALL")
COUNT_COLUMNS = ("RULE", "ACTION", "CALLS", "PEOPLE SAID OTHERWISE")
COUNT_KEYS = ("rule", "action", "calls", "otherwise")
NO_RULE = "(none matches)"
LAST_MAX = 2_000


def rules_path(cli: Cli, config: Path | None) -> Path:
    """The file with the rules: the one that is named, else the runtime's helmr.toml."""
    return config or (cli.data_dir or DATA_DIR).absolute().parent / CONFIG_NAME


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call that was asked about or decided by a rule, and when; `said` is what people said, if they have."""

    call: GatedCall
    at: datetime
    was_asked: bool
    said: GateAction | None = None

    def is_otherwise(self, rule: DeclaredRule) -> bool:
        """People said otherwise than this rule would have."""
        return rule.action is not GateAction.ASK and self.said not in (None, rule.action)


@command(
    rules_app,
    "test",
    examples="""helmr gate rules test Bash '{"command": "git push origin main"}'
helmr gate rules test --last 500""",
)
def try_rules(
    cli: Cli,
    tool: Annotated[
        str | None,
        typer.Argument(metavar="TOOL", help="The tool of one call; else calls of the past."),
    ] = None,
    given: Annotated[
        str, typer.Argument(metavar="JSON|@FILE|-", help="What it is called with.")
    ] = "{}",
    folder: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the agent works; this folder if not given."),
    ] = None,
    client: Annotated[str, typer.Option(metavar="NAME", help="The agent's program.")] = CLIENT,
    last: Annotated[
        int,
        typer.Option(min=1, max=LAST_MAX, metavar="N", help="So many calls of the past, at most."),
    ] = 200,
    config: RulesFile = None,
    json: Json = False,
) -> None:
    """Say which rule would decide a call, or the last calls, and how many questions a day are left.

    Of one call it says which rules match. Of the last calls it counts how the rules would have decided them, and of how
    many people said otherwise.
    """
    path = rules_path(cli, config)
    try:
        found = read_toml(path, bytes_max=CONFIG_BYTES_MAX)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}", hint="`helmr gate init` writes one.") from error
    has_none = "gate" not in found and found.keys() <= TABLES
    rules = NO_RULES if has_none else rules_of(found, str(path), keys=OF_GATE)
    if tool is None:
        with cli.client() as runtime:
            calls = past_calls(runtime, last)
        _show_counts(rules, calls, json=json)
        return
    data = arguments.json_argument(given, option="JSON")
    if not isinstance(data, dict):
        raise UsageError("a tool is called with a JSON object")
    place = folder if folder is not None else str(Path.cwd())
    rules = replace(rules, own=OwnFolder(str(cli.data_dir or path.parent / DATA_DIR)))
    _show_call(rules, GatedCall(client, "", tool, data, folder=place), json=json)


def _show_call(rules: DeclaredRules, call: GatedCall, *, json: bool) -> None:
    first = rules.first(call)
    action = first.action if first is not None else GateAction.ASK
    rows = [
        (
            one.name,
            one.action.value,
            "decides" if one is first else "matches" if one.matches_call(call) else "",
        )
        for one in rules.rules
    ]
    if json:
        matching = [name for name, _, what in rows if what]
        found = {
            "action": action.value,
            "rule": first.name if first else None,
            "matching": matching,
        }
        printing.write_json(found)
        return
    if first not in rules.rules:
        name = first.name if first is not None else NO_RULE
        rows.append((name, action.value, "decides"))
    printing.table(RULE_COLUMNS, rows)


def counted(rules: DeclaredRules, calls: Sequence[PastCall]) -> list[tuple[str, str, int, int]]:
    """For each rule, and for none: how many of these calls it decides, and of how many people said otherwise."""
    decided = [(one, rules.first(one.call)) for one in calls]
    found = [rule.name if rule is not None else NO_RULE for _, rule in decided]
    otherwise = [rule.name for one, rule in decided if rule is not None and one.is_otherwise(rule)]
    names = [*((one.name, one.action.value) for one in rules.rules), (NO_RULE, "ask")]
    return [(name, action, found.count(name), otherwise.count(name)) for name, action in names]


def _show_counts(rules: DeclaredRules, calls: Sequence[PastCall], *, json: bool) -> None:
    rows = counted(rules, calls)
    asked = sum(count for _, action, count, _ in rows if action == GateAction.ASK)
    times = [one.at for one in calls]
    days = max((max(times) - min(times)).total_seconds() / 86_400, 1.0) if times else 1.0
    were_asked = sum(one.was_asked for one in calls)
    if json:
        printing.write_json(
            {
                "calls": len(calls),
                "rules": [dict(zip(COUNT_KEYS, row, strict=True)) for row in rows],
                "asked_a_day": round(were_asked / days, 1),
                "would_ask_a_day": round(asked / days, 1),
            }
        )
        return
    printing.table(COUNT_COLUMNS, rows)
    printing.write(
        f"{len(calls)} calls. Questions a day: {were_asked / days:.1f} as it was, "
        f"{asked / days:.1f} with these rules."
    )


def _said(runtime: Client, session: SessionInfo, call: GatedCall) -> GateAction | None:
    """Return people's decision on a call; None unless its session succeeded."""
    if session.run_status != "succeeded":
        return None
    run = next(iter(runtime.runs.list(session_id=session.id, limit=1)))
    return GateAction.ALLOW if decision_of(call, run.result).is_allowed else GateAction.DENY


def past_calls(runtime: Client, last: int) -> list[PastCall]:
    """The newest calls that people were asked about, and those that rules have decided, newest first."""
    from helmr.rules import asked_call

    found: list[PastCall] = []
    for session in itertools.islice(runtime.sessions.list(task=CALL_TASK), last):
        call = asked_call(runtime, session.id)
        if call is not None:
            said = _said(runtime, session, call)
            found.append(PastCall(call, session.created_at, was_asked=True, said=said))
    for agent in itertools.islice(runtime.sessions.list(task=AGENT_TASK), last):
        named = {name: agent.metadata.get(name, "") for name in ("client", "agent")}
        records = runtime.sessions.open(agent.id).input(RULED).list()
        found += [
            PastCall(call_of({**one.data, **named}), one.created_at, was_asked=False)
            for one in records
            if isinstance(one.data, dict) and "tool" in one.data and "session_id" not in one.data
        ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:last]
