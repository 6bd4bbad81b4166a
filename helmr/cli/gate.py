"""`helmr gate …`: puts the gate's hooks into a client's settings, takes them out, and tries rules.

The hook itself is `helmr.cli.hook`.
"""

from __future__ import annotations

import difflib
import itertools
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import arguments, describe, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.config import CONFIG_BYTES_MAX, CONFIG_NAME, TABLES
from helmr.cli.gate_grants import grant_app, outcome_app
from helmr.cli.gate_mcp import register_proxy
from helmr.cli.gate_status import (
    PROBE,
    PROBE_TIMEOUT_S,
    GateClient,
    read_settings,
    register_status,
    settings_path,
)
from helmr.errors import NotAllowed, UsageError
from helmr.gate import (
    AGENT_TASK,
    CALL_TASK,
    RULED,
    RUN_TASK,
    GateAction,
    GatedCall,
    call_of,
)
from helmr.gate.claude_code import (
    CLIENT,
    KEY_VARIABLE,
    TIMEOUT_S,
    HookMode,
    Mode,
    decision_of,
    hooks_block,
    settings_text,
    with_hooks,
    without_hooks,
)
from helmr.gate.reach import OwnFolder
from helmr.hash_seed import DATA_DIR
from helmr.matching import (
    NO_RULES,
    OF_GATE,
    STARTER_RULES,
    DeclaredRule,
    DeclaredRules,
    rules_of,
    rules_toml,
)
from helmr.profiles import config_folder, parse_toml, read_toml, write_private
from helmr.safe_text import plain

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import SessionInfo

gate_app = group("Answer the permission prompts of agents where all other waits are answered.")
rules_app = group("Try the rules that decide agents' calls without a person.")
gate_app.add_typer(rules_app, name="rules")
gate_app.add_typer(grant_app, name="grant")
gate_app.add_typer(outcome_app, name="outcome")
register_proxy(gate_app)
register_status(gate_app)


ClientName = Annotated[
    GateClient, typer.Argument(metavar="CLIENT", help="The agent's program: claude-code or codex.")
]
Project = Annotated[
    bool,
    typer.Option("--project", help="In the settings of this folder; else in those of the user."),
]
HookKey = Annotated[
    Path | None,
    typer.Option(
        "--hook-key",
        metavar="FILE",
        help="File with the key by which hooks ask, of the role asker; made if not given.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Write without asking.")]
RulesFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The file with the rules; helmr.toml if not given."
    ),
]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file as it is and as it is to be."""

    path: Path
    old: str
    new: str
    is_secret: bool = False
    secret: str = ""

    def diff(self) -> str:
        """What changes, as a unified diff; a secret is not shown."""
        lines = difflib.unified_diff(
            self.old.splitlines(),
            self.new.splitlines(),
            str(self.path) if self.old else "/dev/null",
            str(self.path),
            lineterm="",
        )
        text = "\n".join(lines)
        return text.replace(self.secret, "…") if self.secret else text

    def write(self) -> None:
        """Replace the file in one step; its mode stays, and where it is a link it stays one."""
        path = self.path.resolve()
        if self.is_secret:
            write_private(path, self.new)
            return
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self.new)
        Path(name).chmod(mode)
        Path(name).replace(path)


def _apply(changes: Sequence[FileChange], *, yes: bool, json: bool) -> bool:
    """Show what would be written and write it, if that is wanted; False if there is nothing to write, or it is not.

    Raises:
        UsageError: There is no one to ask.
    """
    changed = [one for one in changes if one.new != one.old]
    if not json:
        for one in changed:
            printing.write(plain(one.diff(), None))
    if not changed:
        return False
    if not yes:
        if json or not (sys.stdin.isatty() and printing.is_terminal(sys.stdout)):
            raise UsageError("no one can be asked whether to write this", hint="Say --yes.")
        if not typer.confirm("Write this?"):
            return False
    for one in changed:
        one.write()
    return True


# --- init -------------------------------------------------------------------------------------------


@command(gate_app, "init", finds_runtime=False, examples="helmr gate init")
def init(cli: Cli, config: RulesFile = None, yes: Yes = False, json: Json = False) -> None:
    """Write starter rules into helmr.toml, which turns the gate of the runtime on at its next start."""
    path = _rules_path(cli, config)
    old, table = _read_config(path)
    if "gate" in table:
        printing.note(f"{path} has rules of the gate already; they stay as they are")
        changes = []
    else:
        begin = f"{old.rstrip()}\n\n" if old.strip() else ""
        changes = [FileChange(path, old, f"{begin}{HEADING}{rules_toml(STARTER_RULES)}")]
    is_written = _apply(changes, yes=yes, json=json)
    if json:
        printing.write_json({"file": str(path), "written": is_written})
    elif is_written:
        printing.write_done(f"{path} is written. Start the runtime, or start it again: helmr up")


HEADING = """\
# What agents may do without asking a person: the first rule that matches decides, and a call that none matches is
# asked about. `helmr gate rules test` tries them.

"""


def _rules_path(cli: Cli, config: Path | None) -> Path:
    return config or (cli.data_dir or DATA_DIR).absolute().parent / CONFIG_NAME


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return "", {}
    return raw.decode("utf-8", "replace"), parse_toml(raw, str(path))


# --- install, uninstall -----------------------------------------------------------------------


@command(
    gate_app,
    "install",
    examples="helmr gate install claude-code\nhelmr gate install claude-code --headless --project",
)
def install(
    cli: Cli,
    client: ClientName,
    project: Project = False,
    headless: Annotated[
        bool,
        typer.Option(
            "--headless",
            help="For `claude -p` and `codex exec`: a hook that denies where no one can be asked.",
        ),
    ] = False,
    hook_key: HookKey = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Have a client ask the gate: show the change of its settings, and write it. What is there stays."""
    is_codex = client is GateClient.CODEX
    mode = Mode.HEADLESS if headless else Mode.INTERACTIVE
    is_over_http = mode is Mode.INTERACTIVE and not is_codex
    path = settings_path(os.environ, project=project, client=client)
    old, settings = read_settings(path)
    with cli.client() as runtime:
        _check_task(runtime, CALL_TASK, "`helmr gate init` turns it on.")
        url = runtime.endpoint.url
        kept = hook_key or key_path(os.environ)
        key = _working_key(url, kept) or _make_key(runtime, kept, is_given=hook_key is not None)
    key_file = str(kept.resolve())
    block = hooks_block(mode, url, key_file, program=_program(), client=client.value)
    wanted = with_hooks(settings, block)
    if is_over_http:
        wanted["env"] = {**(wanted.get("env") or {}), KEY_VARIABLE: key}
    change = FileChange(path, old, settings_text(wanted), is_over_http, key)
    is_written = _apply([change], yes=yes, json=json)
    if is_written and mode is Mode.INTERACTIVE:
        _fetch_copy(url, key_file, key)
    if json:
        printing.write_json({"file": str(path), "mode": mode.value, "written": is_written})
    elif is_written:
        printing.write_done(f"{client.value} asks {url} from its next start ({path}).")
        if is_codex:
            printing.note(
                "Codex asks once whether to trust the hooks: until then it does not run them."
            )
    elif change.new == change.old:
        printing.write_done(f"{client.value} asks {url} already ({path}).")


def _fetch_copy(url: str, key_file: str, key: str) -> None:
    """Have the rules here from the start; without them all is asked about until the runtime has answered once."""
    from helmr.cli import hook, rules_hook

    try:
        rules_hook.renew_copy(url, key_file, key, PROBE, PROBE_TIMEOUT_S)
    except hook.Unasked as error:
        printing.note(f"the rules were not fetched: {error}")


@command(gate_app, "uninstall", finds_runtime=False, examples="helmr gate uninstall claude-code")
def uninstall(
    cli: Cli, client: ClientName, project: Project = False, yes: Yes = False, json: Json = False
) -> None:
    """Take the gate's hooks out of a client's settings; everything else stays."""
    path = settings_path(os.environ, project=project, client=client)
    old, settings = read_settings(path)
    left = without_hooks(settings)
    environ = dict(left.get("env") or {})
    key = environ.pop(KEY_VARIABLE, None)
    if key is not None:
        left = {name: value for name, value in left.items() if name != "env"}
        left |= {"env": environ} if environ else {}
    new = settings_text(left) if left != settings else old
    is_written = _apply(
        [FileChange(path, old, new, secret=key if isinstance(key, str) else "")],
        yes=yes,
        json=json,
    )
    if json:
        printing.write_json({"file": str(path), "written": is_written})
    elif is_written:
        printing.write_done(f"{client.value} asks the gate no more ({path}).")
        printing.note("The key still works: `helmr key list` shows it, `helmr key revoke` ends it.")
    elif new == old:
        printing.write_done(f"{path} has no hooks of the gate.")


def _check_task(runtime: Client, task_id: str, turns_on: str) -> None:
    if not any(task.id == task_id for task in runtime.tasks.list()):
        raise UsageError(
            f"the runtime at {runtime.endpoint.url} does not have the task {task_id}",
            hint=f"{turns_on} It counts from the runtime's next start.",
        )


def _working_key(url: str, path: Path) -> str | None:
    from helmr.cli import hook

    try:
        key = path.read_text(encoding="ascii").strip()
        hook.post(url, key, PROBE, PROBE_TIMEOUT_S)
    except (OSError, UnicodeDecodeError, hook.Unasked):
        return None
    return key


def _make_key(runtime: Client, path: Path, *, is_given: bool) -> str:
    if is_given:
        raise UsageError(f"the runtime does not take the key in {path}")
    try:
        made = runtime.keys.create("asker", name=f"{CLIENT}@{socket.gethostname()}"[:100])
    except NotAllowed as error:
        raise NotAllowed(
            "your key may not make the key of a hook",
            hint="Ask an admin for `helmr key create --role asker`, and name its file with --hook-key.",
        ) from error
    write_private(path, made.secret + "\n")
    return made.secret


def key_path(environ: Mapping[str, str]) -> Path:
    """Where the key of this user's hooks is kept."""
    return config_folder(environ) / f"gate-{CLIENT}.key"


def _program() -> str:
    """How another program runs `helmr`, wherever it is started."""
    own = Path(sys.argv[0])
    if own.name == "helmr" and own.is_file():
        return shlex.quote(str(own.absolute()))
    found = shutil.which("helmr")
    return shlex.quote(found) if found else f"{shlex.quote(sys.executable)} -m helmr.cli"


# --- the hook -----------------------------------------------------------------------------------------


@command(gate_app, "hook", finds_runtime=False)
def hook_(
    cli: Cli,
    client: ClientName,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Of the hook, in the settings.")
    ] = TIMEOUT_S,
    mode: Annotated[
        HookMode,
        typer.Option(
            "--mode",
            help="Interactive where the client's own prompt may decide; rules asks no person.",
        ),
    ] = HookMode.HEADLESS,
) -> None:
    """What a client runs as its hook: an event on stdin, the decision on stdout; exit code 2 denies."""
    from helmr.cli import hook, rules_hook

    key_file = str(cli.key_file) if cli.key_file is not None else None
    if mode is HookMode.RULES:
        rules_hook.run(cli.url, key_file, timeout, client.value)
    hook.run(cli.url, key_file, timeout, client.value, mode.value)


@command(
    gate_app,
    "run",
    examples='helmr gate run -- claude -p "Mend the failing test"\n'
    'helmr gate run --wait 1h -- claude -p "Publish the release" --model opus',
)
def run(
    cli: Cli,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="`claude -p PROMPT …`, behind `--`.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it works; this folder if not given.")
    ] = None,
    hook_key: HookKey = None,
    wait: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Return when it has ended, or after this time."),
    ] = None,
    json: Json = False,
) -> None:
    """Run Claude Code as a session: it parks while a call waits for a person, and outlives crashes."""
    from helmr.gate.runs import read_command

    prompt, options = read_command(words or [])
    kept = hook_key or key_path(os.environ)
    with cli.client() as runtime:
        _check_task(
            runtime, RUN_TASK, "`runs = true` in the table [gate] of helmr.toml turns it on."
        )
        url = runtime.endpoint.url
        if _working_key(url, kept) is None:
            _make_key(runtime, kept, is_given=hook_key is not None)
        payload = {
            "prompt": prompt,
            "folder": str((folder or Path.cwd()).resolve()),
            "url": url,
            "key_file": str(kept.resolve()),
            "options": options,
        }
        started = runtime.sessions.start(RUN_TASK, payload)
        ended = started.started_run
        if wait is not None:
            ended = runtime.runs.wait(ended.id, timeout=wait)
    describe.show(ended, json)


# --- rules --------------------------------------------------------------------------------------------

RULE_COLUMNS = ("RULE", "ACTION", "CALL")
COUNT_COLUMNS = ("RULE", "ACTION", "CALLS", "PEOPLE SAID OTHERWISE")
COUNT_KEYS = ("rule", "action", "calls", "otherwise")
NO_RULE = "(none matches)"
LAST_MAX = 2_000


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
    """Say which rule would decide a call, or the last calls, and how many questions a day are left."""
    path = _rules_path(cli, config)
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
    """What people have said to a call."""
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
